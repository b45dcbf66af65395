//! Logs as they are shown: the stored record's own bytes with what its revisions add up to. A page's
//! ids come from search, its content from PostgreSQL, so what was erased is not in it.

use std::collections::HashMap;

use contracts::{LogId, Tenant};
use edge::Problem;
use serde_json::value::RawValue;
use sinks::search::Hit;

use super::{Api, problems};
use crate::model::{LogKey, StoredLog};
use crate::store;

/// The logs of those hits that are stored, in their order.
pub(super) async fn hydrate(
    api: &Api,
    tenant: &Tenant,
    hits: &[Hit],
) -> Result<Vec<StoredLog>, Problem> {
    if hits.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<LogKey> = hits
        .iter()
        .map(|hit| LogKey {
            tenant: tenant.clone(),
            class: hit.class,
            recorded_at: hit.recorded_at,
            id: hit.id,
        })
        .collect();
    let mut transaction = api.database.tenant(tenant).await.map_err(problems::database)?;
    let found = store::fetch_by_keys(&mut transaction, &keys).await.map_err(problems::database)?;
    transaction.rollback().await.map_err(problems::database)?;
    let mut by_id: HashMap<LogId, StoredLog> =
        found.into_iter().map(|log| (log.key.id, log)).collect();
    Ok(hits.iter().filter_map(|hit| by_id.remove(&hit.id)).collect())
}

/// A log as JSON: the record's members verbatim, then `revision`, `tags`, `annotation` and `more`.
pub(super) fn shown(log: &StoredLog, more: &str) -> Result<Box<RawValue>, Problem> {
    let broken = || {
        tracing::error!(id = %log.key.id, "a stored record is no JSON object");
        Problem::new(contracts::errors::INTERNAL, "a stored record cannot be read")
    };
    let record = std::str::from_utf8(&log.record).ok().and_then(|text| text.strip_suffix('}'));
    let record = record.ok_or_else(broken)?;
    let tail = Tail {
        revision: log.revision,
        tags: log.tags.as_deref().unwrap_or_default(),
        annotation: log.annotation.as_deref(),
    };
    let tail = contracts::json::to_ascii(&tail).map_err(|_| broken())?;
    let tail = tail.trim_start_matches('{').trim_end_matches('}');
    let text = [record, ",", tail, more, "}"].concat();
    RawValue::from_string(text).map_err(|_| broken())
}

#[derive(serde::Serialize)]
struct Tail<'a> {
    revision: i64,
    tags: &'a [String],
    annotation: Option<&'a str>,
}
