//! The store stage: logs of many messages in one sorted insert, repeats removed, poison bisected
//! out, and for what was there before the state that PostgreSQL holds.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use database::DbErrorClass;
use queue_core::coalesce::{BisectError, bisect};
use sinks::events::{Outcome, told};
use sinks::pubsub::FeedEvent;
use sinks::pubsub::event::RECORD_BYTES_MAX;
use sinks::search::Document;

use crate::model::{Inserted, LogKey, NewLog, StoredLog};
use crate::projection;
use crate::rules::{self, Unplaced};
use crate::store::{LogStore, StoreError};
use crate::workers::index::events::BatchStored;

/// What became of one log.
#[derive(Clone, Debug)]
pub enum Stored {
    /// PostgreSQL holds it, since now or before.
    Kept {
        /// Its document, built from what PostgreSQL holds.
        document: Box<Document>,
        /// Its announcement.
        event: FeedEvent,
        /// Its record and leaf salt, in case search refuses it.
        origin: Origin,
    },
    /// It was erased: it is not stored, and must be neither searchable nor announced.
    Erased,
    /// PostgreSQL refuses the row.
    Refused {
        /// What came.
        origin: Origin,
        /// Why.
        why: String,
    },
    /// It belongs into a partition that is not made yet.
    Waiting(StoreError),
}

/// What a log came with: enough to send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The canonical record.
    pub record: Bytes,
    /// Its leaf salt.
    pub salt: [u8; 16],
}

/// How a range of the batch went.
#[derive(Clone, Copy)]
enum Row {
    /// New, by this transaction.
    New(u64),
    /// Some of its range were there before or are erased: ask.
    Ask,
}

/// Stores the logs of several messages; one outcome per message.
pub(super) async fn flush(
    store: &dyn LogStore,
    now: DateTime<Utc>,
    messages: Vec<Vec<NewLog>>,
) -> Vec<Result<Vec<Stored>, StoreError>> {
    let sizes: Vec<usize> = messages.iter().map(Vec::len).collect();
    let (logs, slots) = sorted_unique(messages);
    let outcomes = match insert(store, &logs).await {
        Ok(rows) => match known(store, &logs, &rows).await {
            Ok(known) => {
                let fresh = rows.iter().filter(|row| matches!(row, Ok(Row::New(_)))).count();
                let outcomes: Vec<Stored> = logs
                    .into_iter()
                    .zip(rows)
                    .map(|(log, row)| outcome(log, row, &known, now))
                    .collect();
                tell(&outcomes, fresh);
                outcomes
            }
            Err(error) => return vec![Err(error); sizes.len()],
        },
        Err(error) => return vec![Err(error); sizes.len()],
    };
    share_out(outcomes, &slots, &sizes)
}

fn tell(outcomes: &[Stored], fresh: usize) {
    let mut event = BatchStored { stored: fresh as u64, ..BatchStored::default() };
    for outcome in outcomes {
        match outcome {
            Stored::Kept { .. } => event.known += 1,
            Stored::Erased => event.erased += 1,
            Stored::Refused { .. } => event.refused += 1,
            Stored::Waiting(_) => event.waiting += 1,
        }
    }
    // Kept are the new ones and those that were there before.
    event.known = event.known.saturating_sub(event.stored);
    event.emit();
}

/// The batch sorted by key without repeats, and for each slot (message by message, log by log) the
/// place of its log in it.
fn sorted_unique(messages: Vec<Vec<NewLog>>) -> (Vec<NewLog>, Vec<usize>) {
    let mut all: Vec<(usize, NewLog)> = messages.into_iter().flatten().enumerate().collect();
    all.sort_unstable_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    let mut slots = vec![0; all.len()];
    let mut logs: Vec<NewLog> = Vec::with_capacity(all.len());
    for (slot, log) in all {
        if logs.last().is_none_or(|last| last.key != log.key) {
            logs.push(log);
        }
        slots[slot] = logs.len() - 1;
    }
    (logs, slots)
}

