//! Everything that is matched exactly, as terms: the same set for a document in both engines, and
//! for a query the terms that must all be in it. Their JSON form is what PostgreSQL stores and
//! contains-checks, and what OpenSearch maps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::document::{Document, Entity};
use super::fields::{self, keyword};
use super::query::{MetadataFilter, Query};

/// Joins a target's type and id into one term, so that both are of the same target.
const PAIR: char = '\u{1f}';
/// The field of metadata's values; below it one key per path.
pub(crate) const METADATA: &str = "metadata";

/// A set of terms by field; metadata's values by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    fields: BTreeMap<&'static str, BTreeSet<String>>,
    metadata: BTreeMap<String, BTreeSet<String>>,
}

impl Terms {
    /// What a document can be found by.
    pub(crate) fn of_document(document: &Document) -> Self {
        let mut terms = Self::default();
        terms.add_value("actor_type", &document.actor.kind);
        terms.add_value("actor_id", &document.actor.id);
        terms.add_value("action", &document.action);
        terms.add_value("outcome", &document.outcome);
        for target in &document.targets {
            terms.add_value("target_types", &target.kind);
            terms.add_value("target_ids", &target.id);
            if !target.kind.is_empty() && !target.id.is_empty() {
                terms.add("targets", pair(target));
            }
        }
        for tag in &document.tags {
            terms.add_value("tags", tag);
        }
        if let Some(metadata) = &document.metadata {
            let found = fields::metadata(metadata);
            terms.metadata = found.values;
            for path in found.paths {
                terms.add("metadata_paths", path);
            }
        }
        terms
    }

    /// What a query asks for; `None` when no document can have it.
    pub(crate) fn of_query(query: &Query) -> Option<Self> {
        let mut terms = Self::default();
        let single = [
            ("actor_type", &query.actor_type),
            ("actor_id", &query.actor_id),
            ("action", &query.action),
            ("outcome", &query.outcome),
        ];
        for (field, value) in single {
            if let Some(value) = value {
                terms.add(field, keyword(value));
            }
        }
        match (&query.target_type, &query.target_id) {
            (Some(kind), Some(id)) => {
                let entity = Entity { kind: kind.clone(), id: id.clone(), name: None };
                terms.add("targets", pair(&entity));
            }
            (Some(kind), None) => terms.add("target_types", keyword(kind)),
            (None, Some(id)) => terms.add("target_ids", keyword(id)),
            (None, None) => {}
        }
        for tag in &query.tags {
            terms.add("tags", keyword(tag));
        }
        for filter in &query.metadata {
            match filter {
                MetadataFilter::Exists { path } => terms.add("metadata_paths", fields::path(path)?),
                MetadataFilter::Equals { path, value } => {
                    let values = terms.metadata.entry(fields::path(path)?).or_default();
                    values.insert(fields::value(value)?);
                }
            }
        }
        Some(terms)
    }

    fn add_value(&mut self, field: &'static str, value: &str) {
        if !value.is_empty() {
            self.add(field, keyword(value));
        }
    }

    fn add(&mut self, field: &'static str, term: String) {
        self.fields.entry(field).or_default().insert(term);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.metadata.is_empty()
    }

    /// `{"action": ["…"], …, "metadata": {"a.b": ["…"]}}`: sorted, so equal sets are equal text.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (field, terms) in &self.fields {
            object.insert((*field).to_owned(), json!(terms));
        }
        if !self.metadata.is_empty() {
            object.insert(METADATA.to_owned(), json!(self.metadata));
        }
        object
    }

    /// Each term with its full field name, `metadata.a.b` for metadata.
    pub(crate) fn each(&self) -> impl Iterator<Item = (String, &str)> {
        let fields = self.fields.iter().flat_map(|(field, terms)| {
            terms.iter().map(|term| ((*field).to_owned(), term.as_str()))
        });
        let metadata = self.metadata.iter().flat_map(|(path, terms)| {
            terms.iter().map(move |term| (format!("{METADATA}.{path}"), term.as_str()))
        });
        fields.chain(metadata)
    }
}

fn pair(target: &Entity) -> String {
    keyword(&format!("{}{PAIR}{}", target.kind, target.id))
}
