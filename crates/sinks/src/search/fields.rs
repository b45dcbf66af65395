//! Field values in the form that both engines match exactly: keywords within a length, metadata
//! flattened to paths and texts. The same functions run on documents and on queries, so what an
//! engine would cut, fold or refuse never reaches it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Bytes of a keyword (actor, action, target, tag) at most; a longer one is matched by its first
/// [`KEYWORD_STEM`] bytes and its SHA-256. Lucene ends at 32,766 bytes.
pub const KEYWORD_BYTES_MAX: usize = 512;
/// What is kept of a keyword that is too long.
const KEYWORD_STEM: usize = 400;
/// Bytes of a metadata value that can be filtered by; a longer one is kept and found by its words
/// and by the existence of its path.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an encoded metadata path that can be filtered by.
pub const PATH_BYTES_MAX: usize = 512;
/// Paths of a document that can be filtered by; a document's later ones are kept only.
pub const PATHS_MAX: usize = 2_048;
/// Values of a document that can be filtered by.
pub const VALUES_MAX: usize = 4_096;
/// Bytes of all filterable values and paths of a document.
pub const FILTERABLE_BYTES_MAX: usize = 512 * 1024;
/// Levels of metadata that are looked into; deeper values are kept only.
pub const DEPTH_MAX: usize = 20;
/// Texts of metadata that words are taken from.
pub const TEXTS_MAX: usize = 4_096;

/// A value as an exact-match term.
pub fn keyword(value: &str) -> String {
    let value = storable(value);
    if value.len() <= KEYWORD_BYTES_MAX {
        return value.into_owned();
    }
    let stem = &value[..value.floor_char_boundary(KEYWORD_STEM)];
    format!("{stem}…sha256:{}", hex::encode(Sha256::digest(value.as_bytes())))
}

/// Without NUL, which PostgreSQL cannot store.
fn storable(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { Cow::Owned(value.replace('\0', "\u{fffd}")) } else { value.into() }
}

/// A metadata value as a filter's term; `None` when it is too long to be one.
pub fn value(text: &str) -> Option<String> {
    (text.len() <= VALUE_BYTES_MAX).then(|| storable(text).into_owned())
}

/// A dotted path in the form that is indexed: each key percent-encoded but for ASCII letters,
/// digits, `_` and `-`, an empty key as `%`. A key that holds a dot reads as two. `None` when too
/// long.
pub fn path(dotted: &str) -> Option<String> {
    let mut encoded = String::new();
    push_key(&mut encoded, dotted);
    (encoded.len() <= PATH_BYTES_MAX).then_some(encoded)
}

fn push_key(path: &mut String, key: &str) {
    for segment in key.split('.') {
        if !path.is_empty() {
            path.push('.');
        }
        if segment.is_empty() {
            path.push('%');
        }
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
                path.push(char::from(byte));
            } else {
                // Writing into a String cannot fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
}

/// What of a document's metadata can be searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Values by encoded path.
    pub values: BTreeMap<String, BTreeSet<String>>,
    /// Every encoded path that holds something other than `null`, and every path above one.
    pub paths: BTreeSet<String>,
    /// The strings, for words.
    pub texts: Vec<String>,
}

/// Flattens a metadata object. Arrays do not show in paths: `{"a":[{"b":1},{"b":2}]}` holds 1 and
/// 2 at `a.b`. Anything but an object is empty.
pub fn metadata(object: &RawValue) -> Metadata {
    let mut flat = Flattener::default();
    if object.get().trim_start().starts_with('{') {
        flat.walk(object, "", 0);
    }
    flat.found
}

#[derive(Default)]
struct Flattener {
    found: Metadata,
    values: usize,
    bytes: usize,
}

