//! The fields of an event as a table: name, whether it must be there, what it may hold.
//! The documentation and the checks are both read off it.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;

use super::walk::{Bound, Kind, Nul, Walk};

/// Characters of a `type` at most.
pub const TYPE_CHARS_MAX: usize = 64;
/// Characters of an `id`, a `name`, a `session` or a `request_id` at most.
pub const ID_CHARS_MAX: usize = 256;
/// Characters of an `action` at most.
pub const ACTION_CHARS_MAX: usize = 128;
/// Characters of a `user_agent` at most.
pub const USER_AGENT_CHARS_MAX: usize = 1_024;
/// Targets at most.
pub const TARGETS_MAX: usize = 32;

/// Outcomes an event can have; absent reads as `unknown`.
const OUTCOMES: [&str; 4] = ["success", "failure", "denied", "unknown"];

/// What a field may hold.
enum Shape {
    /// A string of 1 to so many characters, without NUL.
    Text(usize),
    /// One of [`OUTCOMES`].
    Outcome,
    /// An IPv4 or IPv6 address.
    Address,
    /// RFC 3339, inside the rules' window.
    Time,
    /// An object of these fields and no other.
    Object(&'static [Field]),
    /// Up to [`TARGETS_MAX`] objects of these fields.
    List(&'static [Field]),
    /// An object of anything, bounded in depth and count.
    Free,
}

struct Field {
    name: &'static str,
    required: bool,
    shape: Shape,
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, required: true, shape }
}

const fn optional(name: &'static str, shape: Shape) -> Field {
    Field { name, required: false, shape }
}

const PARTY: &[Field] = &[
    required("type", Shape::Text(TYPE_CHARS_MAX)),
    required("id", Shape::Text(ID_CHARS_MAX)),
    optional("name", Shape::Text(ID_CHARS_MAX)),
];

const CONTEXT: &[Field] = &[
    optional("ip", Shape::Address),
    optional("user_agent", Shape::Text(USER_AGENT_CHARS_MAX)),
    optional("session", Shape::Text(ID_CHARS_MAX)),
    optional("request_id", Shape::Text(ID_CHARS_MAX)),
];

const EVENT: &[Field] = &[
    required("actor", Shape::Object(PARTY)),
    required("action", Shape::Text(ACTION_CHARS_MAX)),
    optional("targets", Shape::List(PARTY)),
    optional("context", Shape::Object(CONTEXT)),
    optional("outcome", Shape::Outcome),
    optional("occurred_at", Shape::Time),
    optional("metadata", Shape::Free),
];

/// Members of an event's own objects at most: more than the table has, so that an unknown field is
/// named rather than counted, and few enough to be no burden.
const OWN_MEMBERS: Bound = Bound::new(32, "members in an object of the event's own");
const TARGETS: Bound = Bound::new(TARGETS_MAX, "targets");

/// Checks and writes a whole event.
pub(super) fn event<'a>(walk: &mut Walk<'a, '_>, raw: &'a RawValue) {
    table(walk, raw, EVENT);
}

fn table<'a>(walk: &mut Walk<'a, '_>, raw: &'a RawValue, fields: &'static [Field]) {
    if Kind::of(raw) != Kind::Object {
        return walk.refuse_kind("an object", raw);
    }
    let mut present = Vec::with_capacity(fields.len());
    walk.object(raw, OWN_MEMBERS, |walk, key, value| {
        match fields.iter().find(|field| field.name == key) {
            Some(field) => {
                present.push(field.name);
                member(walk, value, field);
            }
            None => walk.refuse(unknown_field(fields)),
        }
    });
    for field in fields.iter().filter(|field| field.required) {
        if !present.contains(&field.name) {
            walk.refuse_at(field.name, format!("expected {}, got nothing", wanted(&field.shape)));
        }
    }
}

fn unknown_field(fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    format!("expected one of {}; anything else goes into metadata", names.join(", "))
}

fn wanted(shape: &Shape) -> String {
    match shape {
        Shape::Text(max) => format!("a string of 1 to {max} characters"),
        Shape::Outcome => format!("one of {}", OUTCOMES.join(", ")),
        Shape::Address => "an IPv4 or IPv6 address".into(),
        Shape::Time => "a time as RFC 3339 writes it, e.g. 2026-01-31T12:00:00Z".into(),
        Shape::Object(_) | Shape::Free => "an object".into(),
        Shape::List(_) => format!("an array of at most {TARGETS_MAX} objects"),
    }
}

fn member<'a>(walk: &mut Walk<'a, '_>, raw: &'a RawValue, field: &'static Field) {
    // Many serialisers write `null` for what is absent; it is kept as sent and means the same.
    if !field.required && Kind::of(raw) == Kind::Null {
        return walk.verbatim("null");
    }
    match &field.shape {
        Shape::Object(fields) => table(walk, raw, fields),
        Shape::List(fields) => {
            if Kind::of(raw) == Kind::Array {
                walk.array(raw, TARGETS, |walk, element| table(walk, element, fields));
            } else {
                walk.refuse_kind(&wanted(&field.shape), raw);
            }
        }
        Shape::Free => {
            if Kind::of(raw) == Kind::Object {
                walk.free(raw, 1);
            } else {
                walk.refuse_kind("an object", raw);
            }
        }
        shape => text(walk, raw, shape),
    }
}

fn text<'a>(walk: &mut Walk<'a, '_>, raw: &'a RawValue, shape: &'static Shape) {
    if Kind::of(raw) != Kind::String {
        return walk.refuse_kind(&wanted(shape), raw);
    }
    let Some(text) = walk.decode(raw, Nul::Refused) else { return };
    match shape {
        Shape::Text(max) if (1..=*max).contains(&text.chars().count()) => {}
        Shape::Text(_) => {
            let length = text.chars().count();
            return walk.refuse(format!("expected {}, got {length}", wanted(shape)));
        }
        Shape::Outcome if OUTCOMES.contains(&text.as_ref()) => {}
        Shape::Address if text.parse::<IpAddr>().is_ok() => {}
        Shape::Time => {
            if let Err(detail) = time(walk, &text) {
                return walk.refuse(detail);
            }
        }
        other => {
            let got: String = text.chars().take(40).collect();
            return walk.refuse(format!("expected {}, got {got:?}", wanted(other)));
        }
    }
    walk.string(&text);
}

fn time(walk: &Walk<'_, '_>, text: &str) -> Result<(), String> {
    let Ok(at) = DateTime::parse_from_rfc3339(text) else {
        let got: String = text.chars().take(40).collect();
        return Err(format!("expected {}, got {got:?}", wanted(&Shape::Time)));
    };
    let at = at.with_timezone(&Utc);
    let written = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    if at > walk.rules.occurred_max {
        return Err(format!(
            "expected a time not after {} (5 minutes ahead of the server's clock)",
            written(walk.rules.occurred_max)
        ));
    }
    if at < walk.rules.occurred_min {
        return Err(format!(
            "expected a time not before {} (older events need a key with the scope logs:import)",
            written(walk.rules.occurred_min)
        ));
    }
    Ok(())
}
