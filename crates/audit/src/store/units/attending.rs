//! Units that stand still: open, in nobody's hands, and nothing happened to them for a time.

use sqlx::{AssertSqlSafe, PgConnection};

use super::rows::{COLUMNS, read};
use crate::lifecycle::Unit;

/// Takes up to `limit` units of runs that were started, which have not ended, which nobody has, and which
/// nothing happened to for `idle_secs`, the longest first; that they were taken is something, so that
/// each is taken once in that time. They are taken when the transaction commits; what another transaction
/// is at is left alone. A row that cannot be read is an error by itself.
pub async fn attend_units(
    connection: &mut PgConnection,
    idle_secs: f64,
    limit: i64,
) -> Result<Vec<Result<Unit, sqlx::Error>>, sqlx::Error> {
    let sql = format!(
        "WITH idle AS (
           SELECT u.tenant AS of_tenant, u.id AS of_unit FROM archive_units u
            WHERE u.state IN ('planned', 'written', 'sealed', 'deleting')
              AND u.updated_at <= clock_timestamp() - make_interval(secs => $1)
              AND (u.claimed_until IS NULL OR u.claimed_until <= clock_timestamp())
              AND EXISTS (SELECT FROM retention_runs r WHERE r.tenant = u.tenant AND r.id = u.run_id
                             AND r.state NOT IN ('planning', 'braked'))
            ORDER BY u.updated_at LIMIT $2
              FOR UPDATE OF u SKIP LOCKED)
         UPDATE archive_units SET updated_at = clock_timestamp() FROM idle
          WHERE tenant = of_tenant AND id = of_unit
         RETURNING {COLUMNS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(idle_secs).bind(limit);
    Ok(rows.fetch_all(connection).await?.iter().map(read).collect())
}
