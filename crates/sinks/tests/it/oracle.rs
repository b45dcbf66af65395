//! What the right answer is, by looking at every document: slow, plain, and written apart from the
//! code that both engines share, but for the analysis of words.

use std::collections::BTreeSet;

use serde_json::Value;
use sinks::search::{Document, MetadataFilter, Query, TimeRange, Word, tokens};

/// Whether a document matches.
pub(crate) fn matches(document: &Document, query: &Query) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|w| w == value);
    let target = query.target_type.is_none() && query.target_id.is_none()
        || document
            .targets
            .iter()
            .any(|target| is(&query.target_type, &target.kind) && is(&query.target_id, &target.id));
    target
        && is(&query.actor_id, &document.actor.id)
        && is(&query.actor_type, &document.actor.kind)
        && is(&query.action, &document.action)
        && is(&query.outcome, &document.outcome)
        && query.tags.iter().all(|tag| document.tags.contains(tag))
        && within(query.recorded_at, Some(document.recorded_at))
        && within(query.occurred_at, document.occurred_at)
        && query.metadata.iter().all(|filter| metadata_matches(document, filter))
        && words_match(document, &query.words)
}

fn within(range: TimeRange, at: Option<chrono::DateTime<chrono::Utc>>) -> bool {
    match at {
        None => range == TimeRange::default(),
        Some(at) => range.from.is_none_or(|from| from <= at) && range.to.is_none_or(|to| at < to),
    }
}

fn words_match(document: &Document, words: &[Word]) -> bool {
    let mut passages: Vec<Vec<String>> =
        document.passages().iter().map(|passage| tokens::words(passage)).collect();
    let compounds: Vec<Vec<String>> = passages
        .iter()
        .flatten()
        .filter(|token| token.chars().any(char::is_alphabetic))
        .map(|token| token.split(['.', '_', ':']).map(str::to_owned).collect())
        .filter(|parts: &Vec<String>| parts.len() > 1)
        .collect();
    passages.extend(compounds);
    let all: BTreeSet<&String> = passages.iter().flatten().collect();
    words.iter().all(|word| match word {
        Word::Token(token) => all.contains(token),
        Word::Prefix(prefix) => all.iter().any(|token| token.starts_with(prefix)),
        Word::Phrase(phrase) => {
            passages.iter().any(|passage| passage.windows(phrase.len()).any(|w| w == phrase))
        }
    })
}

fn metadata_matches(document: &Document, filter: &MetadataFilter) -> bool {
    let metadata: Value = document
        .metadata
        .as_ref()
        .map_or(Value::Null, |metadata| serde_json::from_str(metadata.get()).unwrap());
    let (path, wanted) = match filter {
        MetadataFilter::Equals { path, value } => (path, Some(value)),
        MetadataFilter::Exists { path } => (path, None),
    };
    let keys: Vec<&str> = path.split('.').collect();
    let mut leaves = Vec::new();
    collect(&metadata, &keys, wanted.is_none(), &mut leaves);
    match wanted {
        None => !leaves.is_empty(),
        Some(wanted) => leaves.contains(wanted),
    }
}

/// The leaves at a path, and below it when `below`; arrays do not count as a level.
fn collect(node: &Value, keys: &[&str], below: bool, leaves: &mut Vec<String>) {
    match (node, keys) {
        (Value::Array(items), _) => {
            for item in items {
                collect(item, keys, below, leaves);
            }
        }
        (Value::Object(members), []) if below => {
            for child in members.values() {
                collect(child, keys, below, leaves);
            }
        }
        (Value::Object(members), [key, rest @ ..]) => {
            if let Some(child) = members.get(*key) {
                collect(child, rest, below, leaves);
            }
        }
        (Value::String(text), []) => leaves.push(text.clone()),
        (Value::Bool(_) | Value::Number(_), []) => leaves.push(node.to_string()),
        _ => {}
    }
}
