//! What the product's processes stand on during a measurement: PostgreSQL and Redis of their own, a
//! migrated database, a tenant and a key.

use contracts::RetentionClass;
use database::api_keys::NewKey;
use database::{Database, Role};

use crate::{machine, postgres, samples};

/// PostgreSQL and Redis, and a key for the API.
pub struct Backends {
    /// The system of record.
    pub postgres: local_services::Postgres,
    /// The live tail.
    pub redis: local_services::Redis,
    /// May write and read logs.
    pub key: String,
    _folder: tempfile::TempDir,
}

impl Backends {
    /// Starts both, migrates, makes a tenant and a key.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let postgres = local_services::Postgres::start(&folder.path().join("postgres")).await?;
        let redis = local_services::Redis::start(&folder.path().join("redis")).await?;
        let owner = Database::connect(&postgres::config(&postgres.url())?, Role::Owner)?;
        owner.migrate().await?;
        database::partitions::ensure_ahead(owner.pool(), machine::now(), 14).await?;
        let tenant = samples::tenant();
        database::tenants::create(owner.pool(), &tenant, RetentionClass::Days90, false).await?;
        let key = edge::key::generate("bench");
        let scopes = ["logs:write".to_owned(), "logs:read".to_owned()];
        let new = NewKey {
            key_id: &key.key_id,
            tenant: &tenant,
            env: "bench",
            secret_sha256: key.secret_sha256,
            scopes: &scopes,
            name: "bench",
            expires_at: None,
        };
        database::api_keys::create(owner.pool(), new).await?;
        owner.close().await;
        Ok(Self { postgres, redis, key: key.text, _folder: folder })
    }
}
