//! Forms: `a=1&b.1.c=2` into a tree of members, as the query protocol nests them. Lists may be flat
//! (`Name.1`) or, as older SDKs send them, under `member` or `entry`, or stand alone without a number.

use std::collections::BTreeMap;

use crate::codec::members::malformed;
use crate::errors::SqsError;
use crate::limits::{FORM_DEPTH_MAX, FORM_FIELDS_MAX};

/// A member with its value, or the members inside it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    value: Option<String>,
    inside: BTreeMap<String, Fields>,
}

impl Fields {
    /// Reads forms, each a URL's query or a body; of a name that repeats the first value counts.
    pub(super) fn parse<'a>(forms: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, SqsError> {
        let mut root = Self::default();
        let mut count = 0;
        for form in forms {
            for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
                count += 1;
                if count > FORM_FIELDS_MAX {
                    return Err(malformed(format!("more than {FORM_FIELDS_MAX} parameters")));
                }
                let mut halves = pair.splitn(2, |byte| *byte == b'=');
                let name = text(halves.next().unwrap_or_default())?;
                root.put(&name, text(halves.next().unwrap_or_default())?)?;
            }
        }
        Ok(root)
    }

    fn put(&mut self, name: &str, value: String) -> Result<(), SqsError> {
        let mut at = self;
        for (depth, part) in name.split('.').enumerate() {
            if depth == FORM_DEPTH_MAX {
                return Err(malformed(format!("'{name}' nests deeper than {FORM_DEPTH_MAX}")));
            }
            at = at.inside.entry(part.to_owned()).or_default();
        }
        at.value.get_or_insert(value);
        Ok(())
    }

    /// The value of a member.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.inside.get(name)?.value.clone()
    }

    /// The value of a member that is a whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, SqsError> {
        let Some(text) = self.inside.get(name).and_then(|field| field.value.as_deref()) else {
            return Ok(None);
        };
        let number = text.trim().parse();
        number.map(Some).map_err(|_| malformed(format!("{name} is '{text}', not a whole number")))
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.inside.is_empty() && self.value.as_deref().is_none_or(str::is_empty)
    }

    /// The entries of a list under any of these names, in the order of their numbers; `None` when
    /// there is no such member.
    pub(super) fn list(&self, names: &[&str]) -> Option<Vec<&Self>> {
        let list = names.iter().find_map(|name| self.inside.get(*name))?;
        let wrapped = ["member", "entry"].iter().find_map(|wrap| list.inside.get(*wrap));
        let entries = wrapped.unwrap_or(list);
        let numbered = entries.inside.iter().filter_map(|(at, one)| Some((at.parse().ok()?, one)));
        let numbered: BTreeMap<u32, &Self> = numbered.collect();
        Some(if numbered.is_empty() { vec![entries] } else { numbered.into_values().collect() })
    }

    /// The values of a list; an empty one that stands alone is an empty list.
    pub(super) fn texts(&self, names: &[&str]) -> Option<Vec<String>> {
        let entries = self.list(names)?;
        let alone = entries.len() == 1 && names.iter().any(|name| self.is(name, entries[0]));
        let value = |entry: &Self| entry.value.clone().unwrap_or_default();
        let values = entries.into_iter().map(value);
        Some(values.filter(|value| !alone || !value.is_empty()).collect())
    }

    /// A map whose entries have a name and a value under any of these names.
    pub(super) fn pairs(&self, names: &[&str]) -> Option<BTreeMap<String, String>> {
        let entries = self.list(names)?;
        Some(
            entries
                .into_iter()
                .filter_map(|entry| Some((entry.key()?, entry.member_value())))
                .collect(),
        )
    }

    /// The name of a map's entry.
    pub(super) fn key(&self) -> Option<String> {
        ["Name", "Key", "key"].iter().find_map(|name| self.text(name))
    }

    /// The value of a map's entry, as members.
    pub(super) fn value(&self) -> Option<&Self> {
        ["Value", "value"].iter().find_map(|name| self.inside.get(*name))
    }

    fn member_value(&self) -> String {
        self.value().and_then(|field| field.value.clone()).unwrap_or_default()
    }

    fn is(&self, name: &str, entry: &Self) -> bool {
        self.inside.get(name).is_some_and(|field| std::ptr::eq(field, entry))
    }
}

/// A name or a value: plus is a space, `%XX` a byte, and the bytes are UTF-8.
fn text(encoded: &[u8]) -> Result<String, SqsError> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, tail @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                bytes.push(digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0));
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed("a parameter is not UTF-8"))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Fields {
        Fields::parse([form.as_bytes()]).unwrap()
    }

    #[test]
    fn values_are_decoded_once() {
        let fields = parse("a=x%20y+z%2B%26%3d&b=%zz%4&c&a=second&&d=%E2%98%83");
        assert_eq!(fields.text("a").as_deref(), Some("x y z+&="));
        assert_eq!(fields.text("b").as_deref(), Some("%zz%4"));
        assert_eq!(fields.text("c").as_deref(), Some(""));
        assert_eq!(fields.text("d").as_deref(), Some("\u{2603}"));
        assert!(Fields::parse([b"a=%ff".as_slice()]).is_err());
    }

    #[test]
    fn lists_are_read_however_they_are_spelled() {
        for form in [
            "N.1=a&N.2=b&N.10=c",
            "N.10=c&N.2=b&N.1=a",
            "N.member.1=a&N.member.2=b&N.member.10=c",
            "Ns.member.1=a&Ns.member.2=b&Ns.member.3=c",
        ] {
            assert_eq!(parse(form).texts(&["N", "Ns"]).unwrap(), ["a", "b", "c"], "{form}");
        }
        assert_eq!(parse("N=a").texts(&["N"]).unwrap(), ["a"]);
        assert_eq!(parse("N=").texts(&["N"]).unwrap(), Vec::<String>::new());
        assert_eq!(parse("N.1=").texts(&["N"]).unwrap(), [""]);
        assert_eq!(parse("M=a").texts(&["N"]), None);
        let pairs = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
        for form in [
            "A.1.Name=a&A.1.Value=1&A.2.Name=b&A.2.Value=2",
            "A.entry.1.key=a&A.entry.1.value=1&A.entry.2.key=b&A.entry.2.value=2",
            "A.1.Key=a&A.1.Value=1&A.2.Key=b&A.2.Value=2",
        ] {
            assert_eq!(parse(form).pairs(&["A"]), Some(BTreeMap::clone(&pairs)), "{form}");
        }
        let alone = parse("Attribute.Name=a&Attribute.Value=1").pairs(&["Attribute"]).unwrap();
        assert_eq!(alone, [("a".to_owned(), "1".to_owned())].into());
    }

    #[test]
    fn forms_have_a_size() {
        let form = |fields: usize| "a=1&".repeat(fields);
        assert!(Fields::parse([form(FORM_FIELDS_MAX).as_bytes()]).is_ok());
        assert!(Fields::parse([form(FORM_FIELDS_MAX + 1).as_bytes()]).is_err());
        let name = |depth: usize| format!("{}=1", vec!["a"; depth].join("."));
        assert!(Fields::parse([name(FORM_DEPTH_MAX).as_bytes()]).is_ok());
        assert!(Fields::parse([name(FORM_DEPTH_MAX + 1).as_bytes()]).is_err());
    }
}
