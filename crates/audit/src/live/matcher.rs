//! Whether a log is one that the client asked for. Equality and existence on the record, the same
//! answers as search gives; words, tags and times belong to search.

use sinks::search::{MetadataFilter, Query, fields};

use crate::record::{Event, Party, Record};

/// The filters of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Matcher {
    query: Query,
    /// Encoded paths, with the value where one is asked for.
    metadata: Vec<(String, Option<String>)>,
}

impl Matcher {
    /// Takes the filters that can be decided on a record alone; else the name of one that cannot.
    pub(super) fn new(query: &Query) -> Result<Self, &'static str> {
        let times = [query.recorded_at, query.occurred_at];
        if !query.words.is_empty() {
            return Err("q");
        }
        if !query.tags.is_empty() {
            return Err("tag");
        }
        if times.iter().any(|range| range.from.is_some() || range.to.is_some()) {
            return Err("a time");
        }
        let mut metadata = Vec::with_capacity(query.metadata.len());
        for filter in &query.metadata {
            let (path, value) = match filter {
                MetadataFilter::Equals { path, value } => {
                    (path, Some(fields::value(value).ok_or("a metadata value of that length")?))
                }
                MetadataFilter::Exists { path } => (path, None),
            };
            metadata.push((fields::path(path).ok_or("a metadata path of that length")?, value));
        }
        Ok(Self { query: query.clone(), metadata })
    }

    /// Whether the record matches; one that cannot be read matches, so that it is not hidden.
    pub(super) fn matches(&self, record: &[u8]) -> bool {
        let Ok(record) = Record::parse(record) else { return true };
        self.matches_event(&record.event)
    }

    fn matches_event(&self, event: &Event<'_>) -> bool {
        let query = &self.query;
        let same = |wanted: &Option<String>, got: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == got)
        };
        let target = |party: &Party<'_>| {
            same(&query.target_id, party.id.as_str())
                && same(&query.target_type, party.kind.as_str())
        };
        let any_target = query.target_id.is_none() && query.target_type.is_none();
        same(&query.actor_id, event.actor.id.as_str())
            && same(&query.actor_type, event.actor.kind.as_str())
            && same(&query.action, event.action.as_str())
            && same(&query.outcome, event.outcome.as_str())
            && (any_target || event.targets.iter().any(target))
            && self.matches_metadata(event)
    }

    fn matches_metadata(&self, event: &Event<'_>) -> bool {
        if self.metadata.is_empty() {
            return true;
        }
        let Some(raw) = event.metadata else { return false };
        let flat = fields::metadata(raw);
        self.metadata.iter().all(|(path, value)| match value {
            Some(value) => flat.values.get(path).is_some_and(|values| values.contains(value)),
            None => flat.paths.contains(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"id":"0193e9a0-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-02T03:04:05Z","class":"1y","source":{"key_id":"k1"},"event":{"actor":{"type":"user","id":"u1"},"action":"a","targets":[{"type":"doc","id":"1"},{"type":"file","id":"2"}],"outcome":"denied","metadata":{"x":{"y":[1.50]}}}}"#;

    fn matches(change: impl FnOnce(&mut Query)) -> bool {
        let mut query = Query::default();
        change(&mut query);
        Matcher::new(&query).unwrap().matches(RECORD.as_bytes())
    }

    #[test]
    fn every_filter_can_refuse() {
        assert!(matches(|_| {}));
        assert!(matches(|query| query.actor_id = Some("u1".into())));
        assert!(!matches(|query| query.actor_id = Some("u2".into())));
        assert!(!matches(|query| query.actor_type = Some("key".into())));
        assert!(!matches(|query| query.action = Some("b".into())));
        assert!(matches(|query| query.outcome = Some("denied".into())));
        assert!(!matches(|query| query.outcome = Some("success".into())));
        assert!(matches(|query| query.target_id = Some("2".into())));
        assert!(!matches(|query| {
            query.target_id = Some("2".into());
            query.target_type = Some("doc".into());
        }));
        let equals =
            |value: &str| MetadataFilter::Equals { path: "x.y".into(), value: value.into() };
        assert!(matches(|query| query.metadata.push(equals("1.50"))));
        assert!(!matches(|query| query.metadata.push(equals("1.5"))));
        let exists = |path: &str| MetadataFilter::Exists { path: path.into() };
        assert!(matches(|query| query.metadata.push(exists("x"))));
        assert!(!matches(|query| query.metadata.push(exists("z"))));
    }

    #[test]
    fn what_search_alone_can_answer_is_refused() {
        let words = Query { words: Query::parse_q("a").unwrap(), ..Query::default() };
        assert_eq!(Matcher::new(&words).unwrap_err(), "q");
        let tags = Query { tags: vec!["t".into()], ..Query::default() };
        assert_eq!(Matcher::new(&tags).unwrap_err(), "tag");
    }
}
