//! A query as OpenSearch's JSON, and its answer read with suspicion: a shard that did not answer
//! makes the whole page an error, never a shorter page.

use chrono::DateTime;
use contracts::{LogId, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::NAME;
use crate::error::{SinkError, SinkErrorKind};
use crate::search::query::{Query, TimeRange, Word};
use crate::search::terms::Terms;
use crate::search::{Hit, Page, SortKey};

/// The filter that finds what matches; `None` when nothing can.
pub(super) fn filter(tenant: &Tenant, query: &Query) -> Option<Value> {
    let terms = Terms::of_query(query)?;
    let mut all = vec![json!({ "term": { "tenant": tenant } })];
    all.extend(terms.each().map(|(field, term)| json!({ "term": { field: term } })));
    all.extend(query.words.iter().map(|word| match word {
        Word::Token(token) => json!({ "term": { "words": token } }),
        Word::Prefix(prefix) => json!({ "prefix": { "words": prefix } }),
        Word::Phrase(tokens) => json!({ "match_phrase": { "words": tokens.join(" ") } }),
    }));
    all.extend(range("recorded_us", query.recorded_at));
    all.extend(range("occurred_us", query.occurred_at));
    Some(json!({ "bool": { "filter": all } }))
}

fn range(field: &str, range: TimeRange) -> Option<Value> {
    let mut bounds = serde_json::Map::new();
    for (bound, at) in [("gte", range.from), ("lt", range.to)] {
        if let Some(at) = at {
            bounds.insert(bound.to_owned(), at.timestamp_micros().into());
        }
    }
    (!bounds.is_empty()).then(|| json!({ "range": { field: bounds } }))
}

/// What counts those of these logs that are there.
pub(super) fn among(tenant: &Tenant, logs: &[LogId]) -> Value {
    json!({ "query": { "bool": { "filter": [
        { "term": { "tenant": tenant } },
        { "terms": { "id": logs } },
    ] } } })
}

/// A whole search request.
pub(super) fn request(filter: &Value, limit: usize, after: Option<SortKey>) -> Value {
    let mut request = json!({
        "size": limit,
        "track_total_hits": false,
        "_source": false,
        "docvalue_fields": ["class"],
        "query": filter,
        "sort": [
            { "recorded_us": { "order": "desc", "unmapped_type": "long" } },
            { "id": { "order": "desc", "unmapped_type": "keyword" } },
        ],
    });
    if let Some(after) = after {
        request["search_after"] = json!([after.recorded_at.timestamp_micros(), after.id]);
    }
    request
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<FoundHit>,
}

#[derive(Deserialize)]
struct FoundHit {
    sort: (i64, contracts::LogId),
    fields: FoundFields,
}

#[derive(Deserialize)]
struct FoundFields {
    class: (contracts::RetentionClass,),
}

/// Reads a page of at most `limit`.
pub(super) fn page(answer: Value, limit: usize) -> Result<Page, SinkError> {
    let found: Found = read(answer)?;
    if found.timed_out {
        return Err(SinkError::new(NAME, SinkErrorKind::Timeout, "the search took too long"));
    }
    complete(&found.shards)?;
    let hits: Option<Vec<Hit>> = found
        .hits
        .hits
        .into_iter()
        .map(|hit| {
            let (micros, id) = hit.sort;
            let recorded_at = DateTime::from_timestamp_micros(micros)?;
            Some(Hit { id, recorded_at, class: hit.fields.class.0 })
        })
        .collect();
    let hits = hits.ok_or_else(|| {
        SinkError::new(NAME, SinkErrorKind::Refused, "a hit's time is out of range")
    })?;
    let next = hits.last().filter(|_| hits.len() >= limit).map(Hit::sort_key);
    Ok(Page { hits, next })
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
    #[serde(rename = "_shards")]
    shards: Shards,
}

/// Reads a count.
pub(super) fn count(answer: Value) -> Result<u64, SinkError> {
    let counted: Counted = read(answer)?;
    complete(&counted.shards)?;
    Ok(counted.count)
}

fn complete(shards: &Shards) -> Result<(), SinkError> {
    if shards.failed > 0 {
        let why = format!("{} shards did not answer", shards.failed);
        return Err(SinkError::new(NAME, SinkErrorKind::Unavailable, why));
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, SinkError> {
    serde_json::from_value(answer).map_err(|error| {
        let why = format!("the answer cannot be understood: {error}");
        SinkError::new(NAME, SinkErrorKind::Refused, why)
    })
}
