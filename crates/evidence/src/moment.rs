//! Times as documents and records write them: UTC, RFC 3339, six digits and a `Z`, so that the order of
//! the texts is the order of the times. It never reads a clock.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer};

/// Bytes of such a text.
pub(crate) const TEXT_BYTES: usize = 27;

/// The one text of a time.
pub fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The time that such a text says; `None` for any other text.
pub fn parse(written: &str) -> Option<DateTime<Utc>> {
    if written.len() != TEXT_BYTES || !written.ends_with('Z') {
        return None;
    }
    let at = DateTime::parse_from_rfc3339(written).ok()?.to_utc();
    // A space or a small `t` would read as the same time; a leap second is none that a server wrote.
    (text(at) == written && at.timestamp_subsec_micros() < 1_000_000).then_some(at)
}

pub(crate) fn serialize<S: Serializer>(at: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(*at))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    let written = String::deserialize(from)?;
    parse(&written).ok_or_else(|| {
        serde::de::Error::custom(format!("{written:?} is no time as 2026-01-31T23:59:59.000000Z"))
    })
}

/// The same for a time that may be left out.
pub(crate) mod maybe {
    use super::{DateTime, Deserialize, Deserializer, Serializer, Utc};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(
        at: &Option<DateTime<Utc>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        #[derive(Deserialize)]
        struct Written(#[serde(with = "super")] DateTime<Utc>);
        Ok(Option::<Written>::deserialize(from)?.map(|written| written.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_text() {
        let written = "2026-01-31T23:59:59.000001Z";
        assert_eq!(text(parse(written).unwrap()), written);
        for bad in [
            "2026-01-31T23:59:59.00001Z",
            "2026-01-31T23:59:59.000001z",
            "2026-01-31t23:59:59.000001Z",
            "2026-01-31T23:59:60.000001Z",
            "2026-02-31T23:59:59.000001Z",
            "2026-01-31T23:59:59+00:0000Z",
            "",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
