//! One pass over an event that checks and writes at once: what JSON itself allows but an audit log
//! cannot keep (duplicate keys, lone surrogates), depth, counts and size. It knows no field names.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

use super::members::{Members, of_array, of_object};
use super::{ERRORS_MAX, FieldError, Invalid, KEY_CHARS_MAX, Rules};

/// A step from the event to a member.
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

/// Whether U+0000 may stand in a string. Query columns are Postgres `text`, which cannot hold it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nul {
    Refused,
    Kept,
}

/// How many members may still come, and how that is told.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    /// Members that may still come.
    pub(super) left: usize,
    /// The limit as it is documented.
    pub(super) limit: usize,
    /// What the limit counts.
    pub(super) what: &'static str,
}

impl Bound {
    pub(super) const fn new(limit: usize, what: &'static str) -> Self {
        Self { left: limit, limit, what }
    }
}

/// The kind of a JSON value, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    pub(super) fn of(raw: &RawValue) -> Self {
        match raw.get().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    pub(super) const fn with_article(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Null => "null",
        }
    }
}

/// The pass: what was written, what is wrong, and where it stands.
pub(super) struct Walk<'a, 'r> {
    pub(super) rules: &'r Rules,
    out: Vec<u8>,
    errors: Vec<FieldError>,
    path: Vec<Step<'a>>,
    metadata_fields: usize,
}

impl<'a, 'r> Walk<'a, 'r> {
    pub(super) fn new(rules: &'r Rules, size_hint: usize) -> Self {
        let capacity = size_hint.min(rules.limits.event_bytes) + 64;
        Self {
            rules,
            out: Vec::with_capacity(capacity),
            errors: Vec::new(),
            path: Vec::new(),
            metadata_fields: 0,
        }
    }

    /// The canonical text, or everything that is wrong.
    pub(super) fn finish(self) -> Result<String, Invalid> {
        if self.over() {
            return Err(Invalid::TooLarge { limit: self.rules.limits.event_bytes });
        }
        if !self.errors.is_empty() {
            return Err(Invalid::Fields(self.errors));
        }
        String::from_utf8(self.out).map_err(|error| Invalid::Json(error.to_string()))
    }

    fn over(&self) -> bool {
        self.out.len() > self.rules.limits.event_bytes
    }

    /// Whether going on is of no use: too large, or enough errors told.
    fn done(&self) -> bool {
        self.over() || self.errors.len() >= ERRORS_MAX
    }

