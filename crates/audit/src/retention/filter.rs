//! Which logs a policy or a hold is about: action globs, actors, target types, outcomes, metadata by
//! equality and existence. What is absent asks for nothing, so an empty filter is every log. It sees
//! values as search does (`sinks::search::fields`), so that a search shows what a filter means.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sinks::search::fields;

use super::ENTRIES_MAX;
use super::reader::{Reader, below, optional};
use crate::event::{ACTION_CHARS_MAX, ID_CHARS_MAX, TYPE_CHARS_MAX};
use crate::record::Outcome;

/// `*` of one action glob at most: what bounds the work of matching one.
pub const STARS_MAX: usize = 4;

/// What a log must be like; every member that is not empty must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// One of these; `*` stands for any characters, also none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// One of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<ActorFilter>,
    /// Some target has one of these types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_types: Vec<String>,
    /// One of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
    /// All of these, by dotted path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Wanted>,
}

/// An actor, or all of a type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActorFilter {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id; absent: every one of the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What a metadata path must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// Anything but `null`.
    Exists,
    /// This value, as search writes it: a number as it was sent.
    Equals(String),
}

impl Serialize for Wanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exists => serializer.serialize_bool(true),
            Self::Equals(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::Exists),
            Value::String(text) => Ok(Self::Equals(text)),
            _ => Err(serde::de::Error::custom("a string or true is expected")),
        }
    }
}

/// What is known of a log where rules are asked.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// The actor's type.
    pub actor_type: &'a str,
    /// The actor's id.
    pub actor_id: &'a str,
    /// What was done.
    pub action: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// The targets' types.
    pub target_types: &'a [String],
    /// Flattened metadata; `None` where no rule asks for any, or the log has none.
    pub metadata: Option<&'a fields::Metadata>,
}

impl Filter {
    /// Reads a filter as a person wrote it; the problems go to `reader`.
    pub(super) fn read(reader: &mut Reader, pointer: &str, value: &Value) -> Self {
        let known = ["actions", "actors", "target_types", "outcomes", "metadata"];
        let mut filter = Self::default();
        let Some(members) = reader.object(pointer, value, &known) else { return filter };
        if let Some(list) = optional(members, "actions") {
            for (at, item) in reader.list(&below(pointer, "actions"), list, ENTRIES_MAX) {
                filter.actions.extend(read_glob(reader, &at, item));
            }
        }
        if let Some(list) = optional(members, "actors") {
            for (at, item) in reader.list(&below(pointer, "actors"), list, ENTRIES_MAX) {
                filter.actors.extend(read_actor(reader, &at, item));
            }
        }
        if let Some(list) = optional(members, "target_types") {
            for (at, item) in reader.list(&below(pointer, "target_types"), list, ENTRIES_MAX) {
                let text = reader.text(&at, item, 1..=TYPE_CHARS_MAX);
                filter.target_types.extend(text.map(ToOwned::to_owned));
            }
        }
        if let Some(list) = optional(members, "outcomes") {
            for (at, item) in reader.list(&below(pointer, "outcomes"), list, OUTCOMES.len()) {
                filter.outcomes.extend(reader.word(&at, item, &OUTCOMES));
            }
        }
        if let Some(object) = optional(members, "metadata") {
            filter.metadata = read_metadata(reader, &below(pointer, "metadata"), object);
        }
        filter
    }

    /// Whether the log is one of those.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let action = self.actions.is_empty()
            || self.actions.iter().any(|glob| glob_matches(glob, facts.action));
        action && Rest::of(self).matches(facts)
    }

    /// Whether some log could match both; `None` where that is not decided: two globs with a `*`
    /// that is not their last character.
    pub fn meets(&self, other: &Self) -> Option<bool> {
        let actors = meet(&self.actors, &other.actors, |a, b| {
            a.kind == b.kind && (a.id.is_none() || b.id.is_none() || a.id == b.id)
        });
        // A log may have targets of every type, and an array of metadata every value.
        if !actors || !meet(&self.outcomes, &other.outcomes, |a, b| a == b) {
            return Some(false);
        }
        if self.actions.is_empty() || other.actions.is_empty() {
            return Some(true);
        }
        let mut undecided = false;
        for a in &self.actions {
            for b in &other.actions {
                match globs_meet(a, b) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => undecided = true,
                }
            }
        }
        if undecided { None } else { Some(false) }
    }
}

