//! Names in Redis, places in a stream, and the one decision of a listener: is what just arrived
//! the next item, a repeat, or is something missing. Pure.

use std::fmt;
use std::str::FromStr;

use contracts::Tenant;

/// What is published and listened to: one channel and one capped stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Topic(String);

impl Topic {
    /// A tenant's logs.
    pub(super) fn live(tenant: &Tenant) -> Self {
        Self(format!("flotilla:live:{tenant}"))
    }

    /// Ids of revoked API keys.
    pub(super) fn revocations() -> Self {
        Self("flotilla:revoked-keys".to_owned())
    }

    /// The topic of a channel's name.
    pub(super) fn of_channel(channel: &str) -> Self {
        Self(channel.to_owned())
    }

    /// The channel.
    pub(super) fn channel(&self) -> &str {
        &self.0
    }

    /// The stream. One key per call everywhere, so that a cluster can serve it.
    pub(super) fn stream(&self) -> String {
        format!("{}:stream", self.0)
    }
}

/// The id of a stream's entry, `ms-seq`; Redis gives rising ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    millis: u64,
    sequence: u64,
}

impl FromStr for EntryId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, sequence) = text.split_once('-').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self { millis: number(millis)?, sequence: number(sequence)? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// A message on a channel: where it stands in the stream, what stood before it, and the payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published<'a> {
    pub(super) before: Option<EntryId>,
    pub(super) id: EntryId,
    pub(super) payload: &'a [u8],
}

impl<'a> Published<'a> {
    /// Reads `{before|-} {id}\n{payload}`.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let line_feed = message.iter().position(|byte| *byte == b'\n')?;
        let head = std::str::from_utf8(&message[..line_feed]).ok()?;
        let (before, id) = head.split_once(' ')?;
        let before = match before {
            "-" => None,
            before => Some(before.parse().ok()?),
        };
        Some(Self { before, id: id.parse().ok()?, payload: &message[line_feed + 1..] })
    }
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It follows what was seen.
    Next,
    /// It was seen.
    Repeat,
    /// Something between is missing.
    Hole,
}

/// Judges a message by the last id that was seen; `None` when the readers have just been told of a
/// gap, so that anything may follow.
pub(super) fn judge(last: Option<EntryId>, message: &Published<'_>) -> Verdict {
    match last {
        None => Verdict::Next,
        // A stream that was lost and begun again may count from an earlier time on: only an id
        // whose predecessor we know can be called a repeat.
        Some(last) if message.id <= last && message.before.is_some() => Verdict::Repeat,
        Some(last) if message.before == Some(last) => Verdict::Next,
        Some(_) => Verdict::Hole,
    }
}

#[cfg(test)]
mod tests {
    use super::{Published, Verdict, judge};

    #[test]
    fn judges_by_the_entry_before() {
        let verdict = |last: Option<&str>, message: &str| {
            let message = Published::read(message.as_bytes()).unwrap();
            judge(last.map(|id| id.parse().unwrap()), &message)
        };
        assert_eq!(verdict(None, "- 5-0\nx"), Verdict::Next);
        assert_eq!(verdict(None, "4-9 5-0\nx"), Verdict::Next);
        assert_eq!(verdict(Some("4-9"), "4-9 5-0\nx"), Verdict::Next);
        assert_eq!(verdict(Some("4-8"), "4-9 5-0\nx"), Verdict::Hole);
        assert_eq!(verdict(Some("5-0"), "4-9 5-0\nx"), Verdict::Repeat);
        assert_eq!(verdict(Some("10-0"), "4-9 5-0\nx"), Verdict::Repeat);
        assert_eq!(verdict(Some("4-9"), "- 5-0\nx"), Verdict::Hole);
        assert_eq!(verdict(Some("9-0"), "- 5-0\nx"), Verdict::Hole);
    }

    #[test]
    fn reads_what_the_script_writes_and_nothing_else() {
        let message = Published::read(b"- 17-3\na\nb").unwrap();
        assert_eq!((message.before, message.payload), (None, &b"a\nb"[..]));
        for bad in [&b""[..], b"1-1", b"1-1\n", b"x 1-1\n", b"1-1 2\n", b"\xff 1-1\n"] {
            assert_eq!(Published::read(bad), None);
        }
    }
}
