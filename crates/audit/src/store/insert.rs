//! Storing new logs, many per statement. What is stored already or erased is left alone, so a
//! redelivery, a replay and a late message change nothing.

use chrono::{DateTime, Utc};
use sinks::search::Entity;
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::locks;
use crate::model::{Inserted, NewLog};

const INSERT: &str = "\
INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt, occurred_at,
                  actor_type, actor_id, actor_name, action, outcome, target_types, target_ids)
SELECT n.tenant, n.id, n.class, n.recorded_at, n.record, n.sha256, n.salt, n.occurred_at,
       n.actor_type, n.actor_id, n.actor_name, n.action, n.outcome,
       n.target_types::text[], n.target_ids::text[]
  FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::bytea[], $6::bytea[],
              $7::bytea[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[],
              $13::text[], $14::text[], $15::text[])
    AS n (tenant, id, class, recorded_at, record, sha256, salt, occurred_at,
          actor_type, actor_id, actor_name, action, outcome, target_types, target_ids)
 WHERE NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.tenant = n.tenant AND t.id = n.id)
ON CONFLICT DO NOTHING";

/// Inserts logs in one transaction of its own. The caller has sorted them by key, which keeps two
/// batches from waiting for each other in a circle, and has removed repeats.
pub async fn insert_batch(
    connection: &mut PgConnection,
    logs: &[NewLog],
) -> Result<Inserted, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    locks::share(&mut transaction, tenants(logs)).await?;
    let inserted = insert_rows(&mut transaction, logs).await?;
    crate::crash::reach(crate::crash::CrashPoint::BeforeInsertCommit);
    transaction.commit().await?;
    Ok(inserted)
}

fn tenants(logs: &[NewLog]) -> impl Iterator<Item = &contracts::Tenant> {
    // Sorted by key, tenant first: runs of one tenant are named once.
    logs.chunk_by(|a, b| a.key.tenant == b.key.tenant).map(|run| &run[0].key.tenant)
}

/// The insert alone, inside the caller's transaction, which holds a lock of the tenants.
pub async fn insert_rows(
    connection: &mut PgConnection,
    logs: &[NewLog],
) -> Result<Inserted, sqlx::Error> {
    // After the lock: an assigned transaction id holds back the live tail's horizon.
    let ingest_xid = current_xid(connection).await?;
    let column = |take: fn(&NewLog) -> &str| logs.iter().map(take).collect::<Vec<&str>>();
    let targets = |take: fn(&Entity) -> &str| {
        logs.iter().map(|log| array_literal(log.document.targets.iter().map(take))).collect()
    };
    let (target_types, target_ids): (Vec<String>, Vec<String>) =
        (targets(|target| &target.kind), targets(|target| &target.id));
    let done = sqlx::query(INSERT)
        .bind(column(|log| log.key.tenant.as_str()))
        .bind(logs.iter().map(|log| log.key.id.0).collect::<Vec<Uuid>>())
        .bind(column(|log| log.key.class.as_str()))
        .bind(logs.iter().map(|log| log.key.recorded_at).collect::<Vec<DateTime<Utc>>>())
        .bind(logs.iter().map(|log| &log.record[..]).collect::<Vec<&[u8]>>())
        .bind(logs.iter().map(|log| &log.sha256[..]).collect::<Vec<&[u8]>>())
        .bind(logs.iter().map(|log| &log.salt[..]).collect::<Vec<&[u8]>>())
        .bind(logs.iter().map(|log| log.document.occurred_at).collect::<Vec<_>>())
        .bind(column(|log| &log.document.actor.kind))
        .bind(column(|log| &log.document.actor.id))
        .bind(logs.iter().map(|log| log.document.actor.name.as_deref()).collect::<Vec<_>>())
        .bind(column(|log| &log.document.action))
        .bind(column(|log| &log.document.outcome))
        .bind(target_types)
        .bind(target_ids)
        .execute(&mut *connection)
        .await?;
    Ok(Inserted { ingest_xid, new_rows: done.rows_affected() })
}

pub(super) async fn current_xid(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let row =
        sqlx::query("SELECT pg_current_xact_id()::text::bigint").fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}

/// A text array as PostgreSQL writes one: `unnest` would flatten an array of arrays.
fn array_literal<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("{");
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::array_literal;

    #[test]
    fn array_literals_are_quoted_and_escaped() {
        let literal = |values: &[&'static str]| array_literal(values.iter().copied());
        assert_eq!(literal(&[]), "{}");
        assert_eq!(literal(&["a", "NULL", ""]), r#"{"a","NULL",""}"#);
        assert_eq!(literal(&[r#"a"b\c,{}"#]), r#"{"a\"b\\c,{}"}"#);
    }
}