impl Flattener {
    fn walk(&mut self, node: &RawValue, path: &str, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let json = node.get().trim();
        match json.as_bytes().first() {
            Some(b'{') => {
                let Ok(Members(members)) = serde_json::from_str(json) else { return };
                for (key, child) in members {
                    let mut below = path.to_owned();
                    push_key(&mut below, &key);
                    self.walk(child, &below, depth + 1);
                }
            }
            Some(b'[') => {
                let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) else { return };
                for item in items {
                    self.walk(item, path, depth + 1);
                }
            }
            Some(b'"') => {
                let Ok(text) = serde_json::from_str::<String>(json) else { return };
                self.leaf(path, &text);
                if self.found.texts.len() < TEXTS_MAX {
                    self.found.texts.push(text);
                }
            }
            Some(b'n') | None => {}
            Some(_) => self.leaf(path, json),
        }
    }

    fn leaf(&mut self, path: &str, text: &str) {
        if path.is_empty() || path.len() > PATH_BYTES_MAX {
            return;
        }
        self.add_paths(path);
        let Some(text) = value(text) else { return };
        if self.values >= VALUES_MAX
            || self.bytes + path.len() + text.len() > FILTERABLE_BYTES_MAX
            || !self.found.paths.contains(path)
        {
            return;
        }
        self.bytes += path.len() + text.len();
        if self.found.values.entry(path.to_owned()).or_default().insert(text) {
            self.values += 1;
        }
    }

    fn add_paths(&mut self, path: &str) {
        let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            if self.found.paths.len() < PATHS_MAX && !self.found.paths.contains(&path[..end]) {
                self.found.paths.insert(path[..end].to_owned());
            }
        }
    }
}

/// An object's members in order, values verbatim; a map would drop what stands before a repeat.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        KEYWORD_BYTES_MAX, Metadata, PATH_BYTES_MAX, PATHS_MAX, VALUE_BYTES_MAX, keyword, metadata,
        path,
    };
    use serde_json::value::RawValue;

    fn flat(json: &str) -> Metadata {
        metadata(&RawValue::from_string(json.into()).unwrap())
    }

    fn values(found: &Metadata) -> Vec<(&str, Vec<&str>)> {
        found
            .values
            .iter()
            .map(|(path, values)| (path.as_str(), values.iter().map(String::as_str).collect()))
            .collect()
    }

    #[test]
    fn flattens_objects_and_arrays_and_keeps_numbers_verbatim() {
        let found = flat(
            r#"{"a":{"b":[1.0,{"c":"x\u0000y"},[true,"1"]]},"n":null,"":{"=":1e400},"d.e":"","o":{}}"#,
        );
        assert_eq!(
            values(&found),
            [
                ("%.%3D", vec!["1e400"]),
                ("a.b", vec!["1", "1.0", "true"]),
                ("a.b.c", vec!["x\u{fffd}y"]),
                ("d.e", vec![""]),
            ]
        );
        assert_eq!(
            found.paths.iter().map(String::as_str).collect::<Vec<_>>(),
            ["%", "%.%3D", "a", "a.b", "a.b.c", "d", "d.e"]
        );
        assert_eq!(found.texts, ["x\0y", "1", ""]);
        assert_eq!(flat("[1]"), Metadata::default());
    }

    #[test]
    fn a_query_path_is_encoded_like_a_documents() {
        let found = flat(r#"{"x y":{"é":1}}"#);
        assert!(found.values.contains_key(&path("x y.é").unwrap()));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let word = |n| "k".repeat(n);
        assert_eq!(keyword(&word(KEYWORD_BYTES_MAX)), word(KEYWORD_BYTES_MAX));
        let long = keyword(&word(KEYWORD_BYTES_MAX + 1));
        assert!(long.len() <= KEYWORD_BYTES_MAX && long != keyword(&word(KEYWORD_BYTES_MAX + 2)));

        let found = flat(&format!(r#"{{"v":"{}"}}"#, word(VALUE_BYTES_MAX)));
        assert_eq!(found.values.len(), 1);
        let found = flat(&format!(r#"{{"v":"{}"}}"#, word(VALUE_BYTES_MAX + 1)));
        assert!(found.values.is_empty() && found.paths.contains("v"));

        assert_eq!(flat(&format!(r#"{{"{}":1}}"#, word(PATH_BYTES_MAX))).paths.len(), 1);
        assert!(flat(&format!(r#"{{"{}":1}}"#, word(PATH_BYTES_MAX + 1))).paths.is_empty());

        let wide = |n: usize| {
            let members: Vec<_> = (0..n).map(|i| format!(r#""k{i}":1"#)).collect();
            flat(&format!("{{{}}}", members.join(",")))
        };
        assert_eq!(wide(PATHS_MAX).values.len(), PATHS_MAX);
        assert_eq!(wide(PATHS_MAX + 1).values.len(), PATHS_MAX);
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |n: usize| format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
        assert_eq!(flat(&nest(20)).values.len(), 1);
        assert!(flat(&nest(21)).values.is_empty());
        assert!(flat(&nest(500)).values.is_empty());
    }
}
