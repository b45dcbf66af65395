//! A database per test: cloned from a template that was migrated once, in one throwaway cluster
//! that all test processes of this user share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use database::{Database, DatabaseConfig, Role};
use local_services::shared::Shared;
use local_services::{Durability, PartError, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::missing::required;

/// A cluster answers within this, or it is taken for dead and started again under the others. A dead
/// one refuses at once; a live one on a busy machine is slow.
const ALIVE: Duration = Duration::from_secs(30);

/// How long a test waits for a connection.
const PATIENCE_MS: u64 = 60_000;

/// Superuser URL of the shared cluster without a database name, found once per process.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Cluster {
    base: String,
    template: String,
    shared: Shared,
}

/// A migrated database of a test's own, with partitions for the coming days. Dropped with the value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// Makes one; about 50 ms when the cluster runs.
    pub async fn new() -> Self {
        let cluster = CLUSTER.get_or_init(Cluster::ready).await;
        Self::made(cluster, Some(&cluster.template)).await
    }

    /// An empty one, without any migration.
    pub async fn unmigrated() -> Self {
        let cluster = CLUSTER.get_or_init(Cluster::ready).await;
        Self::made(cluster, None).await
    }

    async fn made(cluster: &Cluster, template: Option<&str>) -> Self {
        cluster.shared.touch();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{count}", std::process::id());
        let mut connection = cluster.connect("postgres").await.expect("the cluster answers");
        // A process id comes round again, and its databases may have stayed behind.
        execute(&mut connection, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        let of = template.map(|name| format!(" TEMPLATE {name}")).unwrap_or_default();
        execute(&mut connection, format!("CREATE DATABASE {name}{of}")).await;
        connection.close().await.ok();
        Self { url: format!("{}/{name}", cluster.base), name }
    }

    /// `postgres://…`, as the owner of everything in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Settings for this database, with a patience that outlasts a busy machine: what a test looks up
    /// is not what it tests.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig {
            database_acquire_timeout_ms: PATIENCE_MS,
            ..DatabaseConfig::for_url(&self.url)
        }
    }

    /// A pool under a role.
    pub fn connect(&self, role: Role) -> Database {
        Database::connect(&self.config(), role).expect("the URL is our own")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let base = self.url.trim_end_matches(&self.name).to_owned();
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A thread with a runtime of its own: this one may be blocked or on its way out.
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut connection =
                    PgConnection::connect(&format!("{base}postgres")).await.ok()?;
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await.ok()?;
                connection.close().await.ok()
            })
        });
        thread.join().ok();
    }
}

impl Cluster {
    /// Finds or starts the cluster, and makes today's template.
    async fn ready() -> Self {
        let shared = required(Shared::named("postgres"));
        let base = shared.endpoint(answers, start).await;
        let mut cluster = Self { base: required(base), template: String::new(), shared };
        cluster.template = required(cluster.template().await);
        cluster
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&format!("{}/{database}", self.base)).await
    }

    /// A template per schema and day: partitions are made for the days from the migration on.
    async fn template(&self) -> Result<String, PartError> {
        let _lock = self.shared.lock("template").await?;
        let mut connection = self.connect("postgres").await.expect("the cluster answers");
        let day: String = sqlx::query_scalar("SELECT to_char(now(), 'YYYYMMDD')")
            .fetch_one(&mut connection)
            .await
            .expect("the day");
        let name = format!("template_{day}_{}", short_hash(&database::schema::fingerprint()));
        let known: Vec<String> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database WHERE datname LIKE 'template\\__%'",
        )
        .fetch_all(&mut connection)
        .await
        .expect("the templates");
        if !known.contains(&name) {
            let making = format!("making_{name}");
            execute(&mut connection, format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)"))
                .await;
            execute(&mut connection, format!("CREATE DATABASE {making}")).await;
            self.migrate(&making).await;
            execute(&mut connection, format!("ALTER DATABASE {making} RENAME TO {name}")).await;
        }
        self.sweep(&mut connection, &known, &day).await;
        connection.close().await.ok();
        Ok(name)
    }

    async fn migrate(&self, name: &str) {
        let config = DatabaseConfig::for_url(format!("{}/{name}", self.base));
        let owner = Database::connect(&config, Role::Owner).expect("the URL is our own");
        owner.migrate().await.expect("the migrations apply");
        owner.close().await;
    }

    /// Drops templates of earlier days and databases whose process has ended.
    async fn sweep(&self, connection: &mut PgConnection, known: &[String], day: &str) {
        let today = format!("template_{day}_");
        let tests: Vec<String> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database WHERE datname LIKE 'test\\_%'",
        )
        .fetch_all(&mut *connection)
        .await
        .expect("the databases");
        let old = known.iter().filter(|name| {
            // `template_20260101_…` but not PostgreSQL's own template0 and template1.
            name.starts_with("template_") && **name < today && name.len() > today.len()
        });
        let dead = tests.iter().filter(|name| {
            let pid = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
            pid.is_some_and(|pid| !local_services::process::alive(pid))
        });
        for name in old.chain(dead) {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await.ok();
        }
    }
}

async fn start(shared: &Shared) -> Result<String, PartError> {
    let cluster =
        Postgres::start_with(&shared.directory(), Durability::Throwaway, shared.keep()).await?;
    let url = cluster.url_of("");
    Ok(url.trim_end_matches('/').to_owned())
}

async fn answers(base: &str) -> bool {
    let ping = async {
        let mut connection = PgConnection::connect(&format!("{base}/postgres")).await?;
        connection.ping().await?;
        connection.close().await
    };
    tokio::time::timeout(ALIVE, ping).await.is_ok_and(|result| result.is_ok())
}

async fn execute(connection: &mut PgConnection, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn short_hash(text: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(text.as_bytes()))[..16].to_owned()
}
