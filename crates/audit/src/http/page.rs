//! Logs as they are shown: the stored record's own bytes with what its revisions add up to. A page's
//! ids come from search, its content from PostgreSQL, so what was erased is not in it.

use contracts::Tenant;
use edge::Problem;
use serde_json::value::RawValue;
use sinks::search::{Page, SortKey};

use super::{Api, problems};
use crate::model::{LogKey, StoredLog};
use crate::store;

/// Bytes of records on one page at most. Far above what one record can have, so a page with logs to
/// show shows at least one.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The logs of those hits that are stored, in their order, up to [`PAGE_BYTES_MAX`]; and where the
/// next page starts: after the last log shown when some found no room.
pub(super) async fn hydrate(
    api: &Api,
    tenant: &Tenant,
    found: &Page,
) -> Result<(Vec<StoredLog>, Option<SortKey>), Problem> {
    if found.hits.is_empty() {
        return Ok((Vec::new(), found.next));
    }
    let keys: Vec<LogKey> = found
        .hits
        .iter()
        .map(|hit| LogKey {
            tenant: tenant.clone(),
            class: hit.class,
            recorded_at: hit.recorded_at,
            id: hit.id,
        })
        .collect();
    let mut transaction = api.database.tenant(tenant).await.map_err(problems::database)?;
    let bytes_max = i64::try_from(PAGE_BYTES_MAX).unwrap_or(i64::MAX);
    let (logs, more) =
        store::fetch_page(&mut transaction, &keys, bytes_max).await.map_err(problems::database)?;
    transaction.rollback().await.map_err(problems::database)?;
    let next = match logs.last() {
        Some(last) if more => Some(SortKey { recorded_at: last.key.recorded_at, id: last.key.id }),
        _ => found.next,
    };
    Ok((logs, next))
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
