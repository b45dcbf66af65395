//! ASCII-only JSON, since SQS may reject or replace characters outside it.
//! It only writes; what was read keeps its bytes.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Compact JSON with every character above U+007E (and DEL) as `\uXXXX`.
struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        write_ascii(writer, fragment)
    }
}

fn write_ascii<W: ?Sized + io::Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some(at) = rest.bytes().position(|b| b >= 0x7f) {
        let (plain, tail) = rest.split_at(at);
        writer.write_all(plain.as_bytes())?;
        let mut chars = tail.chars();
        if let Some(c) = chars.next() {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        rest = chars.as_str();
    }
    writer.write_all(rest.as_bytes())
}

/// Appends `value` to `out` as compact ASCII JSON.
pub fn append_ascii<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), serde_json::Error> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, AsciiFormatter))
}

/// `value` as compact ASCII JSON text. A `RawValue` inside is copied as it is, so it must be ASCII
/// already.
pub fn to_ascii<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut out = Vec::with_capacity(256);
    append_ascii(&mut out, value)?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// A JSON text in ASCII: other characters stand only in its strings, where each may be escaped.
pub fn escaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    // Writing to memory cannot fail, and what was written is ASCII.
    write_ascii(&mut out, text).unwrap_or_default();
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{escaped, to_ascii};
    use proptest::prelude::*;

    #[test]
    fn escapes_all_but_ascii() {
        assert_eq!(to_ascii("a\u{7f}é😀\"\n").unwrap(), r#""a\u007f\u00e9\ud83d\ude00\"\n""#);
    }

    #[test]
    fn a_text_is_escaped_in_its_strings_alone() {
        assert_eq!(escaped("{\"é\":[1.0,\"😀\"]}"), r#"{"\u00e9":[1.0,"\ud83d\ude00"]}"#);
    }

    proptest! {
        #[test]
        fn reads_back_equal(text in any::<String>()) {
            let written = to_ascii(&text).unwrap();
            prop_assert!(written.is_ascii());
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
