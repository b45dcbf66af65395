//! What is known of a request before any route looks at it: its ids, where it comes from, and its
//! body within size and time. The client's own ids are taken only when they are plain and short.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use bytes::Bytes;
use contracts::errors::{BODY_TOO_LARGE, INTERNAL, INVALID_JSON, SLOW_CLIENT};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use queue_core::trace;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::problem::Problem;

/// Characters of a client's own request or correlation id at most.
pub const CLIENT_ID_CHARS_MAX: usize = 128;
/// Characters of a `User-Agent` that are kept.
pub const USER_AGENT_CHARS_KEPT: usize = 256;

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// When its headers were there.
    pub arrived: Instant,
    /// Ours, in every answer and log line.
    pub request_id: String,
    /// The client's `X-Correlation-Id` or `X-Request-Id`, else the request id.
    pub correlation_id: String,
    /// W3C trace context, when it is well formed.
    pub traceparent: Option<String>,
    /// Address of the client.
    pub ip: Option<IpAddr>,
    /// Its `User-Agent`, cut to [`USER_AGENT_CHARS_KEPT`].
    pub user_agent: Option<String>,
}

impl RequestInfo {
    /// Reads the headers; `peer` is the other end of the connection and `trusted` the number of
    /// proxies in front whose word is believed.
    pub fn read(headers: &HeaderMap, peer: Option<IpAddr>, trusted: u8) -> Self {
        let request_id = uuid::Uuid::now_v7().to_string();
        let correlation_id = ["x-correlation-id", "x-request-id"]
            .iter()
            .find_map(|name| client_id(headers, name))
            .unwrap_or_else(|| request_id.clone());
        Self {
            arrived: Instant::now(),
            request_id,
            correlation_id,
            traceparent: headers
                .get(trace::TRACEPARENT)
                .and_then(|value| value.to_str().ok())
                .filter(|text| trace::is_valid(text))
                .map(ToOwned::to_owned),
            ip: client_ip(headers, peer, trusted),
            user_agent: headers.get(header::USER_AGENT).map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_KEPT).collect()
            }),
        }
    }
}

fn client_id(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/=+".contains(c);
    let valid = (1..=CLIENT_ID_CHARS_MAX).contains(&text.len()) && text.chars().all(plain);
    valid.then(|| text.to_owned())
}

/// Each proxy appends whom it saw; the client is what the farthest believed one saw.
fn client_ip(headers: &HeaderMap, peer: Option<IpAddr>, trusted: u8) -> Option<IpAddr> {
    if trusted == 0 {
        return peer;
    }
    let forwarded: Vec<IpAddr> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    let at = forwarded.len().checked_sub(usize::from(trusted));
    at.and_then(|at| forwarded.get(at).copied()).or(peer)
}

impl<S: Send + Sync> FromRequestParts<S> for RequestInfo {
    type Rejection = Problem;

    /// What [`crate::front::front`] left with the request.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let info = parts.extensions.get::<Self>().cloned();
        info.ok_or_else(|| Problem::new(INTERNAL, "the request passed no front layer"))
    }
}

/// A request's body, counted against the bytes of all bodies in memory while it lives.
#[derive(Debug)]
pub struct ReadBody<'a> {
    pub(crate) bytes: Bytes,
    pub(crate) waited: Duration,
    pub(crate) _permit: SemaphorePermit<'a>,
}

impl ReadBody<'_> {
    /// How long the client took to send it: no time of ours.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl std::ops::Deref for ReadBody<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most `limit` bytes that arrives within `timeout`.
pub(crate) async fn read_body(
    body: Body,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(timeout, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(Problem::new(INVALID_JSON, format!("the body broke off: {error}"))),
        Err(_) => Err(Problem::new(
            SLOW_CLIENT,
            format!("the body did not arrive within {} ms", timeout.as_millis()),
        )
        .with_header(header::CONNECTION, http::HeaderValue::from_static("close"))),
    }
}

/// The body is over `limit` bytes.
pub fn too_large(limit: usize) -> Problem {
    Problem::new(BODY_TOO_LARGE, format!("the body is over {limit} bytes"))
        .with_header(header::CONNECTION, http::HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn clients_ids_are_taken_when_plain() {
        let of = |pairs: &[(&'static str, &str)]| RequestInfo::read(&headers(pairs), None, 0);
        assert_eq!(of(&[("x-request-id", "abc-1")]).correlation_id, "abc-1");
        let longest = "a".repeat(CLIENT_ID_CHARS_MAX);
        assert_eq!(of(&[("x-correlation-id", &longest)]).correlation_id, longest);
        for bad in ["", "a b", "<x>", "a\"b", &"a".repeat(CLIENT_ID_CHARS_MAX + 1)] {
            let info = of(&[("x-correlation-id", bad)]);
            assert_eq!(info.correlation_id, info.request_id, "{bad}");
        }
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of(&[("traceparent", good)]).traceparent.as_deref(), Some(good));
        for bad in ["00-x-y-01", "01", &good.to_uppercase(), &format!("{good}-1")] {
            assert_eq!(of(&[("traceparent", bad)]).traceparent, None, "{bad}");
        }
    }

    #[test]
    fn forwarded_addresses_are_believed_as_far_as_configured() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let chain = headers(&[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.9")]);
        let of = |trusted| client_ip(&chain, Some(peer), trusted).unwrap().to_string();
        assert_eq!(of(0), "10.0.0.1");
        assert_eq!(of(1), "10.0.0.9");
        assert_eq!(of(2), "1.2.3.4");
        assert_eq!(of(8), "10.0.0.1", "a chain shorter than configured proves nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_have_a_size_and_a_time() {
        let second = Duration::from_secs(1);
        assert_eq!(read_body(Body::from("1234"), 4, second).await.unwrap(), "1234");
        let large = read_body(Body::from("12345"), 4, second).await.unwrap_err();
        assert_eq!(large.code.status, 413);
        let slow =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read_body(slow, 4, second).await.unwrap_err().code.status, 408);
    }
}
