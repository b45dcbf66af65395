//! JSON as text: indented, compacted and changed at one place without touching any other byte of a
//! value. Parsed numbers would lose digits, and records are hashed as they were sent.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An object with its members in their order.
struct Members(Vec<(String, Box<RawValue>)>);

/// The text indented by two spaces; `None` when it is no JSON.
pub(super) fn pretty(text: &str) -> Option<String> {
    let compact = compact(text)?;
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut rest) = (0_usize, compact.as_str());
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(c) = rest.chars().next() {
        let (token, after) = rest.split_at(if c == '"' { string_end(rest) } else { c.len_utf8() });
        rest = after;
        match c {
            '{' | '[' if rest.starts_with(['}', ']']) => {
                out.push(c);
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push_str(token),
        }
    }
    Some(out)
}

/// The text without the space between its tokens; `None` when it is no JSON.
pub(super) fn compact(text: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    let (mut out, mut rest) = (String::with_capacity(text.len()), raw.get());
    while let Some(c) = rest.chars().next() {
        let (token, after) = rest.split_at(if c == '"' { string_end(rest) } else { c.len_utf8() });
        if !c.is_ascii_whitespace() {
            out.push_str(token);
        }
        rest = after;
    }
    Some(out)
}

/// Where the string that `text` begins with ends; the text is valid JSON.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The text with `value` (JSON, or else a plain text) at a dotted path such as `body.items.0.salt`. A
/// member that is not there is added to its object.
pub(super) fn set(text: &str, path: &str, value: &str) -> Result<String, String> {
    let raw = serde_json::from_str::<&RawValue>(value).map(|raw| raw.get().to_owned());
    let value = raw.unwrap_or_else(|_| serde_json::Value::from(value).to_string());
    let steps: Vec<&str> = path.split('.').collect();
    if steps.iter().any(|step| step.is_empty()) {
        return Err(format!("{path:?} is no path; e.g. body.reason or body.items.0.salt"));
    }
    set_at(text, &steps, &value).map_err(|why| format!("{path}: {why}"))
}

fn set_at(text: &str, path: &[&str], value: &str) -> Result<String, String> {
    let Some((step, rest)) = path.split_first() else { return Ok(value.to_owned()) };
    let raw = |text: String| RawValue::from_string(text).map_err(|error| error.to_string());
    if text.trim_start().starts_with('[') {
        let mut items: Vec<Box<RawValue>> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let count = items.len();
        let item = step.parse().ok().and_then(|at: usize| items.get_mut(at));
        let item = item.ok_or_else(|| format!("{step:?} is none of its {count} items"))?;
        *item = raw(set_at(item.get(), rest, value)?)?;
        return serde_json::to_string(&items).map_err(|error| error.to_string());
    }
    let Ok(Members(mut members)) = serde_json::from_str(text) else {
        return Err(format!("there is no {step:?} in what is no object"));
    };
    match members.iter_mut().find(|(name, _)| name == step) {
        Some((_, member)) => *member = raw(set_at(member.get(), rest, value)?)?,
        None if rest.is_empty() => members.push(((*step).to_owned(), raw(value.to_owned())?)),
        None => return Err(format!("there is no {step:?}")),
    }
    serde_json::to_string(&Members(members)).map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

impl Serialize for Members {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::{compact, pretty, set};

    const TEXT: &str =
        r#"{"n":1.00e5,"s":"a, {\"b\": [","big":12345678901234567890123,"a":[1,{"x":{}}],"e":[]}"#;

    #[test]
    fn text_is_indented_and_compacted_without_changing_a_value() {
        let pretty = pretty(TEXT).unwrap();
        assert_eq!(pretty.lines().nth(1), Some("  \"n\": 1.00e5,"));
        assert!(pretty.contains("  \"e\": []\n}"), "{pretty}");
        assert_eq!(compact(&pretty).unwrap(), TEXT);
        assert_eq!((compact("{"), super::pretty("no")), (None, None));
    }

    #[test]
    fn one_place_is_set_and_nothing_else_changes() {
        assert_eq!(set(TEXT, "a.1.x", "\"new\"").unwrap(), TEXT.replace("{}", "\"new\""));
        assert_eq!(set(TEXT, "n", "2").unwrap(), TEXT.replace("1.00e5", "2"));
        assert_eq!(set("{}", "why", "a plain text").unwrap(), r#"{"why":"a plain text"}"#);
        for (path, why) in [
            ("a.2", "a.2: \"2\" is none of its 2 items"),
            ("b.c", "b.c: there is no \"b\""),
            ("n.x", "n.x: there is no \"x\" in what is no object"),
            ("a..x", "\"a..x\" is no path; e.g. body.reason or body.items.0.salt"),
        ] {
            assert_eq!(set(TEXT, path, "1").unwrap_err(), why);
        }
    }
}
