//! Reading the rows of a unit as an object wants them: in chunks by key, below the run's snapshot, and
//! without those that another object holds already. Memory is that of a chunk.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contracts::{LogId, Tenant};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::cleanup::tombstoned;
use super::locks;
use crate::lifecycle::KeyRange;

/// Revisions of one chunk's logs that are read at most: a log with more cannot be archived.
pub const REVISIONS_EXPORTED_MAX: i64 = 50_000;

/// Ids that are looked for among the tombstones at once.
const TOMBSTONES_ASKED: usize = 10_000;

/// Which rows: of this range, by transactions below this one.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub tenant: Tenant,
    /// Of one class and hour.
    pub range: KeyRange,
    /// Rows of later transactions are the next run's.
    pub snapshot_xmin: u64,
}

/// A row as it goes into an object, with what the run's rules ask about it.
#[derive(Clone, Debug)]
pub struct ExportRow {
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// Its id.
    pub id: Uuid,
    /// The record, byte for byte.
    pub record: Vec<u8>,
    /// Its salt.
    pub salt: Vec<u8>,
    /// Number of its revisions.
    pub revision: i64,
    /// The actor's type.
    pub actor_type: String,
    /// The actor's id.
    pub actor_id: String,
    /// What was done.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// The targets' types.
    pub target_types: Vec<String>,
}

/// A revision as it goes into an object.
#[derive(Clone, Debug)]
pub struct ExportRevision {
    /// Its number, from 1.
    pub revision: i64,
    /// The operation that made it.
    pub operation_id: Uuid,
    /// The tags it set; `None` kept them.
    pub tags: Option<Vec<String>>,
    /// The annotation it set; `None` kept it.
    pub annotation: Option<String>,
    /// Who asked, as JSON.
    pub actor: serde_json::Value,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
}

// `<> 7`: as the index of other ids says it, and the same bytes for both.
macro_rules! rows_where {
    ($condition:literal) => {
        concat!(
            "SELECT l.recorded_at, l.id, l.record, l.leaf_salt, l.revision, l.actor_type,
                    l.actor_id, l.action, l.outcome, l.target_types
               FROM logs l
              WHERE l.tenant = $1 AND l.retention_class = $2
                AND l.recorded_at >= $3 AND l.recorded_at <= $4
                AND l.ingest_xid < $5::text::xid8
                AND NOT EXISTS (SELECT FROM archived_logs a WHERE a.tenant = l.tenant
                                   AND a.recorded_at = l.recorded_at AND a.id = l.id)
                AND ",
            $condition
        )
    };
}

/// Up to `limit` rows whose ids carry their millisecond, in the order of `(recorded_at, id)`: the first
/// ones of the range, or those after `after`.
pub async fn export_rows(
    connection: &mut PgConnection,
    wanted: &Wanted,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<ExportRow>, sqlx::Error> {
    let KeyRange { class, first, last } = wanted.range;
    let (from, included) = after.map_or((first, true), |after| (after, false));
    sqlx::query(rows_where!(
        "(get_byte(uuid_send(l.id), 6) >> 4) = 7
         AND ((l.recorded_at, l.id) > ($3, $6) OR ($8 AND l.recorded_at = $3 AND l.id = $6))
         AND (l.recorded_at, l.id) <= ($4, $7)
         ORDER BY l.recorded_at, l.id LIMIT $9"
    ))
    .bind(wanted.tenant.as_str())
    .bind(class.as_str())
    .bind(from.0)
    .bind(last.0)
    .bind(wanted.snapshot_xmin.to_string())
    .bind(from.1)
    .bind(last.1)
    .bind(included)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .iter()
    .map(row)
    .collect()
}

/// Keys of the rows whose ids carry no time, as those of the legacy queue, in the order of the ids.
pub async fn other_keys(
    connection: &mut PgConnection,
    wanted: &Wanted,
    limit: i64,
) -> Result<Vec<(Uuid, DateTime<Utc>)>, sqlx::Error> {
    let KeyRange { class, first, last } = wanted.range;
    sqlx::query_as(
        "SELECT id, recorded_at FROM logs
          WHERE tenant = $1 AND retention_class = $2 AND recorded_at >= $3 AND recorded_at <= $4
            AND ingest_xid < $5::text::xid8 AND (get_byte(uuid_send(id), 6) >> 4) <> 7
            AND (recorded_at, id) >= ($3, $6) AND (recorded_at, id) <= ($4, $7)
          ORDER BY id LIMIT $8",
    )
    .bind(wanted.tenant.as_str())
    .bind(class.as_str())
    .bind(first.0)
    .bind(last.0)
    .bind(wanted.snapshot_xmin.to_string())
    .bind(first.1)
    .bind(last.1)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// The rows of those keys that are still there, in the order of the ids.
pub async fn export_by_key(
    connection: &mut PgConnection,
    wanted: &Wanted,
    keys: &[(Uuid, DateTime<Utc>)],
) -> Result<Vec<ExportRow>, sqlx::Error> {
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) = keys.iter().copied().unzip();
    let KeyRange { class, first, last } = wanted.range;
    sqlx::query(rows_where!(
        "(l.recorded_at, l.id) IN (SELECT * FROM unnest($6::timestamptz[], $7::uuid[]))
         ORDER BY l.id"
    ))
    .bind(wanted.tenant.as_str())
    .bind(class.as_str())
    .bind(first.0)
    .bind(last.0)
    .bind(wanted.snapshot_xmin.to_string())
    .bind(times)
    .bind(ids)
    .fetch_all(connection)
    .await?
    .iter()
    .map(row)
    .collect()
}

pub(super) fn row(row: &PgRow) -> Result<ExportRow, sqlx::Error> {
    Ok(ExportRow {
        recorded_at: row.try_get("recorded_at")?,
        id: row.try_get("id")?,
        record: row.try_get("record")?,
        salt: row.try_get("leaf_salt")?,
        revision: row.try_get("revision")?,
        actor_type: row.try_get("actor_type")?,
        actor_id: row.try_get("actor_id")?,
        action: row.try_get("action")?,
        outcome: row.try_get("outcome")?,
        target_types: row.try_get("target_types")?,
    })
}

/// How many of these rows, one after the other, [`export_revisions`] answers whole: at least one, of which
/// only the first [`REVISIONS_EXPORTED_MAX`] are answered.
pub fn revised_together<'a>(rows: impl IntoIterator<Item = &'a ExportRow>) -> usize {
    let mut revisions = 0_u64;
    let fits = |row: &&ExportRow| {
        let first = revisions == 0;
        revisions += row.revision.unsigned_abs();
        first || revisions <= REVISIONS_EXPORTED_MAX.unsigned_abs()
    };
    rows.into_iter().take_while(fits).count()
}

