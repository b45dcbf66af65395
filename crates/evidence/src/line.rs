//! One line of an archive: the bytes of an event's record, or of a revision, as they were made at the
//! API. Only its first members are read, and they must stand where the record's maker puts them, so
//! that a line is placed without parsing it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::moment;

/// Bytes of a line at most, without its line feed. A record is bounded by SQS's 1 MiB per message.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

const UUID_BYTES: usize = 36;

/// What places a line: its tenant, time and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The whole line, without its line feed.
    pub bytes: &'a [u8],
    /// Whose it is.
    pub tenant: &'a str,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// Where it stands among others.
    pub key: LineKey,
}

/// The order of lines in an object: by the log's id, the event before its revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// The log.
    pub id: Uuid,
    /// 0 for the event, else the number of the revision.
    pub revision: u64,
}

/// A line that no archive can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("a line of {0} bytes; {LINE_BYTES_MAX} at most")]
    TooLong(usize),
    /// A line feed inside would make two lines of it.
    #[error("a line feed inside a line: records are minified")]
    LineFeed,
    /// It does not begin and end as a record does.
    #[error(
        "no record: a line is {{\"id\":\"<uuid>\",\"tenant\":\"…\",\"recorded_at\":\"2026-01-31T23:59:59.000000Z\",…}}, and begins {0:?}"
    )]
    NotARecord(String),
}

impl<'a> Line<'a> {
    /// Reads the beginning of a line.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadLine> {
        if bytes.len() > LINE_BYTES_MAX {
            return Err(BadLine::TooLong(bytes.len()));
        }
        if bytes.contains(&b'\n') {
            return Err(BadLine::LineFeed);
        }
        Self::read(bytes).ok_or_else(|| {
            let beginning = &bytes[..bytes.len().min(120)];
            BadLine::NotARecord(String::from_utf8_lossy(beginning).into_owned())
        })
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"{\"id\":\"")?;
        let (id, rest) = rest.split_at_checked(UUID_BYTES)?;
        let rest = rest.strip_prefix(b"\",\"tenant\":\"")?;
        let (tenant, rest) = rest.split_at(rest.iter().take(64).position(|byte| *byte == b'"')?);
        let rest = rest.strip_prefix(b"\",\"recorded_at\":\"")?;
        let (at, rest) = rest.split_at_checked(moment::TEXT_BYTES)?;
        let rest = rest.strip_prefix(b"\"")?;
        let revision = match rest.strip_prefix(b",\"kind\":\"revision\",\"revision\":") {
            Some(rest) => {
                let digits = rest.iter().take(18).take_while(|byte| byte.is_ascii_digit()).count();
                std::str::from_utf8(&rest[..digits])
                    .ok()?
                    .parse()
                    .ok()
                    .filter(|number| *number > 0)?
            }
            None => 0,
        };
        rest.ends_with(b"}").then_some(())?;
        let text = std::str::from_utf8(id).ok()?;
        let id = Uuid::try_parse(text).ok()?;
        // One text per id, so that ids can be compared as bytes by other tools.
        (id.hyphenated().encode_lower(&mut [0; UUID_BYTES]) == text).then_some(())?;
        Some(Self {
            bytes,
            tenant: std::str::from_utf8(tenant).ok()?,
            recorded_at: moment::parse(std::str::from_utf8(at).ok()?)?,
            key: LineKey { id, revision },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"id":"01940000-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2025-01-01T00:00:00.000001Z","class":"30d","event":{}}"#;

    #[test]
    fn the_beginning_places_a_line() {
        let line = Line::parse(EVENT.as_bytes()).unwrap();
        assert_eq!((line.tenant, line.key.revision), ("acme", 0));
        assert_eq!(moment::text(line.recorded_at), "2025-01-01T00:00:00.000001Z");
        let revised = EVENT.replace("\"class\":\"30d\"", "\"kind\":\"revision\",\"revision\":12");
        let second = Line::parse(revised.as_bytes()).unwrap().key;
        assert!(second > line.key && second.revision == 12);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let cases = [
            String::new(),
            "{}".into(),
            EVENT[..EVENT.len() - 2].into(),
            EVENT.replace("\"id\"", " \"id\""),
            EVENT.replace("01940000", "0194000G"),
            EVENT.replace("0000-7000-8000", "0000-7000-800A"),
            EVENT.replace("000001Z", "000001z"),
            EVENT.replace("acme", &"a".repeat(64)),
            EVENT.replace("\"class\":\"30d\"", "\"kind\":\"revision\",\"revision\":0"),
            EVENT.replace("\"class\":\"30d\"", "\"kind\":\"revision\",\"revision\":x"),
        ];
        for bad in cases {
            assert!(matches!(Line::parse(bad.as_bytes()), Err(BadLine::NotARecord(_))), "{bad}");
        }
        let feed = EVENT.replace("{}", "{\n}");
        assert_eq!(Line::parse(feed.as_bytes()), Err(BadLine::LineFeed));
        let long = EVENT.replace("{}", &" ".repeat(LINE_BYTES_MAX));
        assert!(matches!(Line::parse(long.as_bytes()), Err(BadLine::TooLong(_))));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        proptest::proptest!(|(bytes: Vec<u8>, cut in 0..EVENT.len())| {
            let _ = Line::parse(&bytes);
            let _ = Line::parse(&[&EVENT.as_bytes()[..cut], &bytes].concat());
        });
    }
}
