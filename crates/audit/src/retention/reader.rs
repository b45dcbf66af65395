//! Reads a document that a person wrote: every member by its type and bounds, every problem with its
//! JSON pointer, several at once. It decides nothing about what the members mean together.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::event::{ERRORS_MAX, FieldError};

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<FieldError>,
}

/// The pointer of a member.
pub(super) fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Reader {
    /// Notes a problem; the first [`ERRORS_MAX`] are kept.
    pub(super) fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.problems.len() < ERRORS_MAX {
            self.problems.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        }
    }

    /// What was read, unless something is wrong.
    pub(super) fn finish<T>(self, read: Option<T>) -> Result<T, Vec<FieldError>> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => Err(self.problems),
        }
    }

    fn expected(&mut self, pointer: &str, what: &str, got: &Value) {
        self.wrong(pointer, format!("expected {what}, got {}", kind(got)));
    }

    /// An object with none but these members; a member that is `null` counts as absent.
    pub(super) fn object<'v>(
        &mut self,
        pointer: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Value::Object(members) = value else {
            self.expected(pointer, "an object", value);
            return None;
        };
        for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
            let shown: String = key.chars().take(80).collect();
            self.wrong(
                below(pointer, &shown),
                format!("no member of that name; expected {}", known.join(", ")),
            );
        }
        Some(members)
    }

    /// A member that must be there.
    pub(super) fn required<'v>(
        &mut self,
        pointer: &str,
        members: &'v Map<String, Value>,
        key: &str,
    ) -> Option<&'v Value> {
        let value = optional(members, key);
        if value.is_none() {
            self.wrong(below(pointer, key), "expected a value, got none");
        }
        value
    }

    /// A text of so many characters, none of them NUL.
    pub(super) fn text<'v>(
        &mut self,
        pointer: &str,
        value: &'v Value,
        chars: RangeInclusive<usize>,
    ) -> Option<&'v str> {
        let what = format!("a string of {} to {} characters", chars.start(), chars.end());
        let Value::String(text) = value else {
            self.expected(pointer, &what, value);
            return None;
        };
        let count = text.chars().count();
        if !chars.contains(&count) {
            self.wrong(pointer, format!("expected {what}, got {count}"));
            return None;
        }
        if text.contains('\0') {
            self.wrong(pointer, format!("expected {what}, none of them NUL"));
            return None;
        }
        Some(text)
    }

    /// A text that stands for something.
    pub(super) fn parsed<T: FromStr>(&mut self, pointer: &str, value: &Value) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(pointer, value, 1..=64)?;
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.wrong(pointer, format!("{error}; got {text:?}"));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        pointer: &str,
        value: &Value,
        words: &[(&str, T)],
    ) -> Option<T> {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let shown: String = value.to_string().chars().take(80).collect();
            self.wrong(pointer, format!("expected one of {}; got {shown}", known.join(", ")));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A whole number within bounds.
    pub(super) fn integer(
        &mut self,
        pointer: &str,
        value: &Value,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let number = value.as_i64().filter(|number| range.contains(number));
        if number.is_none() {
            let shown: String = value.to_string().chars().take(40).collect();
            let (from, to) = (range.start(), range.end());
            self.wrong(
                pointer,
                format!("expected a whole number from {from} to {to}, got {shown}"),
            );
        }
        number
    }

    /// A number within bounds.
    pub(super) fn number(
        &mut self,
        pointer: &str,
        value: &Value,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let number = value.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            let shown: String = value.to_string().chars().take(40).collect();
            let (from, to) = (range.start(), range.end());
            self.wrong(pointer, format!("expected a number from {from} to {to}, got {shown}"));
        }
        number
    }

    /// An array of at most so many, each with its pointer.
    pub(super) fn list<'v>(
        &mut self,
        pointer: &str,
        value: &'v Value,
        max: usize,
    ) -> Vec<(String, &'v Value)> {
        let Value::Array(items) = value else {
            self.expected(pointer, &format!("an array of at most {max}"), value);
            return Vec::new();
        };
        if items.len() > max {
            self.wrong(pointer, format!("expected an array of at most {max}, got {}", items.len()));
            return Vec::new();
        }
        items.iter().enumerate().map(|(at, item)| (format!("{pointer}/{at}"), item)).collect()
    }
}

/// A member that may be absent; `null` is absent.
pub(super) fn optional<'v>(members: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    members.get(key).filter(|value| !value.is_null())
}