/// The revisions of these logs, each log's in their order; [`REVISIONS_EXPORTED_MAX`] at most.
pub async fn export_revisions(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<ExportRevision>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT log_id, revision, envelope_id, tags, annotation, actor, recorded_at
           FROM log_revisions WHERE tenant = $1 AND log_id = ANY ($2)
          ORDER BY log_id, revision LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(ids)
    .bind(REVISIONS_EXPORTED_MAX)
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<Uuid, Vec<ExportRevision>> = HashMap::new();
    for row in rows {
        found.entry(row.try_get("log_id")?).or_default().push(ExportRevision {
            revision: row.try_get("revision")?,
            operation_id: row.try_get("envelope_id")?,
            tags: row.try_get("tags")?,
            annotation: row.try_get("annotation")?,
            actor: row.try_get("actor")?,
            recorded_at: row.try_get("recorded_at")?,
        });
    }
    Ok(found)
}

/// Holds off erasures of the tenant until the transaction ends, and says which of these logs are erased
/// by now.
pub async fn erased_of(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    locks::share(transaction, std::iter::once(tenant)).await?;
    let mut erased = Vec::new();
    for ids in ids.chunks(TOMBSTONES_ASKED) {
        erased.extend(tombstoned(transaction, tenant, ids).await?);
    }
    Ok(erased)
}

/// The transaction below which nothing will appear any more: what a plan is made under.
pub async fn snapshot_xmin(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let xmin: i64 =
        sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            .fetch_one(connection)
            .await?;
    Ok(xmin.cast_unsigned())
}

/// Where these logs stand that are stored, in no order.
pub async fn keys_of(
    connection: &mut PgConnection,
    tenant: &Tenant,
    ids: &[LogId],
) -> Result<Vec<(contracts::RetentionClass, DateTime<Utc>, Uuid, u64)>, sqlx::Error> {
    let (mut v7, mut other) = (Vec::new(), Vec::new());
    for id in ids {
        if id.recorded_millis().is_some() { v7.push(id.0) } else { other.push(id.0) }
    }
    let span = || ids.iter().filter_map(|id| id.recorded_millis());
    let (from, to) = (span().min(), span().max());
    let rows = sqlx::query(
        "SELECT retention_class, recorded_at, id, octet_length(record)::bigint AS bytes FROM logs
          WHERE tenant = $1 AND id = ANY ($2)
            AND recorded_at >= $4 AND recorded_at < $5::timestamptz + interval '1 millisecond'
         UNION ALL
         SELECT retention_class, recorded_at, id, octet_length(record)::bigint FROM logs
          WHERE tenant = $1 AND id = ANY ($3) AND (get_byte(uuid_send(id), 6) >> 4) <> 7",
    )
    .bind(tenant.as_str())
    .bind(v7)
    .bind(other)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    let key = |row: &PgRow| {
        let bytes: i64 = row.try_get("bytes")?;
        let class = super::units::decoded(row, "retention_class")?;
        Ok((class, row.try_get("recorded_at")?, row.try_get("id")?, bytes.cast_unsigned()))
    };
    rows.iter().map(key).collect()
}
