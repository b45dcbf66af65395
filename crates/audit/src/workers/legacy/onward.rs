//! Where legacy messages of the archive, cleanup and retention types go: onto the queue of their type, by way
//! of the outbox, before the legacy queue's copy is deleted. The new message's id follows from the old one's,
//! so that a message that is forwarded twice is one message twice, and its receivers are idempotent.
//!
//! Old producers know of no runs. What names none gets one, where that is harmless: a time or single logs are
//! archived and stay, a policy is evaluated under its own brake. A deletion is never begun here.

use contracts::audit::Requester;
use contracts::audit::lifecycle::{
    ArchiveMessage, BULK_ARCHIVE_MAX, CleanupMessage, RetentionMessage, Then,
};
use contracts::errors::{MALFORMED_MESSAGE, UNKNOWN_TYPE};
use contracts::legacy::BareMessage;
use contracts::{EnvelopeId, Header, Message};
use database::Database;
use database::outbox::{self, Draft, PutError};
use queue_core::Reason;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::lifecycle::request::Request;
use crate::lifecycle::{Basis, NewRun};
use crate::retention::Filter;
use crate::store;

/// Characters of an unknown type that a dead letter shows.
const SHOWN_CHARS: usize = 64;

/// The members of a message's `data`.
type Data = Map<String, Value>;

/// A message for another queue, and the run that is begun with it.
#[derive(Debug)]
pub(super) struct Onward {
    draft: Draft,
    run: Option<NewRun>,
}

fn refused(message: impl Into<String>) -> Reason {
    Reason { code: MALFORMED_MESSAGE, message: message.into() }
}

/// No newer queue has that type, and none will.
pub(super) fn unknown(kind: &str) -> Reason {
    let kind: String = kind.chars().take(SHOWN_CHARS).collect();
    let message = format!("legacy type {kind:?}: no audit queue has it");
    Reason { code: UNKNOWN_TYPE, message }
}

impl Onward {
    /// What becomes of a message; else why it can go nowhere. `requester` stands for whoever sent it: a
    /// producer of the legacy queue shows no key, so what it says of itself is not taken.
    pub(super) fn read(
        header: &Header,
        message: &BareMessage,
        requester: &Requester,
    ) -> Result<Self, Reason> {
        let data: Data = serde_json::from_str(message.data.get())
            .map_err(|error| refused(format!("data: {error}")))?;
        match message.kind() {
            kind @ ("ARCHIVE_BY_DATE" | "BULK_ARCHIVE") => request(header, kind, data, requester),
            kind @ "ARCHIVE_BY_POLICY" => alone::<ArchiveMessage>(header, kind, &data),
            kind @ ("CLEANUP_ARCHIVED" | "CLEANUP_BY_POLICY" | "CLEANUP_EXPIRED") => {
                alone::<CleanupMessage>(header, kind, &data)
            }
            "EVALUATE_POLICY" if !data.contains_key("run_id") => schedule(header, data),
            "SCHEDULE_RETENTION" => schedule(header, data),
            kind @ ("EVALUATE_POLICY" | "POLICY_NOTIFICATION") => {
                alone::<RetentionMessage>(header, kind, &data)
            }
            _ => Err(unknown(&message.kind)),
        }
    }

