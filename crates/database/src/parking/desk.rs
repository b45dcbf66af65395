//! What an operator reads of parked lines and writes into them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use queue_core::park::{Decision, LineEntry, ParkDesk, ParkReason, ParkStoreError, ParkedGroup};
use sqlx::{AssertSqlSafe, Row};

use super::{PostgresParking, call, rows};

/// Group, code, reason, since when, releasing, waiting, rejected.
type Listed = (String, String, String, DateTime<Utc>, bool, i64, i64);

impl PostgresParking {
    /// Names of the queues of which something is parked.
    pub async fn queues(&self) -> Result<Vec<String>, ParkStoreError> {
        let names = sqlx::query_scalar("SELECT DISTINCT queue FROM parked_groups ORDER BY queue");
        call(names.fetch_all(&self.pool)).await
    }

    async fn listed(&self, queue: &str, max: usize) -> Result<Vec<ParkedGroup>, sqlx::Error> {
        let groups: Vec<Listed> = sqlx::query_as(
            "SELECT g.grp, g.code, g.reason, g.parked_at, g.releasing, m.waiting, m.rejected
               FROM parked_groups g CROSS JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE standing IN ('waiting', 'sending', 'sent')) AS waiting,
                        count(*) FILTER (WHERE standing = 'rejected') AS rejected
                   FROM parked_messages m WHERE m.queue = g.queue AND m.grp = g.grp) AS m
              WHERE g.queue = $1 ORDER BY g.parked_at, g.grp LIMIT $2",
        )
        .bind(queue)
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        let shown = groups.into_iter().map(
            |(group, code, message, parked_at, releasing, waiting, rejected)| ParkedGroup {
                queue: queue.to_owned(),
                group,
                reason: ParkReason { code, message },
                parked_at,
                releasing,
                waiting: waiting.unsigned_abs(),
                rejected: rejected.unsigned_abs(),
            },
        );
        Ok(shown.collect())
    }

    async fn read_line(
        &self,
        queue: &str,
        group: &str,
        max: usize,
    ) -> Result<Vec<LineEntry>, sqlx::Error> {
        let sql = format!(
            "SELECT id, standing, {} FROM parked_messages WHERE queue = $1 AND grp = $2
              ORDER BY position LIMIT $3",
            rows::MESSAGE
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(queue)
            .bind(group)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        found
            .iter()
            .map(|row| {
                Ok(LineEntry {
                    id: row.try_get("id")?,
                    state: rows::state(row.try_get("standing")?)?,
                    message: rows::message(row)?,
                })
            })
            .collect()
    }

    async fn decided(
        &self,
        queue: &str,
        group: &str,
        decision: Decision,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        if rows::lock(&mut transaction, queue, group).await?.is_none() {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE parked_groups SET releasing = true, claimed_until = NULL
              WHERE queue = $1 AND grp = $2",
        )
        .bind(queue)
        .bind(group)
        .execute(&mut *transaction)
        .await?;
        rows::send_back(&mut transaction, queue, group).await?;
        sqlx::query(match decision {
            // One without a letter is left when it has it.
            Decision::Release => {
                "UPDATE parked_messages SET standing = 'gone'
                      WHERE queue = $1 AND grp = $2 AND standing = 'rejected' AND lettered"
            }
            Decision::Replay => {
                "UPDATE parked_messages SET standing = 'waiting'
                      WHERE queue = $1 AND grp = $2 AND standing = 'rejected'"
            }
        })
        .bind(queue)
        .bind(group)
        .execute(&mut *transaction)
        .await?;
        rows::open_if_done(&mut transaction, queue, group).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn skipped(&self, queue: &str, id: i64, reason: &str) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let group: Option<String> =
            sqlx::query_scalar("SELECT grp FROM parked_messages WHERE id = $1 AND queue = $2")
                .bind(id)
                .bind(queue)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(group) = group else { return Ok(false) };
        if rows::lock(&mut transaction, queue, &group).await?.is_none() {
            return Ok(false);
        }
        let skipped = sqlx::query(
            "UPDATE parked_messages SET skip_reason = $2,
                    standing = CASE WHEN standing = 'rejected' AND lettered THEN 'gone'
                                    ELSE 'skip' END
              WHERE id = $1 AND standing IN ('waiting', 'rejected')",
        )
        .bind(id)
        .bind(rows::printable(reason))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(skipped.rows_affected() == 1)
    }
}

#[async_trait]
impl ParkDesk for PostgresParking {
    async fn groups(&self, queue: &str, max: usize) -> Result<Vec<ParkedGroup>, ParkStoreError> {
        call(self.listed(queue, max)).await
    }

    async fn line(
        &self,
        queue: &str,
        group: &str,
        max: usize,
    ) -> Result<Vec<LineEntry>, ParkStoreError> {
        call(self.read_line(queue, group, max)).await
    }

    async fn decide(
        &self,
        queue: &str,
        group: &str,
        decision: Decision,
    ) -> Result<bool, ParkStoreError> {
        call(self.decided(queue, group, decision)).await
    }

    async fn skip(&self, queue: &str, id: i64, reason: &str) -> Result<bool, ParkStoreError> {
        call(self.skipped(queue, id, reason)).await
    }
}