fn meet<T>(one: &[T], other: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|a| other.iter().any(|b| same(a, b)))
}

const OUTCOMES: [(&str, Outcome); 4] = [
    ("success", Outcome::Success),
    ("failure", Outcome::Failure),
    ("denied", Outcome::Denied),
    ("unknown", Outcome::Unknown),
];

fn read_glob(reader: &mut Reader, pointer: &str, value: &Value) -> Option<String> {
    let text = reader.text(pointer, value, 1..=ACTION_CHARS_MAX)?;
    let stars = text.matches('*').count();
    if stars > STARS_MAX {
        reader.wrong(pointer, format!("expected at most {STARS_MAX} *, got {stars}"));
        return None;
    }
    Some(text.to_owned())
}

fn read_actor(reader: &mut Reader, pointer: &str, value: &Value) -> Option<ActorFilter> {
    let members = reader.object(pointer, value, &["type", "id"])?;
    let kind = reader.required(pointer, members, "type");
    let kind = kind.and_then(|kind| reader.text(&below(pointer, "type"), kind, 1..=TYPE_CHARS_MAX));
    let id = match optional(members, "id") {
        Some(id) => Some(reader.text(&below(pointer, "id"), id, 1..=ID_CHARS_MAX)?.to_owned()),
        None => None,
    };
    Some(ActorFilter { kind: kind?.to_owned(), id })
}

fn read_metadata(reader: &mut Reader, pointer: &str, value: &Value) -> BTreeMap<String, Wanted> {
    let mut wanted = BTreeMap::new();
    let Value::Object(members) = value else {
        reader.wrong(pointer, "expected an object of paths with a string or true each");
        return wanted;
    };
    if members.len() > ENTRIES_MAX {
        reader
            .wrong(pointer, format!("expected at most {ENTRIES_MAX} paths, got {}", members.len()));
        return wanted;
    }
    for (path, value) in members {
        let at = below(pointer, &path.chars().take(80).collect::<String>());
        if path.is_empty() || path.contains('\0') || fields::path(path).is_none() {
            let max = fields::PATH_BYTES_MAX;
            reader.wrong(at, format!("expected a path of 1 to {max} bytes, percent-encoded"));
            continue;
        }
        match value {
            Value::Bool(true) => {
                wanted.insert(path.clone(), Wanted::Exists);
            }
            Value::String(text) if fields::value(text).is_some() && !text.contains('\0') => {
                wanted.insert(path.clone(), Wanted::Equals(text.clone()));
            }
            _ => {
                let max = fields::VALUE_BYTES_MAX;
                let detail = format!(
                    "expected true (the path holds something) or a string of at most {max} bytes; \
                     a number or a boolean is written as it was sent, in quotation marks"
                );
                reader.wrong(at, detail);
            }
        }
    }
    wanted
}

/// A filter without its actions, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    actors: Vec<ActorFilter>,
    target_types: Vec<String>,
    outcomes: Vec<Outcome>,
    /// Encoded paths, with the value where one is asked for.
    metadata: Vec<(String, Option<String>)>,
}

impl Rest {
    pub(super) fn of(filter: &Filter) -> Self {
        let metadata = filter.metadata.iter().map(|(path, wanted)| {
            // A path or a value that is too long was refused when it was written; one that got here
            // all the same matches nothing.
            let path = fields::path(path).unwrap_or_default();
            let value = match wanted {
                Wanted::Exists => None,
                Wanted::Equals(text) => Some(fields::value(text).unwrap_or_default()),
            };
            (path, value)
        });
        Self {
            actors: filter.actors.clone(),
            target_types: filter.target_types.clone(),
            outcomes: filter.outcomes.clone(),
            metadata: metadata.collect(),
        }
    }

