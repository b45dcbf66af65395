//! The pool: lazy, bounded, every connection under its role and with the server's own time limits.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use contracts::Tenant;
use queue_core::Probe;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use crate::config::{DatabaseConfig, Role};
use crate::error::timed;

/// A probe answers within this, before whoever asks gives up (`/readyz`: 2 s).
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A transaction that idles longer holds back vacuum and the feed's horizon; the server ends it.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);
/// Prepared statements per connection; our texts are constants, so this is never reached.
const STATEMENTS_CACHED: usize = 256;

/// A pool of connections to one database under one role. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    role: Role,
}

/// The URL cannot be read. It is not repeated here: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "DATABASE_URL is not a PostgreSQL URL ({0}); e.g. postgres://flotilla@db.internal:5432/flotilla"
)]
pub struct InvalidUrl(String);

impl Database {
    /// A pool that connects when it is first used. Needs a tokio runtime.
    pub fn connect(config: &DatabaseConfig, role: Role) -> Result<Self, InvalidUrl> {
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| config.database_url.starts_with(scheme));
        if !is_postgres {
            return Err(InvalidUrl("it does not start with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(&config.database_url)
            .map_err(|error| InvalidUrl(error.to_string()))?
            .application_name(role.name().unwrap_or("flotilla"))
            .statement_cache_capacity(STATEMENTS_CACHED);
        let session = session_settings(role, config.database_statement_timeout_secs);
        let pool = PgPoolOptions::new()
            .max_connections(config.database_pool_max)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(1_800))
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move {
                    sqlx::raw_sql(AssertSqlSafe(session)).execute(connection).await.map(|_| ())
                })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, role })
    }

    /// The pool. Under [`Role::Api`] a query outside [`Database::tenant`] sees no tenant's rows.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The role every connection of the pool has.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Begins a transaction bound to a tenant: what row-level security reads. Rolled back when dropped.
    pub async fn tenant(
        &self,
        tenant: &Tenant,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("SELECT set_config('flotilla.tenant', $1, true)")
            .bind(tenant.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    /// Closes the pool, waiting for connections that are in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A connection of its own, outside the pool, as whoever the URL logs in.
    pub(crate) async fn dedicated(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.options).await
    }

    /// The schema's migrations, without ever waiting for the pool: through a connection that is idle
    /// in it, else through a new one, whose error says what the pool would hide behind a timeout.
    async fn look(&self) -> Result<Vec<i64>, sqlx::Error> {
        if let Some(mut pooled) = self.pool.try_acquire()
            && let Ok(applied) = crate::schema::versions(&mut pooled).await
        {
            return Ok(applied);
        }
        let mut connection = self.dedicated().await?;
        if let Some(role) = self.role.name() {
            let set_role = AssertSqlSafe(format!("SET ROLE {role}"));
            sqlx::raw_sql(set_role).execute(&mut connection).await?;
        }
        let applied = crate::schema::versions(&mut connection).await?;
        connection.close().await.ok();
        Ok(applied)
    }
}

#[async_trait]
impl Probe for Database {
    fn name(&self) -> &'static str {
        "postgres"
    }

    /// Reachable, the role exists, and the schema has every migration of this binary.
    async fn probe(&self) -> Result<(), String> {
        match timed(PROBE_TIMEOUT, self.look()).await {
            Ok(applied) => crate::schema::compatible(&applied),
            Err(error) => Err(crate::schema::explain(&error)),
        }
    }
}

fn session_settings(role: Role, statement_timeout_secs: u64) -> String {
    let role = role.name().map(|name| format!("SET ROLE {name};")).unwrap_or_default();
    format!(
        "{role} SET statement_timeout = '{statement_timeout_secs}s'; \
         SET idle_in_transaction_session_timeout = '{}s'; SET timezone = 'UTC'",
        IDLE_IN_TRANSACTION.as_secs()
    )
}