async fn insert(
    store: &dyn LogStore,
    logs: &[NewLog],
) -> Result<Vec<Result<Row, StoreError>>, StoreError> {
    bisect((0..logs.len()).collect(), |places: Vec<usize>| async move {
        // Bisection hands over whole ranges.
        let (first, last) = (places[0], places[places.len() - 1]);
        match told("postgres", "insert", ended, store.insert(&logs[first..=last])).await {
            Ok(done) if done.new_rows == places.len() as u64 => {
                Ok(vec![Row::New(done.ingest_xid); places.len()])
            }
            Ok(_) => Ok(vec![Row::Ask; places.len()]),
            Err(error) => Err(match error.class {
                DbErrorClass::Data | DbErrorClass::NoPartition => BisectError::Data(error),
                _ => BisectError::Whole(error),
            }),
        }
    })
    .await
}

fn ended(answer: &Result<Inserted, StoreError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Ok,
        Err(error) => match error.class {
            DbErrorClass::Retry | DbErrorClass::Unavailable => Outcome::Unavailable,
            DbErrorClass::Data | DbErrorClass::NoPartition | DbErrorClass::Fault => {
                Outcome::Refused
            }
        },
    }
}

async fn known(
    store: &dyn LogStore,
    logs: &[NewLog],
    rows: &[Result<Row, StoreError>],
) -> Result<HashMap<LogKey, StoredLog>, StoreError> {
    let keys: Vec<LogKey> = logs
        .iter()
        .zip(rows)
        .filter(|(_, row)| matches!(row, Ok(Row::Ask)))
        .map(|(log, _)| log.key.clone())
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let found = store.fetch(&keys).await?;
    Ok(found.into_iter().map(|log| (log.key.clone(), log)).collect())
}

fn outcome(
    log: NewLog,
    row: Result<Row, StoreError>,
    known: &HashMap<LogKey, StoredLog>,
    now: DateTime<Utc>,
) -> Stored {
    let origin = Origin { record: log.record, salt: log.salt };
    match row {
        Ok(Row::New(ingest_xid)) => Stored::Kept {
            event: event(&log.key, ingest_xid, &origin.record),
            document: Box::new(log.document),
            origin,
        },
        // Neither inserted nor there: a tombstone stands in its place.
        Ok(Row::Ask) => known.get(&log.key).map_or(Stored::Erased, |stored| kept(origin, stored)),
        Err(error) => {
            let waits = error.class == DbErrorClass::NoPartition
                && rules::unplaced(log.key.class, log.key.recorded_at, now) == Unplaced::Wait;
            if waits {
                Stored::Waiting(error)
            } else {
                Stored::Refused { origin, why: error.message }
            }
        }
    }
}

/// A log that PostgreSQL holds, as it holds it.
fn kept(origin: Origin, stored: &StoredLog) -> Stored {
    match projection::of_stored(stored) {
        Ok(document) => Stored::Kept {
            event: event(&stored.key, stored.ingest_xid, &stored.record),
            document: Box::new(document),
            origin,
        },
        Err(error) => Stored::Refused { origin, why: format!("the stored record: {error}") },
    }
}

/// The announcement of a stored log; readers fetch a large record from PostgreSQL.
pub(in crate::workers::index) fn event(key: &LogKey, ingest_xid: u64, record: &Bytes) -> FeedEvent {
    FeedEvent {
        tenant: key.tenant.clone(),
        id: key.id,
        ingest_xid,
        recorded_at: key.recorded_at,
        record: (record.len() <= RECORD_BYTES_MAX).then(|| record.clone()),
    }
}

/// Gives every message the outcomes of its own logs; one that stands twice in the batch is copied.
fn share_out(
    outcomes: Vec<Stored>,
    slots: &[usize],
    sizes: &[usize],
) -> Vec<Result<Vec<Stored>, StoreError>> {
    let mut uses = vec![0_u32; outcomes.len()];
    for place in slots {
        uses[*place] += 1;
    }
    let mut outcomes: Vec<Option<Stored>> = outcomes.into_iter().map(Some).collect();
    let mut slots = slots.iter();
    sizes
        .iter()
        .map(|size| {
            let own = slots.by_ref().take(*size).filter_map(|place| {
                uses[*place] -= 1;
                if uses[*place] == 0 { outcomes[*place].take() } else { outcomes[*place].clone() }
            });
            Ok(own.collect())
        })
        .collect()
}
