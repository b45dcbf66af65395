//! The schema: migrations embedded from the workspace's `migrations/`, applied by whoever is told to
//! (`fleetctl migrate`, `fleet` on a laptop), one at a time, and what readiness says about them.

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use crate::error::{DbErrorClass, classify};
use crate::partitions;
use crate::pool::Database;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Migrating failed; what was applied before stays, each migration being one transaction.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A migration, or the reading of those applied before.
    #[error("migrate: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The first partitions.
    #[error("make partitions: {0}")]
    Partitions(sqlx::Error),
    /// The connection.
    #[error("connect to migrate: {}", explain(.0))]
    Connection(sqlx::Error),
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MigrateReport {
    /// Versions applied by this run, oldest first; empty when there was nothing to do.
    pub applied: Vec<i64>,
    /// The schema's version now.
    pub version: i64,
    /// Partitions made by this run.
    pub partitions_made: u64,
}

/// The newest migration this binary carries.
pub fn latest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// A fingerprint of all migrations of this binary, for caches of migrated databases.
pub fn fingerprint() -> String {
    use std::fmt::Write as _;
    MIGRATOR.iter().fold(String::new(), |mut text, migration| {
        let short = migration.checksum.iter().take(6);
        short.for_each(|byte| write!(text, "{byte:02x}").expect("a String takes every write"));
        text
    })
}

impl Database {
    /// Applies what is missing, under an advisory lock of the database: a second run waits, then
    /// finds nothing to do. Also makes the partitions of the coming days, by the server's clock.
    /// Migrations newer than this binary are left alone, so that an older release may start.
    ///
    /// Needs the right to create tables and, the first time, roles.
    pub async fn migrate(&self) -> Result<MigrateReport, MigrateError> {
        // A connection of its own: the lock ends with it, whatever happens in between.
        let mut connection = self.dedicated().await.map_err(MigrateError::Connection)?;
        let result = migrate(&mut connection).await;
        connection.close().await.ok();
        result
    }

    /// The newest migration applied to the database.
    pub async fn schema_version(&self) -> Result<i64, sqlx::Error> {
        version(&mut *self.pool().acquire().await?).await
    }
}

async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    Ok(versions(connection).await?.last().copied().unwrap_or(0))
}

/// The migrations applied to the database, oldest first.
pub(crate) async fn versions(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await
}

async fn migrate(connection: &mut PgConnection) -> Result<MigrateReport, MigrateError> {
    let migrator = Migrator {
        ignore_missing: true,
        migrations: MIGRATOR.migrations.clone(),
        ..Migrator::DEFAULT
    };
    sqlx::query("SELECT pg_advisory_lock(hashtextextended('flotilla.migrate', 0))")
        .execute(&mut *connection)
        .await
        .map_err(MigrateError::Connection)?;
    let before = applied(connection).await?;
    migrator.run_direct(None, connection, false).await?;
    let after = applied(connection).await?;
    let report = partitions::ensure_ahead_by_server_clock(connection).await;
    Ok(MigrateReport {
        version: after.iter().copied().max().unwrap_or(0),
        applied: after.into_iter().filter(|version| !before.contains(version)).collect(),
        partitions_made: report.map_err(MigrateError::Partitions)?,
    })
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, MigrateError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(MigrateError::Connection)?;
    if !exists {
        return Ok(Vec::new());
    }
    versions(connection).await.map_err(MigrateError::Connection)
}

/// Whether a schema with those migrations serves this binary: none of its own may be missing, also
/// not in the middle, where a build of another branch was there first. A newer schema serves: each
/// migration is safe beside the previous release's code.
pub(crate) fn compatible(applied: &[i64]) -> Result<(), String> {
    let missing: Vec<i64> = MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .filter(|version| !applied.contains(version))
        .collect();
    let (Some(first), at) = (missing.first(), applied.last().copied().unwrap_or(0)) else {
        return Ok(());
    };
    let wanted = latest();
    Err(if at < *first {
        format!("schema is at version {at}, this binary needs {wanted}: run `fleetctl migrate`")
    } else {
        format!(
            "schema is at version {at} and lacks {missing:?}, which came out of order: run \
             `fleetctl migrate`, which applies them"
        )
    })
}

/// An error in an operator's words.
pub(crate) fn explain(error: &sqlx::Error) -> String {
    if let sqlx::Error::Database(database) = error {
        let missing = matches!(database.code().as_deref(), Some("42P01" | "22023"));
        if missing && classify(error) == DbErrorClass::Unavailable {
            return format!("not migrated ({}): run `fleetctl migrate`", database.message());
        }
    }
    error.to_string()
}