    /// Run and message are there together, or neither is. Any number of times.
    pub(super) async fn put(&self, database: &Database) -> Result<(), PutError> {
        let mut transaction = database.pool().begin().await?;
        if let Some(run) = &self.run {
            store::begin_run(&mut transaction, run).await?;
        }
        outbox::put(&mut transaction, &self.draft).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The message of that type which the data is, and its way.
fn typed<M: Message>(header: &Header, kind: &str, data: &Data) -> Result<(M, Draft), Reason> {
    let unwritable = |error: serde_json::Error| refused(error.to_string());
    let body = serde_json::value::to_raw_value(data).map_err(unwritable)?;
    let header = Header {
        v: 1,
        kind: kind.to_owned(),
        id: EnvelopeId(Uuid::new_v5(&header.id.0, kind.as_bytes())),
        causation_id: Some(header.id.to_string()),
        hops: header.hops.saturating_add(1),
        ..header.clone()
    };
    let message = M::decode(&header, &body).map_err(|error| refused(error.to_string()))?;
    let draft = Draft::new(header, &message).map_err(unwritable)?;
    Ok((message, draft))
}

/// As it is.
fn alone<M: Message>(header: &Header, kind: &str, data: &Data) -> Result<Onward, Reason> {
    let (_, draft) = typed::<M>(header, kind, data)?;
    Ok(Onward { draft, run: None })
}

/// A policy's time has come: by the slot that is named, else by the moment when the message was sent.
fn schedule(header: &Header, mut data: Data) -> Result<Onward, Reason> {
    data.entry("slot").or_insert_with(|| json!(header.recorded_at));
    alone::<RetentionMessage>(header, "SCHEDULE_RETENTION", &data)
}

/// Somebody's request, with a run of its own unless it names one.
fn request(
    header: &Header,
    kind: &str,
    mut data: Data,
    requester: &Requester,
) -> Result<Onward, Reason> {
    data.insert("requester".to_owned(), json!(requester));
    let begins = !data.contains_key("run_id");
    if begins {
        data.insert("run_id".to_owned(), json!(header.id));
        data.entry("then").or_insert_with(|| json!(Then::Archive));
    }
    let (message, draft) = typed::<ArchiveMessage>(header, kind, &data)?;
    let run = begins.then(|| new_run(header, &message, requester)).transpose()?;
    Ok(Onward { draft, run })
}

fn new_run(
    header: &Header,
    message: &ArchiveMessage,
    requester: &Requester,
) -> Result<NewRun, Reason> {
    let (id, then, request) = match message {
        ArchiveMessage::ByDate(asked) if asked.from < asked.to => {
            let (from, to, filter) = (asked.from, asked.to, Filter::default());
            (asked.run_id, asked.then, Request::Time { from, to, filter, snapshot_xmin: None })
        }
        ArchiveMessage::Bulk(asked) if (1..=BULK_ARCHIVE_MAX).contains(&asked.log_ids.len()) => {
            (asked.run_id, asked.then, Request::Logs { ids: asked.log_ids.clone() })
        }
        ArchiveMessage::ByDate(_) => return Err(refused("data: from is not before to")),
        ArchiveMessage::Bulk(_) => {
            return Err(refused(format!("data: expected 1 to {BULK_ARCHIVE_MAX} log_ids")));
        }
        ArchiveMessage::ByPolicy(_) => return Err(refused("data: a policy's unit has its run")),
    };
    if then != Then::Archive {
        return Err(refused(
            "data: without a run it can only be archived; ask for a deletion by DELETE /logs/cleanup, \
             which says first what would go",
        ));
    }
    let request = serde_json::to_value(request).map_err(|error| refused(error.to_string()))?;
    Ok(NewRun {
        id,
        tenant: header.tenant.clone(),
        basis: Basis::Request(request),
        requester: json!(requester),
        then,
        archive: None,
        rules: None,
        as_of: header.recorded_at,
        notify: 0,
        correlation_id: header.correlation_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use contracts::message::Bare;

    use super::*;

    fn read(kind: &str, data: &Value) -> Result<Onward, Reason> {
        let text = json!({"type": kind, "tenant_id": "acme", "data": data}).to_string();
        let from = Bare { message_id: "m", sent_at: "2026-03-01T12:00:00Z".parse().unwrap() };
        let (header, message) = BareMessage::decode_bare(&text, &from).unwrap().unwrap();
        Onward::read(&header, &message, &Requester { key_id: "legacy".into(), ip: None })
    }

    #[test]
    fn nothing_is_begun_that_deletes_and_what_does_not_fit_says_why() {
        let (from, to) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        let id = Uuid::from_u128(1);
        for (kind, data, says) in [
            (
                "ARCHIVE_BY_DATE",
                json!({"from": from, "to": to, "then": "archive_and_delete"}),
                "cleanup",
            ),
            ("ARCHIVE_BY_DATE", json!({"from": from, "to": to, "then": "delete"}), "cleanup"),
            ("ARCHIVE_BY_DATE", json!({"from": to, "to": from}), "not before"),
            ("ARCHIVE_BY_DATE", json!({"to": to}), "`from`"),
            ("BULK_ARCHIVE", json!({"log_ids": []}), "1 to 1000"),
            ("BULK_ARCHIVE", json!({"log_ids": vec![id; 1_001]}), "1 to 1000"),
            ("BULK_ARCHIVE", json!({"log_ids": [id], "then": "delete"}), "cleanup"),
            ("ARCHIVE_BY_POLICY", json!({"policy_id": id}), "run_id"),
            ("CLEANUP_BY_POLICY", json!({"policy_id": id}), "run_id"),
            ("CLEANUP_ARCHIVED", json!({"run_id": id, "unit_id": id}), "manifest_sequence"),
            ("EVALUATE_POLICY", json!({}), "policy_id"),
            ("SCHEDULE_RETENTION", json!({"policy_id": id, "slot": "soon"}), "SCHEDULE_RETENTION"),
            ("POLICY_NOTIFICATION", json!([1]), "data"),
        ] {
            let reason = read(kind, &data).unwrap_err();
            assert_eq!(reason.code, MALFORMED_MESSAGE, "{kind} {data}");
            assert!(reason.message.contains(says), "{kind} {data}: {}", reason.message);
        }
        let reason = read("SHRED", &json!({})).unwrap_err();
        assert_eq!(reason.code, UNKNOWN_TYPE);
        assert!(reason.message.contains("SHRED"), "{}", reason.message);
    }

    #[test]
    fn a_run_is_begun_only_where_none_is_named() {
        let id = Uuid::from_u128(1);
        let bulk = |more: Value| {
            let mut data = json!({"log_ids": [id], "then": "archive"});
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read("BULK_ARCHIVE", &data).unwrap().run
        };
        let begun = bulk(json!({"requester": {"key_id": "somebody else"}})).unwrap();
        assert_eq!(begun.id, contracts::legacy::legacy_id("m"));
        assert_eq!(begun.requester, json!({"key_id": "legacy"}));
        assert_eq!(bulk(json!({"run_id": id})), None);
    }
}
