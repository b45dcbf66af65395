//! What an index looks like: its template, its names, a document's JSON and its version number.
//! Pure; changing the mapping takes a rebuild of the partitions that should have it.

use serde_json::{Value, json};

use crate::search::document::{Document, DocumentRef};
use crate::search::partition::Partition;
use crate::search::terms::{METADATA, Terms};
use crate::search::tokens::TokenStream;

/// Above every revision's version; the delete itself is one higher.
pub(super) const ERASED_VERSION: u64 = 1 << 62;
/// Revisions stop here, so that an erasure always wins.
pub(super) const REVISION_MAX: u64 = ERASED_VERSION - 2;

/// The external version of a revision: from 1, rising with it, below every erasure.
pub(super) fn version(revision: u64) -> u64 {
    revision.min(REVISION_MAX) + 1
}

/// The names below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The template.
    pub(super) fn template(&self) -> String {
        format!("{}-logs", self.prefix)
    }

    /// The alias over every index that is searched.
    pub(super) fn read(&self) -> String {
        format!("{}-read", self.prefix)
    }

    /// What the names of a partition's indices and aliases begin with.
    pub(super) fn base(&self, partition: Partition) -> String {
        format!("{}-{partition}", self.prefix)
    }

    /// The composable template: strict, so that a field we do not know is an error that is seen,
    /// and one flattened field for whatever a client sends, so that fields cannot explode.
    pub(super) fn template_body(&self) -> Value {
        json!({
            "index_patterns": [format!("{}-*-v*", self.prefix)],
            "priority": 200,
            "template": {
                "settings": {
                    "number_of_shards": 1,
                    "auto_expand_replicas": "0-1",
                    // A log is searchable within this, and an index that nobody searched is
                    // refreshed all the same.
                    "refresh_interval": "500ms",
                    // How long a delete remembers its version: above every call's time limit.
                    "gc_deletes": "10m",
                },
                "mappings": mappings(),
            },
        })
    }
}

fn mappings() -> Value {
    let keyword = json!({ "type": "keyword" });
    json!({
        "dynamic": "strict",
        "_routing": { "required": true },
        "_source": { "excludes": ["words"] },
        "properties": {
            "tenant": keyword,
            "id": keyword,
            "class": keyword,
            "revision": { "type": "long", "index": false },
            // For people and dashboards; `date` ends at milliseconds.
            "recorded_at": { "type": "date", "format": "strict_date_time" },
            // Microseconds since 1970: what is sorted and ranged by.
            "recorded_us": { "type": "long" },
            "occurred_us": { "type": "long" },
            "actor_type": keyword,
            "actor_id": keyword,
            "action": keyword,
            "outcome": keyword,
            "target_types": keyword,
            "target_ids": keyword,
            "targets": { "type": "keyword", "doc_values": false },
            "tags": keyword,
            METADATA: { "type": "flat_object" },
            "metadata_paths": { "type": "keyword", "doc_values": false },
            // Tokens come ready: cut at white space, nothing else.
            "words": { "type": "text", "analyzer": "whitespace", "norms": false },
        },
    })
}

/// `_id`: the tenant is in it, so that no tenant can ever write over another's document.
pub(super) fn document_id(log: &DocumentRef) -> String {
    format!("{}/{}", log.tenant, log.id)
}

/// The document as it is stored.
pub(super) fn source(document: &Document) -> Value {
    let mut source = Terms::of_document(document).to_json();
    let words = TokenStream::of(&document.passages()).to_text();
    let recorded_at = document.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    for (field, value) in [
        ("tenant", json!(document.tenant)),
        ("id", json!(document.id)),
        ("class", json!(document.class)),
        ("revision", json!(document.revision.min(REVISION_MAX))),
        ("recorded_at", json!(recorded_at)),
        ("recorded_us", json!(document.recorded_at.timestamp_micros())),
        ("words", json!(words)),
    ] {
        source.insert(field.to_owned(), value);
    }
    if let Some(occurred_at) = document.occurred_at {
        source.insert("occurred_us".to_owned(), json!(occurred_at.timestamp_micros()));
    }
    Value::Object(source)
}

/// What stands in for an erased log for the moment between its two operations.
pub(super) fn erased_source(log: &DocumentRef) -> Value {
    json!({ "tenant": log.tenant, "id": log.id, "class": log.class })
}

#[cfg(test)]
mod tests {
    use super::{ERASED_VERSION, version};

    #[test]
    fn versions_rise_from_one_and_end_below_an_erasure() {
        assert_eq!((version(0), version(1), version(41)), (1, 2, 42));
        assert!(version(u64::MAX) < ERASED_VERSION);
        assert!(i64::try_from(ERASED_VERSION + 1).is_ok());
    }
}