    /// Whether it asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it asks for metadata.
    pub(super) fn needs_metadata(&self) -> bool {
        !self.metadata.is_empty()
    }

    pub(super) fn matches(&self, facts: &Facts<'_>) -> bool {
        (self.outcomes.is_empty() || self.outcomes.contains(&facts.outcome))
            && (self.actors.is_empty() || self.actors.iter().any(|actor| is_actor(actor, facts)))
            && (self.target_types.is_empty()
                || facts.target_types.iter().any(|kind| self.target_types.contains(kind)))
            && self.metadata.iter().all(|(path, value)| holds(facts.metadata, path, value.as_ref()))
    }
}

fn is_actor(actor: &ActorFilter, facts: &Facts<'_>) -> bool {
    actor.kind == facts.actor_type && actor.id.as_deref().is_none_or(|id| id == facts.actor_id)
}

fn holds(metadata: Option<&fields::Metadata>, path: &str, value: Option<&String>) -> bool {
    let Some(metadata) = metadata else { return false };
    match value {
        Some(value) => metadata.values.get(path).is_some_and(|values| values.contains(value)),
        None => metadata.paths.contains(path),
    }
}

/// Whether `text` is one of those that the glob stands for.
pub(super) fn glob_matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // Each part as early as it can be: what is left is as long as it can be.
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// Whether two globs have a text in common, where one look at their beginnings tells.
fn globs_meet(one: &str, other: &str) -> Option<bool> {
    match (one.split_once('*'), other.split_once('*')) {
        (None, _) => Some(glob_matches(other, one)),
        (_, None) => Some(glob_matches(one, other)),
        (Some((a, a_rest)), Some((b, b_rest))) => {
            if !a.starts_with(b) && !b.starts_with(a) {
                return Some(false);
            }
            // `a*` and `b*`: the longer beginning, which begins with the other, is in both.
            (a_rest.is_empty() && b_rest.is_empty()).then_some(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs() {
        for (glob, yes, no) in [
            ("a.b", &["a.b"][..], &["a.bc", "xa.b", ""][..]),
            ("*", &["", "a", "a.b"], &[]),
            ("invoice.*", &["invoice.", "invoice.paid"], &["invoice", "xinvoice.paid"]),
            ("*.paid", &["invoice.paid", ".paid"], &["invoice.paid.x", "paid"]),
            ("a*b*c", &["abc", "a-b-c", "abbcc", "abcbc"], &["acb", "ab", "abcx"]),
            ("ab*ba", &["abba", "abxba"], &["aba", "ab"]),
            ("**", &["", "x"], &[]),
            ("é*", &["école"], &["e"]),
        ] {
            for text in yes {
                assert!(glob_matches(glob, text), "{glob} {text}");
            }
            for text in no {
                assert!(!glob_matches(glob, text), "{glob} {text}");
            }
        }
    }

    #[test]
    fn meeting_is_told_where_it_can_be() {
        for (one, other, meets) in [
            ("a.b", "a.*", Some(true)),
            ("a.b", "b.*", Some(false)),
            ("a.*", "a.b.*", Some(true)),
            ("a.*", "b.*", Some(false)),
            ("*", "x", Some(true)),
            ("*.paid", "a*", None),
            ("x*.paid", "a*", Some(false)),
        ] {
            assert_eq!(globs_meet(one, other), meets, "{one} {other}");
            assert_eq!(globs_meet(other, one), meets, "{other} {one}");
        }
    }

    /// The obvious way to match, exponential.
    fn naive(glob: &[u8], text: &[u8]) -> bool {
        match glob.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| naive(&glob[1..], &text[skip..])),
            Some(byte) => text.first() == Some(byte) && naive(&glob[1..], &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_as_the_obvious_way_does(glob in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(glob_matches(&glob, &text), naive(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn globs_that_never_meet_match_nothing_together(
            one in "[ab*]{0,5}", other in "[ab*]{0,5}", text in "[ab]{0,8}",
        ) {
            if globs_meet(&one, &other) == Some(false) {
                prop_assert!(!glob_matches(&one, &text) || !glob_matches(&other, &text));
            }
        }
    }
}
