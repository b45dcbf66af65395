//! An event as a client sends it: checked field by field, then written once in the form that is
//! stored, hashed and archived. Pure: it reads no clock, no configuration and no store.

mod fields;
mod members;
mod record;
mod walk;

#[cfg(test)]
mod properties;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

pub use fields::{
    ACTION_CHARS_MAX, ID_CHARS_MAX, TARGETS_MAX, TYPE_CHARS_MAX, USER_AGENT_CHARS_MAX,
};
pub use record::{Origin, Stamp, record_bytes};

/// Errors reported for one event at most; a client mends these and sees the rest next time.
pub const ERRORS_MAX: usize = 16;
/// Characters of a metadata key at most.
pub const KEY_CHARS_MAX: usize = 256;

/// How large and how deep an event may be; configuration, with the product's figures as default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Bytes of the event as it is stored: minified and ASCII-escaped.
    pub event_bytes: usize,
    /// Nesting of `metadata`, its own braces counted as the first level.
    pub metadata_depth: usize,
    /// Keys and array elements in `metadata`, all levels together.
    pub metadata_fields: usize,
}

impl Default for EventLimits {
    /// 256 KiB, 16 levels, 1,000 fields (OpenSearch's usual ceiling for one mapping).
    fn default() -> Self {
        Self { event_bytes: 256 * 1024, metadata_depth: 16, metadata_fields: 1_000 }
    }
}

/// How far back `occurred_at` may lie without the import scope.
pub const OCCURRED_DAYS_BACK: i64 = 400;
/// How far ahead `occurred_at` may lie: what clocks are allowed to differ by.
pub const OCCURRED_MINUTES_AHEAD: i64 = 5;

/// What one event is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Sizes.
    pub limits: EventLimits,
    /// Earliest `occurred_at` taken, itself included.
    pub occurred_min: DateTime<Utc>,
    /// Latest `occurred_at` taken, itself included.
    pub occurred_max: DateTime<Utc>,
}

impl Rules {
    /// The rules at `now`; with the import scope history is taken back to 1970.
    pub fn at(now: DateTime<Utc>, limits: EventLimits, import: bool) -> Self {
        let back = now - TimeDelta::days(OCCURRED_DAYS_BACK);
        Self {
            limits,
            occurred_min: if import { DateTime::UNIX_EPOCH } else { back },
            occurred_max: now + TimeDelta::minutes(OCCURRED_MINUTES_AHEAD),
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the event; empty for the event itself.
    #[schema(example = "/actor/id")]
    pub pointer: String,
    /// What was expected there, and what stood there.
    #[schema(example = "expected a string of 1 to 256 characters, got a number")]
    pub detail: String,
}

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not JSON: a syntax error, with line and column as the parser tells them.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// Fields are missing, wrong or out of range; at most [`ERRORS_MAX`] of them.
    #[error("{} of the event's fields cannot be taken", .0.len())]
    Fields(Vec<FieldError>),
    /// Over [`EventLimits::event_bytes`].
    #[error("the event is over {limit} bytes, counted minified and with \\u escapes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// An event that passed: its canonical bytes, as text.
///
/// Canonical means: minified, members in the order in which they were sent, numbers verbatim, every
/// character outside ASCII as a `\u` escape, no other escape that JSON does not demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated(String);

impl Validated {
    /// The canonical JSON object, ASCII only.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks an event given as text and writes its canonical form.
pub fn validate_text(text: &str, rules: &Rules) -> Result<Validated, Invalid> {
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| Invalid::Json(error.to_string()))?;
    validate(raw, rules)
}

/// Checks an event and writes its canonical form.
pub fn validate(raw: &RawValue, rules: &Rules) -> Result<Validated, Invalid> {
    let mut walk = walk::Walk::new(rules, raw.get().len());
    fields::event(&mut walk, raw);
    walk.finish().map(Validated)
}

/// What a JSON text holds that should be an array of events.
#[derive(Debug)]
pub enum Elements<'a> {
    /// Something else.
    NoArray,
    /// So many elements, over the bound.
    TooMany(usize),
    /// Every element.
    All(Vec<&'a RawValue>),
}

/// The elements of an array of at most `max`.
pub fn elements(raw: &RawValue, max: usize) -> Elements<'_> {
    match members::of_array(raw, max) {
        None => Elements::NoArray,
        Some(members) if members.total > max => Elements::TooMany(members.total),
        Some(members) => Elements::All(members.kept),
    }
}

#[cfg(test)]
mod tests;
