//! The rows of a scene: logs of past hours, made and stored in chunks, so that ten million need no more
//! memory than ten thousand.

use audit::model::NewLog;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use sqlx::PgPool;

use super::scene::Scene;
use crate::postgres;

/// Rows of one statement, and chunks at once.
const STATEMENT: usize = 1_000;
const CHUNKS: usize = 3;
/// Rows that are made at once.
const CHUNK: usize = 5_000;
/// After so many rows it is said how far the filling is.
const TOLD_EVERY: usize = 250_000;

/// Makes the n-th log of a time.
pub type Make = fn(u64, DateTime<Utc>) -> NewLog;

/// Where logs lie in time.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// When the first was accepted.
    from: DateTime<Utc>,
    /// So many in each hour.
    per_hour: usize,
}

impl Spread {
    fn at(self, n: usize) -> DateTime<Utc> {
        let (hour, within) = (n / self.per_hour, n % self.per_hour);
        let micros = 3_600_000_000 / self.per_hour * within;
        self.from
            + TimeDelta::hours(i64::try_from(hour).unwrap_or(0))
            + TimeDelta::microseconds(i64::try_from(micros).unwrap_or(0))
    }

    /// Logs from one number up to another, by key.
    pub fn logs(self, from: usize, to: usize, make: Make) -> Vec<NewLog> {
        let mut logs: Vec<NewLog> = (from..to).map(|n| make(n as u64, self.at(n))).collect();
        logs.sort_by(|a, b| a.key.cmp(&b.key));
        logs
    }
}

impl Scene {
    /// So many logs in each hour.
    pub fn spread(&self, per_hour: usize) -> Spread {
        Spread { from: self.from, per_hour }
    }

    /// Stores `count` logs, `per_hour` in each hour; answers the bytes of their records.
    pub async fn fill(&self, count: usize, per_hour: usize, make: Make) -> anyhow::Result<u64> {
        let spread = self.spread(per_hour);
        let chunks = (0..count).step_by(CHUNK).map(|from| {
            let (to, pool) = ((from + CHUNK).min(count), self.worker.pool().clone());
            let task = async move { store(&pool, spread, (from, to), make).await };
            async move { tokio::spawn(task).await? }
        });
        let mut chunks = futures_util::stream::iter(chunks).buffer_unordered(CHUNKS);
        let (mut rows, mut bytes) = (0, 0);
        while let Some(stored) = chunks.next().await {
            let (more, of_them) = stored?;
            if (rows + more) / TOLD_EVERY > rows / TOLD_EVERY {
                eprintln!("  {} of {count} rows are there", rows + more);
            }
            (rows, bytes) = (rows + more, bytes + of_them);
        }
        drop(chunks);
        self.rested().await?;
        Ok(bytes)
    }

    /// Stores these.
    pub async fn insert(&self, logs: &[NewLog]) -> anyhow::Result<()> {
        for statement in logs.chunks(STATEMENT) {
            postgres::bare_insert(self.worker.pool(), statement).await?;
        }
        self.rested().await
    }

    /// The table as it is some time after its rows came, for whoever reads it first, and no write-back.
    async fn rested(&self) -> anyhow::Result<()> {
        for statement in ["VACUUM (ANALYZE) logs", "CHECKPOINT"] {
            sqlx::query(statement).execute(self.owner.pool()).await?;
        }
        Ok(())
    }

    /// No logs, and nothing that speaks of them.
    pub async fn empty(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("TRUNCATE logs, tombstones, archived_logs, search_documents; CHECKPOINT")
            .execute(self.owner.pool())
            .await?;
        Ok(())
    }
}

async fn store(
    pool: &PgPool,
    spread: Spread,
    (from, to): (usize, usize),
    make: Make,
) -> anyhow::Result<(usize, u64)> {
    let logs = tokio::task::block_in_place(|| spread.logs(from, to, make));
    let bytes: usize = logs.iter().map(|log| log.record.len()).sum();
    for statement in logs.chunks(STATEMENT) {
        postgres::bare_insert(pool, statement).await?;
    }
    Ok((to - from, bytes as u64))
}