    /// Notes an error at the current place.
    pub(super) fn refuse(&mut self, detail: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            let pointer = self.path.iter().fold(String::new(), |mut pointer, step| {
                pointer.push('/');
                match step {
                    Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                    Step::Index(index) => pointer.push_str(&index.to_string()),
                }
                pointer
            });
            self.errors.push(FieldError { pointer, detail: detail.into() });
        }
    }

    /// Notes an error at a member of the current place.
    pub(super) fn refuse_at(&mut self, key: &'a str, detail: impl Into<String>) {
        self.path.push(Step::Key(Cow::Borrowed(key)));
        self.refuse(detail);
        self.path.pop();
    }

    /// Notes that another kind of value was expected.
    pub(super) fn refuse_kind(&mut self, expected: &str, raw: &RawValue) {
        self.refuse(format!("expected {expected}, got {}", Kind::of(raw).with_article()));
    }

    /// Writes text that is canonical already.
    pub(super) fn verbatim(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes a string with the escapes of the canonical form.
    pub(super) fn string(&mut self, text: &str) {
        if contracts::json::append_ascii(&mut self.out, text).is_err() {
            self.refuse("expected a string that can be written as JSON");
        }
    }

    /// The string that `raw` stands for, or an error noted: a lone surrogate is no character.
    pub(super) fn decode(&mut self, raw: &'a RawValue, nul: Nul) -> Option<Cow<'a, str>> {
        let quoted = raw.get();
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?;
        let text = if inner.contains('\\') {
            let Ok(text) = serde_json::from_str::<String>(quoted) else {
                self.refuse(
                    "expected Unicode characters, got a lone surrogate (\\ud800 to \\udfff without \
                     its other half)",
                );
                return None;
            };
            Cow::Owned(text)
        } else {
            Cow::Borrowed(inner)
        };
        if nul == Nul::Refused && text.contains('\0') {
            self.refuse("expected no NUL character (\\u0000); only metadata values may hold one");
            return None;
        }
        Some(text)
    }

    /// Walks the members of an object; `each` writes the member's value. Duplicate keys end it.
    pub(super) fn object(
        &mut self,
        raw: &'a RawValue,
        bound: Bound,
        mut each: impl FnMut(&mut Self, &str, &'a RawValue),
    ) {
        let Some(members) = of_object(raw, bound.left) else {
            return self.refuse_kind("an object", raw);
        };
        if self.too_many(&members, bound) {
            return;
        }
        let mut seen = HashSet::with_capacity(members.kept.len());
        self.out.push(b'{');
        for (position, (raw_key, value)) in members.kept.into_iter().enumerate() {
            if self.done() {
                return;
            }
            let Some(key) = self.decode(raw_key, Nul::Refused) else { continue };
            if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
                self.refuse(format!("expected keys of 1 to {KEY_CHARS_MAX} characters"));
                continue;
            }
            if position > 0 {
                self.out.push(b',');
            }
            self.string(&key);
            self.out.push(b':');
            self.path.push(Step::Key(key.clone()));
            each(self, &key, value);
            if !seen.insert(key) {
                self.refuse("expected each key once, got it twice");
            }
            self.path.pop();
        }
        self.out.push(b'}');
    }

    /// Walks the elements of an array; `each` writes the element.
    pub(super) fn array(
        &mut self,
        raw: &'a RawValue,
        bound: Bound,
        mut each: impl FnMut(&mut Self, &'a RawValue),
    ) {
        let Some(members) = of_array(raw, bound.left) else {
            return self.refuse_kind("an array", raw);
        };
        if self.too_many(&members, bound) {
            return;
        }
        self.out.push(b'[');
        for (position, element) in members.kept.into_iter().enumerate() {
            if self.done() {
                return;
            }
            if position > 0 {
                self.out.push(b',');
            }
            self.path.push(Step::Index(position));
            each(self, element);
            self.path.pop();
        }
        self.out.push(b']');
    }

    fn too_many<T>(&mut self, members: &Members<T>, bound: Bound) -> bool {
        let many = members.total > bound.left;
        if many {
            self.refuse(format!("expected at most {} {}", bound.limit, bound.what));
        }
        many
    }

    /// Writes any JSON value of `metadata`, `depth` levels below its braces.
    pub(super) fn free(&mut self, raw: &'a RawValue, depth: usize) {
        let limits = self.rules.limits;
        let kind = Kind::of(raw);
        if matches!(kind, Kind::Object | Kind::Array) {
            if depth > limits.metadata_depth {
                let levels = limits.metadata_depth;
                return self.refuse(format!("expected at most {levels} levels of nesting"));
            }
            let bound = Bound {
                left: limits.metadata_fields.saturating_sub(self.metadata_fields),
                limit: limits.metadata_fields,
                what: "keys and array elements in metadata, all levels together",
            };
            if kind == Kind::Object {
                return self.object(raw, bound, |walk, _, value| {
                    walk.metadata_fields += 1;
                    walk.free(value, depth + 1);
                });
            }
            return self.array(raw, bound, |walk, element| {
                walk.metadata_fields += 1;
                walk.free(element, depth + 1);
            });
        }
        if kind == Kind::String {
            if let Some(text) = self.decode(raw, Nul::Kept) {
                self.string(&text);
            }
            return;
        }
        self.verbatim(raw.get());
    }
}
