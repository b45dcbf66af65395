//! `_bulk`: a batch cut by bytes on the way out, an answer read item by item on the way in.
//! HTTP 200 proves nothing here; only an item's own status does, and only in its own position.

use serde::Deserialize;
use serde_json::json;

use super::schema;
use crate::error::ItemError;
use crate::search::document::{Document, DocumentRef};

/// Bytes of one request at most, unless one document alone is longer. Amazon's smaller instances
/// refuse requests over 10 MiB.
pub(super) const BULK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Documents of one request at most.
pub(super) const BULK_SLOTS_MAX: usize = 2_000;
/// Only what is read comes back.
pub(super) const FILTER_PATH: &str =
    "items.*._id,items.*.status,items.*.error.type,items.*.error.reason";

/// Errors that pass by themselves, whatever status they come with.
const PASSING: [&str; 9] = [
    "es_rejected_execution_exception",
    "rejected_execution_exception",
    "opensearch_rejected_execution_exception",
    "circuit_breaking_exception",
    "unavailable_shards_exception",
    "cluster_block_exception",
    "process_cluster_event_timeout_exception",
    "no_shard_available_action_exception",
    "index_closed_exception",
];

/// Which of a partition's versions an operation writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that is searched.
    Serving,
    /// The one that a rebuild fills.
    Filling,
}

/// All operations of one document, together in one request: the first names its alias with
/// `require_alias`, so that a delete after it cannot create an index either.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) lines: String,
    pub(super) id: String,
    pub(super) sides: Vec<Side>,
}

impl Slot {
    /// Writes the document's revision.
    pub(super) fn index(targets: &[(Side, &str)], document: &Document) -> Self {
        let log = document.reference();
        let mut slot = Self { id: schema::document_id(&log), ..Self::default() };
        let source = schema::source(document).to_string();
        for (side, alias) in targets {
            let version = schema::version(document.revision);
            slot.push(*side, "index", alias, &log, version, Some(&source));
        }
        slot
    }

    /// Takes a log out: an empty document above every revision, then its delete. The first would
    /// do for searches; the second leaves nothing behind.
    pub(super) fn erase(targets: &[(Side, &str)], log: &DocumentRef) -> Self {
        let mut slot = Self { id: schema::document_id(log), ..Self::default() };
        let source = schema::erased_source(log).to_string();
        for (side, alias) in targets {
            slot.push(*side, "index", alias, log, schema::ERASED_VERSION, Some(&source));
            slot.push(*side, "delete", alias, log, schema::ERASED_VERSION + 1, None);
        }
        slot
    }

    fn push(
        &mut self,
        side: Side,
        operation: &str,
        alias: &str,
        log: &DocumentRef,
        version: u64,
        source: Option<&str>,
    ) {
        let mut action = json!({
            "_index": alias,
            "_id": self.id,
            "routing": log.tenant,
            "version": version,
            "version_type": "external",
        });
        if source.is_some() {
            action["require_alias"] = true.into();
        }
        self.lines.push_str(&json!({ operation: action }).to_string());
        self.lines.push('\n');
        if let Some(source) = source {
            self.lines.push_str(source);
            self.lines.push('\n');
        }
        self.sides.push(side);
    }
}

/// How many of `slots`, from the front, go into one request: at least one.
pub(super) fn chunk_len(slots: &[&Slot], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = slots.iter().take(BULK_SLOTS_MAX).take_while(|slot| {
        bytes += slot.lines.len();
        bytes <= bytes_max
    });
    fits.count().max(1)
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    Superseded,
    /// The alias it was sent to is gone: find out where the partition is now, and send again.
    Moved,
    Failed(ItemError),
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Reads the answer to a request of these slots. One that does not account for every operation in
/// its place accounts for none.
pub(super) fn read(slots: &[&Slot], body: &str) -> Vec<Outcome> {
    let unclear = |why: String| vec![Outcome::Failed(ItemError::Retry(why)); slots.len()];
    let answer: Answer = match serde_json::from_str(body) {
        Ok(answer) => answer,
        Err(error) => return unclear(format!("the bulk answer cannot be read: {error}")),
    };
    let expected: usize = slots.iter().map(|slot| slot.sides.len()).sum();
    if answer.items.len() != expected {
        let got = answer.items.len();
        return unclear(format!("the bulk answer has {got} items for {expected} operations"));
    }
    let mut items = answer.items.iter().map(Item::read);
    let mut outcomes = Vec::with_capacity(slots.len());
    for slot in slots {
        let mut outcome = Outcome::Superseded;
        for side in &slot.sides {
            let Some(Some(item)) = items.next() else {
                return unclear("a bulk item has no status".into());
            };
            if item.id.is_some_and(|id| id != slot.id) {
                return unclear("the bulk answer is out of order".into());
            }
            outcome = worse(outcome, item.outcome(*side));
        }
        outcomes.push(outcome);
    }
    outcomes
}

/// The outcome of a document from those of its operations.
fn worse(so_far: Outcome, next: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Superseded => 0,
        Outcome::Written => 1,
        Outcome::Failed(ItemError::Reject(_)) => 2,
        Outcome::Failed(ItemError::Retry(_)) => 3,
        Outcome::Moved => 4,
    };
    if rank(&next) > rank(&so_far) { next } else { so_far }
}

struct Item<'a> {
    id: Option<&'a str>,
    operation: &'a str,
    status: u64,
    error: Option<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    fn read(item: &'a serde_json::Map<String, serde_json::Value>) -> Option<Self> {
        let (operation, body) = item.iter().next()?;
        let text =
            |value: &'a serde_json::Value, key| value.get(key).and_then(serde_json::Value::as_str);
        Some(Self {
            id: text(body, "_id"),
            operation,
            status: body.get("status")?.as_u64()?,
            error: body.get("error").map(|error| {
                (text(error, "type").unwrap_or_default(), text(error, "reason").unwrap_or_default())
            }),
        })
    }

    fn outcome(&self, side: Side) -> Outcome {
        let (kind, reason) = self.error.unwrap_or_default();
        let why = || format!("status {}: {kind}: {reason}", self.status);
        match self.status {
            200..=299 => Outcome::Written,
            409 => Outcome::Superseded,
            404 if self.operation == "delete" && self.error.is_none() => Outcome::Superseded,
            404 if kind == "index_not_found_exception" => Outcome::Moved,
            400 if !PASSING.contains(&kind) => match side {
                Side::Serving => Outcome::Failed(ItemError::Reject(why())),
                // The rebuild's own fill meets the same refusal and reports it; the log itself is
                // served from the other version.
                Side::Filling => Outcome::Superseded,
            },
            _ => Outcome::Failed(ItemError::Retry(why())),
        }
    }
}
