//! The path of new logs through the three sinks, in the one order that a crash anywhere leaves
//! repairable: PostgreSQL, then search, then the live tail. The message is settled after the last.

use contracts::errors::{REJECTED_BY_SEARCH, REJECTED_BY_STORE};
use database::DbErrorClass;
use queue_core::{Failure, Reason};
use sinks::error::ItemError;

use super::IndexWorker;
use super::batches::{Origin, Stored};
use crate::crash::{self, CrashPoint};
use crate::model::NewLog;

/// A log that a sink will never take.
#[derive(Debug)]
pub(in crate::workers) struct Refused {
    /// Its place among the logs that were handed over.
    pub(in crate::workers) place: usize,
    /// What it came with.
    pub(in crate::workers) origin: Origin,
    /// Which sink, and why.
    pub(in crate::workers) reason: Reason,
}

impl IndexWorker {
    /// Stores logs, makes them searchable, announces them. **Every** handled log is announced, not
    /// only a new one: a crash after the commit would lose the rest, and readers drop repeats. But
    /// not one that was erased: the feed would keep what nobody may see. It may keep it already, from
    /// an attempt that broke off before it looked for tombstones, so it is made to forget.
    ///
    /// What one log has to wait for does not keep the others: they go all the way first.
    pub(in crate::workers) async fn ingest(
        &self,
        logs: Vec<NewLog>,
        bytes: usize,
    ) -> Result<Vec<Refused>, Failure> {
        let tenant = logs.first().map(|log| log.key.tenant.clone());
        let stored = self.batches.store(logs, bytes).await?;
        crash::reach(CrashPoint::AfterInsertCommit);

        let mut refused = Vec::new();
        let (mut waiting, mut erased) = (None, false);
        let (mut documents, mut events, mut kept) =
            (Vec::with_capacity(stored.len()), Vec::with_capacity(stored.len()), Vec::new());
        for (place, log) in stored.into_iter().enumerate() {
            match log {
                Stored::Kept { document, event, origin } => {
                    documents.push(*document);
                    kept.push((place, origin, event));
                }
                Stored::Erased => erased = true,
                Stored::Refused { origin, why } => {
                    let reason = Reason { code: REJECTED_BY_STORE, message: why };
                    refused.push(Refused { place, origin, reason });
                }
                Stored::Waiting(error) => waiting = Some(error.message),
            }
        }
        let mut not_now = None;
        let searched = self.batches.search(documents, bytes).await?;
        for ((place, origin, event), searched) in kept.into_iter().zip(searched) {
            if searched.erased {
                erased = true;
            } else {
                events.push(event);
            }
            match searched.outcome {
                Ok(()) => {}
                Err(ItemError::Reject(message)) => {
                    let reason = Reason { code: REJECTED_BY_SEARCH, message };
                    refused.push(Refused { place, origin, reason });
                }
                Err(ItemError::Retry(message)) => not_now = Some(ItemError::Retry(message)),
            }
        }
        self.batches.announce(events, bytes).await?;
        if let Some(tenant) = tenant.filter(|_| erased) {
            self.feed.forget(&tenant).await?;
        }
        match (not_now, waiting) {
            (Some(error), _) => Err(error.into()),
            (None, Some(message)) => Err(DbErrorClass::NoPartition.failure(message)),
            (None, None) => Ok(refused),
        }
    }
}
