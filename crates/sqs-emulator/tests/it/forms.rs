//! A JSON request as a form, the way an SDK of the query protocol would send it: written from the
//! service's description, not from the codec.

use std::fmt::Write as _;

use serde_json::Value;

/// How lists are spelled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// `Tag.1.Key`: what the service's description says.
    Flat,
    /// `Tag.member.1.Key`, `Attribute.entry.1.Name`: what unflattened lists look like.
    Nested,
}

/// The form of an action with these members.
pub(crate) fn form(action: &str, members: &Value, style: Style) -> String {
    let mut form = Form { action, style, pairs: vec![("Action".to_owned(), action.to_owned())] };
    form.pairs.push(("Version".to_owned(), "2012-11-05".to_owned()));
    form.object("", members);
    let pair = |(name, value): &(String, String)| format!("{}={}", escape(name), escape(value));
    form.pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

struct Form<'a> {
    action: &'a str,
    style: Style,
    pairs: Vec<(String, String)>,
}

impl Form<'_> {
    fn object(&mut self, prefix: &str, members: &Value) {
        for (name, value) in members.as_object().into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::Array(list) => {
                    let list_name = self.list_name(name);
                    for (at, value) in list.iter().enumerate() {
                        let prefix = self.entry(prefix, &list_name, "member", at);
                        match value {
                            Value::Object(_) => self.object(&format!("{prefix}."), value),
                            value => self.pairs.push((prefix, text(value))),
                        }
                    }
                }
                Value::Object(map) => {
                    let (map_name, key) = match name.as_str() {
                        "Tags" | "tags" => ("Tag", "Key"),
                        "Attributes" => ("Attribute", "Name"),
                        "MessageAttributes" => ("MessageAttribute", "Name"),
                        "MessageSystemAttributes" => ("MessageSystemAttribute", "Name"),
                        other => panic!("no map {other}"),
                    };
                    for (at, (name, value)) in map.iter().enumerate() {
                        let prefix = self.entry(prefix, map_name, "entry", at);
                        self.pairs.push((format!("{prefix}.{key}"), name.clone()));
                        match value {
                            Value::Object(_) => self.object(&format!("{prefix}.Value."), value),
                            value => self.pairs.push((format!("{prefix}.Value"), text(value))),
                        }
                    }
                }
                value => self.pairs.push((format!("{prefix}{name}"), text(value))),
            }
        }
    }

    fn entry(&self, prefix: &str, name: &str, wrap: &str, at: usize) -> String {
        match self.style {
            Style::Flat => format!("{prefix}{name}.{}", at + 1),
            Style::Nested => format!("{prefix}{name}.{wrap}.{}", at + 1),
        }
    }

    fn list_name(&self, name: &str) -> String {
        match name {
            "Entries" => format!("{}RequestEntry", self.action),
            "Actions" => "ActionName".to_owned(),
            name => name.strip_suffix('s').expect("lists are plural").to_owned(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            byte => write!(escaped, "%{byte:02X}").unwrap(),
        }
    }
    escaped
}
