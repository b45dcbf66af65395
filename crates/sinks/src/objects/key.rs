//! What an object may be called: one alphabet that is safe in S3, in a file system and in a URL, so
//! that no name means something else somewhere.

/// Bytes of a name at most; S3 allows 1,024, file systems 255 per segment.
pub const KEY_BYTES_MAX: usize = 512;
/// Bytes of one segment at most, with room for a suffix of ours while it is written.
const SEGMENT_BYTES_MAX: usize = 200;

/// An object's name: segments of `A-Z a-z 0-9 . _ = -`, separated by `/`, none of them `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// A text that is no name of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no object: at most {KEY_BYTES_MAX} bytes, segments of A-Z a-z 0-9 . _ = - between single slashes, e.g. claims/acme/20260101/0f3a"
)]
pub struct InvalidKey(String);

impl ObjectKey {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn segment_fits(segment: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'=' | b'-');
    (1..=SEGMENT_BYTES_MAX).contains(&segment.len())
        && segment.bytes().all(known)
        && !matches!(segment, "." | "..")
}

impl std::str::FromStr for ObjectKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= KEY_BYTES_MAX && text.split('/').all(segment_fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidKey(text.chars().take(100).collect()))
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_everywhere_is_a_name() {
        let long = "x".repeat(200);
        for good in ["a", "claims/acme/2026/0f", "year=2026/part-1.json.gz", "...", &long] {
            assert!(good.parse::<ObjectKey>().is_ok(), "{good}");
        }
        let (longer, deep) = ("x".repeat(201), "abc/".repeat(128) + "d");
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b", "ä", "a\\b", "a\0",
            &longer, &deep,
        ] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
        }
    }
}
