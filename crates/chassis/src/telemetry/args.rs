//! Where traces go, by OpenTelemetry's own variables. Without an endpoint there are none: no span is
//! recorded and no connection opened.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;

use crate::secret::Secret;

/// Path that is appended to the base endpoint (OTLP/HTTP specification).
const TRACES_PATH: &str = "v1/traces";
/// Headers and resource attributes at most, each; more is a mistake.
const PAIRS_MAX: usize = 32;

/// Who decides whether a trace that begins here is exported. One that began elsewhere follows the
/// decision that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceSampler {
    /// All of them.
    #[value(name = "parentbased_always_on")]
    AlwaysOn,
    /// None of them.
    #[value(name = "parentbased_always_off")]
    AlwaysOff,
    /// The share that `OTEL_TRACES_SAMPLER_ARG` says.
    #[value(name = "parentbased_traceidratio")]
    Ratio,
}

/// Options of the trace export.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// Collector that takes OTLP over HTTP (protobuf); unset, nothing is traced
    ///
    /// Traces go to {endpoint}/v1/traces. Example: <http://otel-collector:4318>
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otel_exporter_otlp_endpoint: Option<Url>,

    /// Headers for the collector, `name=value` with commas between; values percent-encoded
    ///
    /// Example: api-key=1f0c
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", value_name = "HEADERS",
          hide_env_values = true, value_parser = headers_text)]
    pub otel_exporter_otlp_headers: Option<Secret>,

    /// Milliseconds that the collector has for one batch, 1 to 60000
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", value_name = "MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub otel_exporter_otlp_timeout: u64,

    /// Name of the service in traces; by default the program's
    ///
    /// Example: index-worker-eu
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otel_service_name: Option<String>,

    /// Attributes of the service in traces, `name=value` with commas between
    ///
    /// Example: deployment.environment=prod,aws.ecs.cluster.name=blue
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES", value_name = "ATTRIBUTES",
          value_parser = pairs_text)]
    pub otel_resource_attributes: Option<String>,

    /// Which traces that begin here are exported; one that began elsewhere follows its beginning
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        value_enum,
        default_value = "parentbased_traceidratio"
    )]
    pub otel_traces_sampler: TraceSampler,

    /// Share of them for `parentbased_traceidratio`, 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value = "0.1",
          value_parser = ratio)]
    pub otel_traces_sampler_arg: f64,
}

impl TraceArgs {
    /// Where batches are posted; `None` without tracing.
    pub(super) fn url(&self) -> Option<Url> {
        let mut url = self.otel_exporter_otlp_endpoint.clone()?;
        let path = format!("{}/{TRACES_PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.otel_exporter_otlp_timeout)
    }

    pub(super) fn headers(&self) -> http::HeaderMap {
        let text = self.otel_exporter_otlp_headers.as_ref().map_or("", Secret::reveal);
        // Checked when it was read.
        headers(text).unwrap_or_default()
    }

    pub(super) fn resource_attributes(&self) -> Vec<(String, String)> {
        pairs(self.otel_resource_attributes.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() {
        return Ok(url);
    }
    Err("an http:// or https:// URL without a query is expected".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "a number from 0 to 1 is expected".to_owned())?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("from 0 to 1".to_owned()) }
}

fn headers_text(text: &str) -> Result<Secret, String> {
    headers(text).map(|_| Secret::from(text.to_owned()))
}

fn pairs_text(text: &str) -> Result<String, String> {
    pairs(text).map(|_| text.to_owned())
}

fn headers(text: &str) -> Result<http::HeaderMap, String> {
    let named = |(name, value): (String, String)| {
        let wrong = |what: &str| format!("{name:?} has a {what} that no header can have");
        let value = HeaderValue::from_str(&value).map_err(|_| wrong("value"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name"))?;
        Ok((name, value))
    };
    pairs(text)?.into_iter().map(named).collect()
}

/// `a=1,b=2`, values percent-decoded (W3C Baggage's form, as OpenTelemetry's specification says).
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs: Result<Vec<_>, String> = parts
        .map(|part| {
            let pair = part.split_once('=').filter(|(name, _)| !name.trim().is_empty());
            let (name, value) = pair.ok_or("name=value with commas between is expected")?;
            Ok((name.trim().to_owned(), decoded(value.trim())?))
        })
        .collect();
    let pairs = pairs?;
    if pairs.len() > PAIRS_MAX { Err(format!("{PAIRS_MAX} at most")) } else { Ok(pairs) }
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let digits = std::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 2);
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.ok_or("% is followed by two hex digits")?);
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{PAIRS_MAX, endpoint, headers, pairs, ratio};

    #[test]
    fn headers_are_read_as_the_specification_says() {
        let map = headers("api-key=a%2Cb, x = 1 ,").unwrap();
        assert_eq!((&map["api-key"], &map["x"]), (&"a,b".parse().unwrap(), &"1".parse().unwrap()));
        for wrong in ["api-key", "=1", "a=%2", "a=%zz", "a=%ff", "a b=1", "a=%0a"] {
            assert!(headers(wrong).is_err(), "{wrong}");
        }
        let many = |count| vec!["n=1"; count].join(",");
        assert_eq!(pairs(&many(PAIRS_MAX)).unwrap().len(), PAIRS_MAX);
        assert!(pairs(&many(PAIRS_MAX + 1)).is_err());
    }

    #[test]
    fn endpoints_and_ratios_are_checked() {
        assert!(endpoint("http://collector:4318").is_ok());
        for wrong in ["collector:4318", "ftp://x", "http://", "http://x/?a=1"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert!(ratio("0").is_ok() && ratio("1").is_ok() && ratio("0.05").is_ok());
        assert!(ratio("1.01").is_err() && ratio("-0.1").is_err() && ratio("NaN").is_err());
    }
}
