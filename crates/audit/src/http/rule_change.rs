//! What changes of policies and holds have in common: the body, the id under an idempotency key, the
//! version that a change was made from, and the audit entries that are stored with it. An entry names what
//! was written by its hash: all of it would not fit into a log.

use axum::body::Body;
use chrono::{DateTime, SubsecRound, Utc};
use contracts::audit::{LogItem, Requester};
use contracts::errors::{IDEMPOTENCY_MISMATCH, INTERNAL, NOT_FOUND};
use edge::{FieldProblem, Principal, Problem, RequestInfo};
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::parse::{self, Media};
use super::{Api, problems};
use crate::event::FieldError;
use crate::model::NewLog;
use crate::publish::Trace;
use crate::self_audit::{self, Deed};
use crate::store;

/// Bytes of a body at most: the longest filter fits.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// What telling the queue about an audit entry may take of the client's time.
const ANNOUNCE_TIME: Duration = Duration::from_secs(1);

/// The body as JSON, and until when the request must be answered.
pub(super) async fn body(
    api: &Api,
    info: &RequestInfo,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Value, Instant), Problem> {
    parse::media(headers, &[Media::Json])?;
    let bytes = api.gate.read_body(body, BODY_BYTES_MAX).await?;
    let raw = parse::json(parse::text(&bytes)?)?;
    let value = serde_json::from_str(raw.get())
        .map_err(|error| problems::one_field("", error.to_string()))?;
    Ok((value, api.until(info, &bytes)))
}

/// The time, in the microseconds that PostgreSQL keeps: what is answered is what will be read.
pub(super) fn now(api: &Api) -> DateTime<Utc> {
    api.clock.now().trunc_subsecs(6)
}

/// Several fields of a body are wrong.
pub(super) fn fields(errors: Vec<FieldError>) -> Problem {
    let detail = errors.first().map_or_else(String::new, |first| {
        let more = errors.len() - 1;
        let rest = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        format!("{}: {}{rest}", first.pointer, first.detail)
    });
    let errors = errors.into_iter().map(|e| FieldProblem { pointer: e.pointer, detail: e.detail });
    Problem::new(contracts::errors::INVALID_FIELD, detail).with_errors(errors.collect())
}

/// Who asks.
pub(super) fn requester(principal: &Principal, info: &RequestInfo) -> Requester {
    Requester { key_id: principal.key_id.to_string(), ip: info.ip.map(|ip| ip.to_string()) }
}

/// The id of something new: fixed by the idempotency key, where there is one, so that a repeat finds
/// what the first request made.
pub(super) fn new_id(
    api: &Api,
    principal: &Principal,
    kind: &str,
    headers: &HeaderMap,
) -> Result<Uuid, Problem> {
    let Some(key) = parse::idempotency_key(headers)? else {
        return Ok(contracts::ids::uuid_v7_at(api.clock.now(), rand::random()));
    };
    let mut hash = Sha256::new();
    for part in [kind, principal.tenant.as_str(), key] {
        hash.update(part);
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The key was used for something else.
pub(super) fn mismatch() -> Problem {
    Problem::new(
        IDEMPOTENCY_MISMATCH,
        "the first request with this Idempotency-Key had another body",
    )
}

/// The id in a path. What is no id is nothing that there is.
pub(super) fn path_id(text: &str, kind: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| none(kind))
}

/// There is none of that id, or it is another tenant's: the answer is the same.
pub(super) fn none(kind: &str) -> Problem {
    Problem::new(NOT_FOUND, format!("there is no {kind} of that id for this tenant"))
}

/// The version in `If-Match: "3"`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = number.and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| {
        super::filters::wrong(
            "expected If-Match to be the ETag of the version that you read, e.g. \"3\"",
        )
    })
}

/// Audit entries of a change, not stored yet.
pub(super) fn entries(
    principal: &Principal,
    requester: &Requester,
    action: &'static str,
    target: (&'static str, Uuid),
    (metadata, at): (Value, DateTime<Utc>),
) -> Result<Vec<NewLog>, Problem> {
    let mut metadata = metadata;
    metadata["tenant"] = json!(principal.tenant);
    let operation = contracts::ids::uuid_v7_at(at, rand::random());
    let tenant = &principal.tenant;
    let deed = Deed { tenant, action, target, metadata, requester, at, operation };
    self_audit::entries(&deed, rand::random)
        .map_err(|error| Problem::new(INTERNAL, format!("self-audit: {error}")))
}

/// The SHA-256 of what was written, as canonical JSON (RFC 8785): what an audit entry knows it by. The
/// thing itself is kept, version by version.
pub(super) fn spec_sha256<T: Serialize>(spec: &T) -> Result<String, Problem> {
    let bytes = serde_json_canonicalizer::to_vec(spec)
        .map_err(|error| Problem::new(INTERNAL, format!("self-audit: {error}")))?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

/// Ends the transaction of a change: with its entries where it happened, undone where it did not.
pub(super) async fn commit(
    mut transaction: Transaction<'_, Postgres>,
    happened: bool,
    entries: &[NewLog],
) -> Result<(), sqlx::Error> {
    if !happened {
        return transaction.rollback().await;
    }
    record(&mut transaction, entries).await?;
    transaction.commit().await
}

/// Stores them, in the transaction of the change.
pub(super) async fn record(
    connection: &mut PgConnection,
    entries: &[NewLog],
) -> Result<(), sqlx::Error> {
    store::record_self_audit(connection, entries).await
}

/// Sends what is stored through the queue too, so that search and the live tail show it. Best effort:
/// the change and its entries stand, and a rebuild of search finds them.
pub(super) async fn announce(api: &Api, info: &RequestInfo, entries: Vec<NewLog>) {
    let (trace, until) = (Trace::from(info), Instant::now() + ANNOUNCE_TIME);
    for entry in entries {
        let text = String::from_utf8_lossy(&entry.record).into_owned();
        let Ok(record) = RawValue::from_string(text) else { continue };
        let item = LogItem { salt: hex::encode(entry.salt), record };
        let sent = api.publisher.publish(&entry.key.tenant, vec![item], &trace, until).await;
        let error = match sent {
            Ok(outcomes) => outcomes.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let id = entry.key.id;
            tracing::warn!(%error, %id, "an audit entry is stored, but search was not told");
        }
    }
}
