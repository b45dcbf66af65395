//! The legacy queue's lane of the index worker: bare messages of producers that have not moved yet. Those
//! about logs are turned into what the API would have made of them; those of the archive, cleanup and
//! retention types go to their own queues, and every other type is a dead letter at once. Their ids follow
//! from the SQS message id, so a redelivery is the same log; a tenant is believed only when the allow-list
//! names it.

pub mod events;
mod onward;

use std::sync::Arc;

use bytes::Bytes;
use chassis::Companion;
use chrono::{DateTime, Utc};
use contracts::audit::{Delete, Requester, Update};
use contracts::errors::{DATABASE_UNAVAILABLE, FORBIDDEN, INTERNAL, MALFORMED_MESSAGE};
use contracts::legacy::{BareMessage, UNKNOWN_KIND};
use contracts::{Envelope, Header, LogId, Message, RetentionClass};
use database::outbox::PutError;
use queue_core::{
    Attempt, ClaimStore, Delivery, Error, Failure, Probe, Reason, RejectedPart, Worker,
};
use rand::Rng;
use serde::Deserialize;
use serde_json::value::RawValue;

use self::events::{Outcome, Taken};
use self::onward::Onward;
use super::index::{self, IndexWorker};
use crate::event::{self, EventLimits, Origin, Rules, Stamp};
use crate::model::NewLog;
use crate::rules;

/// What legacy logs are kept as: they name no class, and a tenant's default may change between two
/// deliveries of one message, which would make two logs of it.
pub const LEGACY_CLASS: RetentionClass = RetentionClass::Days90;
/// Stands where a key's id stands in a log that came through the API.
const LEGACY_KEY: &str = "legacy";

/// Handles bare messages beside an [`IndexWorker`], through the same batches.
#[derive(Debug)]
pub struct LegacyIndexWorker {
    lead: Arc<IndexWorker>,
}

#[derive(Deserialize)]
struct UpdateData {
    tags: Option<Vec<String>>,
    annotation: Option<String>,
}

#[derive(Deserialize)]
struct DeleteData {
    reason: Option<String>,
}

impl Companion for LegacyIndexWorker {
    type Lead = IndexWorker;

    fn beside(lead: &Arc<IndexWorker>) -> Self {
        Self { lead: Arc::clone(lead) }
    }
}

impl Worker for LegacyIndexWorker {
    const NAME: &'static str = "index-worker";
    type Message = BareMessage;

    async fn handle(&self, delivery: Delivery<BareMessage>) -> Result<(), Failure> {
        let parts = self.process(&delivery.header, &delivery.message, delivery.attempt).await?;
        for part in parts {
            delivery.reject_part(part);
        }
        Ok(())
    }

    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        self.lead.claims()
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.lead.probes()
    }
}

impl LegacyIndexWorker {
    /// Does a message's work, as [`IndexWorker::process`] does.
    pub async fn process(
        &self,
        header: &Header,
        message: &BareMessage,
        attempt: Attempt,
    ) -> Result<Vec<RejectedPart>, Failure> {
        // Boxed: it is a future of many futures, and the engine's own are around it.
        let done = Box::pin(self.sort_out(header, message, attempt)).await;
        let outcome = match &done {
            Ok((outcome, _)) => *outcome,
            Err(Failure::Reject(_)) => Outcome::Rejected,
            Err(_) => Outcome::Later,
        };
        Taken { kind: message.kind(), outcome }.emit();
        done.map(|(_, parts)| parts)
    }

    async fn sort_out(
        &self,
        header: &Header,
        message: &BareMessage,
        attempt: Attempt,
    ) -> Result<(Outcome, Vec<RejectedPart>), Failure> {
        if !self.lead.legacy_tenants().contains(&message.tenant_id) {
            return Err(Failure::Reject(Reason {
                code: FORBIDDEN,
                message: format!("tenant {} is not in LEGACY_TENANTS", message.tenant_id),
            }));
        }
        let parts = match message.kind() {
            "INDEX" => {
                let items = [(0, &*message.data, LogId(header.id.0))];
                match self.index(header, message, &items).await?.pop() {
                    Some(part) => return Err(Failure::Reject(part.reason)),
                    None => Vec::new(),
                }
            }
            "BULK_INDEX" => {
                let events: Vec<&RawValue> = read(&message.data)?;
                let id = |index| LogId(index::part_header(header, index).id.0);
                let items: Vec<_> = events
                    .into_iter()
                    .enumerate()
                    .map(|(index, event)| (index, event, id(index)))
                    .collect();
                self.index(header, message, &items).await?
            }
            "UPDATE" => self.update(header, message, attempt).await.map(|()| Vec::new())?,
            "DELETE" => self.delete(header, message, attempt).await.map(|()| Vec::new())?,
            UNKNOWN_KIND => return Err(Failure::Reject(onward::unknown(&message.kind))),
            _ => {
                self.forward(header, message).await?;
                return Ok((Outcome::Forwarded, Vec::new()));
            }
        };
        Ok((Outcome::Handled, parts))
    }

