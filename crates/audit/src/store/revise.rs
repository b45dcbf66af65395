//! Appending a revision: numbered under the log's row lock, once per envelope.

use contracts::{LogId, Tenant};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::read;
use crate::model::{LogKey, NewRevision, Revised};

/// Numbers and stores a revision in a transaction of its own. A revision that stands already, a log
/// that is not stored yet and one that is erased change nothing.
pub async fn append_revision(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
    revision: &NewRevision,
) -> Result<Revised, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let Some(key) = lock_row(&mut transaction, tenant, id).await? else {
        let erased = is_erased(&mut transaction, tenant, id).await?;
        return Ok(if erased { Revised::Erased } else { Revised::Missing });
    };
    let added = sqlx::query(
        "INSERT INTO log_revisions
                (tenant, log_id, revision, envelope_id, tags, annotation, actor, recorded_at)
         SELECT $1, $2, count(*) + 1, $3, $4, $5, $6, $7
           FROM log_revisions WHERE tenant = $1 AND log_id = $2
         ON CONFLICT (envelope_id) DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(id.0)
    .bind(revision.envelope_id.0)
    .bind(&revision.tags)
    .bind(&revision.annotation)
    .bind(&revision.actor)
    .bind(revision.recorded_at)
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if added > 0 {
        count_up(&mut transaction, &key).await?;
    }
    let state = read::fetch_by_keys(&mut transaction, std::slice::from_ref(&key)).await?;
    crate::crash::reach(crate::crash::CrashPoint::BeforeReviseCommit);
    transaction.commit().await?;
    // The row is locked by us, so it is there.
    Ok(state.into_iter().next().map_or(Revised::Missing, |log| Revised::Done(Box::new(log))))
}

/// Locks the log's row and says where it stands; `None` when it is not stored.
pub(super) async fn lock_row(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<Option<LogKey>, sqlx::Error> {
    let query = match read::millisecond(id) {
        Some((from, to)) => sqlx::query(
            "SELECT tenant, retention_class, recorded_at, id FROM logs
              WHERE tenant = $1 AND id = $2 AND recorded_at >= $3 AND recorded_at < $4 FOR UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id.0)
        .bind(from)
        .bind(to),
        None => sqlx::query(
            "SELECT tenant, retention_class, recorded_at, id FROM logs
              WHERE tenant = $1 AND id = $2 AND (get_byte(uuid_send(id), 6) >> 4) <> 7 FOR UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id.0),
    };
    query.fetch_optional(connection).await?.as_ref().map(read::key).transpose()
}

async fn count_up(connection: &mut PgConnection, key: &LogKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE logs SET revision = revision + 1
          WHERE tenant = $1 AND retention_class = $2 AND recorded_at = $3 AND id = $4",
    )
    .bind(key.tenant.as_str())
    .bind(key.class.as_str())
    .bind(key.recorded_at)
    .bind(key.id.0)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn is_erased(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: LogId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar::<_, Uuid>("SELECT id FROM tombstones WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_optional(connection)
        .await
        .map(|found| found.is_some())
}
