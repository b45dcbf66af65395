//! What happens to a log after it was stored: a revision is appended, or the log is erased. Both
//! read the state back and give search the whole of it.

use std::time::Duration;

use contracts::audit::{Delete, Update};
use contracts::errors::{INTERNAL, LOG_HELD, LOG_MISSING};
use contracts::{Header, LogId, Tenant};
use queue_core::{Attempt, Error, Failure, Reason};
use rand::Rng;
use sinks::error::ItemError;
use sinks::search::DocumentRef;

use super::batches::{Searched, event};
use super::{IndexWorker, failures};
use crate::crash::{self, CrashPoint};
use crate::model::{Erasure, LogKey, NewErasure, NewRevision, Revised, StoredLog};
use crate::{projection, rules};

impl IndexWorker {
    /// Appends a revision. The envelope's id makes it one, however often the message comes.
    pub(in crate::workers) async fn update(
        &self,
        header: &Header,
        update: Update,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let revision = NewRevision {
            envelope_id: header.id,
            tags: update.tags,
            annotation: update.annotation,
            actor: json(&update.requester)?,
            recorded_at: update.recorded_at,
        };
        let revised = self.store.revise(&header.tenant, update.log_id, &revision).await;
        match revised.map_err(|error| failures::store(&error))? {
            Revised::Done(log) => {
                crash::reach(CrashPoint::AfterReviseCommit);
                self.show(&[*log]).await.map(|_| ())
            }
            Revised::Erased => Ok(()),
            Revised::Missing => Err(not_yet(&header.tenant, update.log_id, attempt)),
        }
    }

    /// Erases a log, whether it is stored yet or not, and indexes the audit entries about it. Only
    /// what was stored can have been announced, so only then does the tenant's feed forget.
    pub(in crate::workers) async fn delete(
        &self,
        header: &Header,
        delete: Delete,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let erasure = NewErasure {
            tenant: header.tenant.clone(),
            id: delete.log_id,
            reason: delete.reason,
            requester: json(&delete.requester)?,
            operation_id: header.id,
            recorded_at: delete.recorded_at,
        };
        let entries = rules::erasure_entries(&erasure, &delete.requester, || rand::rng().random())
            .map_err(|refusal| failures::ours(&refusal))?;
        let keys: Vec<LogKey> = entries.iter().map(|entry| entry.key.clone()).collect();
        let erased = self.store.erase(&erasure, &entries).await;
        let erased = match erased.map_err(|error| failures::store(&error))? {
            Erasure::Done(erased) => erased,
            Erasure::Held => return Err(held(&header.tenant, erasure.id)),
            Erasure::Unseen => return Err(not_yet(&header.tenant, erasure.id, attempt)),
        };
        crash::reach(CrashPoint::AfterEraseCommit);

        if let Some(key) = &erased.key {
            let references = [reference(key)];
            for outcome in self.search.erase(&references).await? {
                outcome?;
            }
        }
        crash::reach(CrashPoint::AfterSearchErase);
        if erased.key.is_some() {
            self.feed.forget(&header.tenant).await?;
        }
        // As PostgreSQL holds them: a redelivery may find them with revisions, or erased.
        let entries = self.store.fetch(&keys).await.map_err(|error| failures::store(&error))?;
        let shown = self.show(&entries).await?;
        let events: Vec<_> = entries
            .iter()
            .zip(shown)
            .filter(|(_, searched)| !searched.erased)
            .map(|(log, _)| event(&log.key, log.ingest_xid, &log.record))
            .collect();
        self.batches.announce(events, weight(&entries)).await
    }

    /// Makes the logs' present state searchable; what became of each, none of them failed.
    async fn show(&self, logs: &[StoredLog]) -> Result<Vec<Searched>, Failure> {
        let documents = logs
            .iter()
            .map(projection::of_stored)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| handling(format!("a stored record cannot be read: {error}")))?;
        let shown = self.batches.search(documents, weight(logs)).await?;
        for searched in &shown {
            searched.outcome.clone().map_err(|error: ItemError| Failure::from(error))?;
        }
        Ok(shown)
    }
}

fn weight(logs: &[StoredLog]) -> usize {
    logs.iter().map(|log| log.record.len()).sum()
}

fn reference(key: &LogKey) -> DocumentRef {
    DocumentRef {
        tenant: key.tenant.clone(),
        id: key.id,
        class: key.class,
        recorded_at: key.recorded_at,
    }
}

/// Redriven after the hold's release, it is done.
fn held(tenant: &Tenant, id: LogId) -> Failure {
    let message = format!("log {id} of {tenant} is kept by a legal hold: nothing was erased");
    Failure::Reject(Reason { code: LOG_HELD, message })
}

/// The change came before its log, as it may on a standard queue.
fn not_yet(tenant: &Tenant, id: LogId, attempt: Attempt) -> Failure {
    match rules::wait_for_log(attempt.receives) {
        Some(pause) => Failure::Snooze(pause.max(Duration::from_secs(1))),
        None => Failure::Reject(Reason {
            code: LOG_MISSING,
            message: format!("log {id} of {tenant} was not stored in {} looks", attempt.receives),
        }),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|error| handling(error.to_string()))
}

fn handling(message: String) -> Failure {
    Failure::Retry(Error::handling(INTERNAL, message))
}