    /// To the queue of its type; the legacy queue's copy is settled after that is committed.
    async fn forward(&self, header: &Header, message: &BareMessage) -> Result<(), Failure> {
        let onward = Onward::read(header, message, &requester()).map_err(Failure::Reject)?;
        let Some(database) = self.lead.outbox() else {
            let what = "this worker was built without an outbox".to_owned();
            return Err(Failure::Retry(Error::infrastructure(DATABASE_UNAVAILABLE, what)));
        };
        onward.put(database).await.map_err(|error| match error {
            PutError::Database(error) => database::classify(&error).failure(error.to_string()),
            other => malformed(other.to_string()),
        })
    }

    async fn index(
        &self,
        header: &Header,
        message: &BareMessage,
        items: &[(usize, &RawValue, LogId)],
    ) -> Result<Vec<RejectedPart>, Failure> {
        let (mut logs, mut places, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, event, id) in items {
            match admit(header, event, *id) {
                Ok(log) => {
                    logs.push(log);
                    places.push(*index);
                }
                Err(reason) => parts.push(part(header, message, *index, event, reason)?),
            }
        }
        let bytes = logs.iter().map(|log| log.record.len()).sum();
        for refused in self.lead.ingest(logs, bytes).await? {
            let index = places[refused.place];
            parts.push(part(header, message, index, items[index].1, refused.reason)?);
        }
        Ok(parts)
    }

    async fn update(
        &self,
        header: &Header,
        message: &BareMessage,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let data: UpdateData = read(&message.data)?;
        let update = Update {
            log_id: log_id(message)?,
            tags: data.tags,
            annotation: data.annotation,
            requester: requester(),
            recorded_at: header.recorded_at,
        };
        self.lead.update(header, update, attempt).await
    }

    async fn delete(
        &self,
        header: &Header,
        message: &BareMessage,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let data: DeleteData = read(&message.data)?;
        let delete = Delete {
            log_id: log_id(message)?,
            reason: data.reason.unwrap_or_else(|| "asked through the legacy queue".to_owned()),
            requester: requester(),
            recorded_at: header.recorded_at,
        };
        self.lead.delete(header, delete, attempt).await
    }
}

fn requester() -> Requester {
    Requester { key_id: LEGACY_KEY.to_owned(), ip: None }
}

fn log_id(message: &BareMessage) -> Result<LogId, Failure> {
    message.log_id.ok_or_else(|| malformed(format!("a legacy {} needs log_id", message.kind)))
}

fn read<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(data.get()).map_err(|error| malformed(format!("data: {error}")))
}

fn malformed(message: String) -> Failure {
    Failure::Reject(Reason { code: MALFORMED_MESSAGE, message })
}

/// The event as the API would have taken it. Old producers replay old events, so history is taken
/// as with the import scope.
fn admit(header: &Header, event: &RawValue, id: LogId) -> Result<NewLog, Reason> {
    let refused = |message: String| Reason { code: MALFORMED_MESSAGE, message };
    let rules = Rules::at(header.recorded_at, EventLimits::default(), true);
    let event = event::validate(event, &rules).map_err(|invalid| refused(explain(&invalid)))?;
    let stamp = Stamp {
        id,
        tenant: header.tenant.clone(),
        recorded_at: micros(header.recorded_at),
        class: LEGACY_CLASS,
    };
    let source = Origin { key_id: LEGACY_KEY.to_owned(), ip: None, user_agent: None };
    let record =
        event::record_bytes(&stamp, &source, &event).map_err(|error| refused(error.to_string()))?;
    let salt: [u8; 16] = rand::rng().random();
    let record = Bytes::from(Box::<str>::from(record).into_string());
    rules::admit(&header.tenant, record, &hex::encode(salt))
        .map_err(|refusal| refused(refusal.to_string()))
}

fn explain(invalid: &event::Invalid) -> String {
    match invalid {
        event::Invalid::Fields(fields) => fields
            .iter()
            .map(|field| format!("{}: {}", field.pointer, field.detail))
            .collect::<Vec<_>>()
            .join("; "),
        other => other.to_string(),
    }
}

fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// One event as a legacy message of its own, in an envelope that gives it the same log id again.
fn part(
    header: &Header,
    message: &BareMessage,
    index: usize,
    event: &RawValue,
    reason: Reason,
) -> Result<RejectedPart, Failure> {
    let alone = BareMessage {
        kind: "INDEX".to_owned(),
        tenant_id: message.tenant_id.clone(),
        log_id: None,
        data: event.to_owned(),
    };
    Envelope::wrap(index::part_header(header, index), &alone)
        .and_then(|envelope| envelope.to_json())
        .map(|envelope_json| RejectedPart { index, envelope_json, reason })
        .map_err(|error| Failure::Retry(Error::handling(INTERNAL, error.to_string())))
}
