//! Whether PostgreSQL, search and the archive hold the same logs, per tenant and hour, and whether the
//! tenant's chain in PostgreSQL is the one that was published. What one store lacks and another proves is
//! put back: search documents from rows, documents and heads of the chain, index rows, marks and tombstones
//! from the signed documents in the archive's store.
//!
//! On its own it deletes nothing. Rows that a restore of PostgreSQL brought back go only where the caller
//! says so ([`Reconciler::remove_proved`]), each because a signed receipt of the tenant's chain lists it and
//! its leaf, no hold keeps it, and it is that very record.
//!
//! | Step of a mend, per document in the chain's order | A death after it |
//! |---|---|
//! | the whole published rest is read and verified | nothing happened |
//! | a receipt's ids are buried; a manifest's stored rows are marked | done again: both are keyed |
//! | one transaction: index, unit, document with its seal, the chain's end | all of it or none; the next run goes on behind it |
//! | the sealer finds the document in the store and marks it | it finds it again |
//!
//! So whatever a document proves is in force before the chain says the document is there.

mod chain;
mod finding;
mod mend;
mod proved;
mod published;
mod receipts;
mod search;
mod stores;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use database::Database;
use evidence::VerifyKey;
use evidence::verify::Broken;
use queue_core::Clock;
use serde::Serialize;
use sinks::SinkError;
use sinks::objects::SharedObjects;
use sinks::search::SharedSearch;

pub use chain::{ChainStanding, ChainState, Depth, UNPUBLISHED_MAX};
pub use finding::{Count, EXAMPLES_MAX, Finding, FindingKind, Findings};
pub use mend::{MENDED_ACTION, Mended};
pub use receipts::{APPLIED_ACTION, Removed};
pub use stores::{Detail, Hour, Window};

use crate::store;

/// Why the reconciler does not go on with a tenant.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The archive's store, or search.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The published chain does not go on where PostgreSQL's ends, or is itself not whole. Nothing of it is
    /// believed.
    #[error("chain-broken: {0}")]
    Broken(String),
    /// There is a published chain and no key to believe.
    #[error(
        "tenant {0} has a published chain and PostgreSQL has no signing key: name the public key that is trusted"
    )]
    NoKey(Tenant),
    /// A key of the published chain is to be set up, which only the owner may.
    #[error(
        "key {0} of the published chain is not set up here: repairing it needs the owner's role"
    )]
    NoOwner(String),
    /// What the chain says is at odds with what there is.
    #[error("{0}")]
    Wrong(String),
}

impl From<Broken> for ReconcileError {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken.to_string())
    }
}

impl From<store::UnitError> for ReconcileError {
    fn from(error: store::UnitError) -> Self {
        match error {
            store::UnitError::Database(error) => Self::Database(error),
            other => Self::Wrong(other.to_string()),
        }
    }
}

/// Whom the fleet's own audit entries name, and why it is done.
#[derive(Clone, Debug)]
pub struct Author {
    /// Who.
    pub by: String,
    /// Why, in words.
    pub reason: String,
}

/// What came of one tenant.
#[derive(Clone, Debug, Serialize)]
pub struct TenantReport {
    /// Whose.
    pub tenant: Tenant,
    /// Where its chain stands; none where no archive is configured.
    pub chain: Option<ChainStanding>,
    /// Hours that hold anything, or of a look by totals those that differ.
    pub hours: Vec<Hour>,
    /// What is not as it should be.
    pub findings: Findings,
}

/// What the reconciler works on.
pub struct Parts {
    /// On a pool under the worker's role.
    pub database: Database,
    /// On a pool under the owner's role, to set up keys that a restore took away.
    pub owner: Option<Database>,
    /// The archive's store, where one is configured.
    pub objects: Option<SharedObjects>,
    /// A second store of signed heads.
    pub heads: Option<SharedObjects>,
    /// The search engine.
    pub search: SharedSearch,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Keys that are trusted besides those that PostgreSQL knows.
    pub keys: Vec<VerifyKey>,
}

/// Compares the stores and mends what can be proved.
pub struct Reconciler {
    database: Database,
    owner: Option<Database>,
    objects: Option<SharedObjects>,
    heads: Option<SharedObjects>,
    search: SharedSearch,
    clock: Arc<dyn Clock>,
    keys: Vec<VerifyKey>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl Reconciler {
    /// On these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { database, owner, objects, heads, search, clock, keys } = parts;
        Self { database, owner, objects, heads, search, clock, keys }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The archive's store.
    fn store(&self) -> Result<&SharedObjects, ReconcileError> {
        self.objects
            .as_ref()
            .ok_or_else(|| ReconcileError::Wrong("no archive is configured".to_owned()))
    }

    /// Whether an archive is configured.
    pub fn has_archive(&self) -> bool {
        self.objects.is_some()
    }

    /// Whether PostgreSQL knows of an archive: somebody who has none configured cannot tell whether it
    /// was rolled back.
    pub async fn knows_archive(&self) -> Result<bool, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        Ok(!store::reconcile::public_keys(&mut connection).await?.is_empty())
    }

    /// Up to `limit` tenants after one, by name: those that PostgreSQL knows.
    pub async fn tenants(&self, after: &str, limit: i64) -> Result<Vec<Tenant>, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        Ok(store::reconcile::tenants(&mut connection, after, limit).await?)
    }

    /// Tenants that have a published chain, PostgreSQL knowing of them or not.
    pub async fn published_tenants(&self) -> Result<Vec<Tenant>, ReconcileError> {
        let Some(objects) = &self.objects else { return Ok(Vec::new()) };
        let folders = objects.list_folders(evidence::document::proof_prefix()).await?;
        Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
    }

    /// Looks at one tenant and changes nothing: its chain, and the hours of the window.
    pub async fn look(
        &self,
        tenant: &Tenant,
        window: Window,
        depth: Depth,
    ) -> Result<TenantReport, ReconcileError> {
        let mut findings = Findings::default();
        let chain = match &self.objects {
            Some(_) => Some(self.standing(tenant, depth, &mut findings).await?),
            None => None,
        };
        let hours = self.hours(tenant, window, false, &mut findings).await?;
        Ok(TenantReport { tenant: tenant.clone(), chain, hours, findings })
    }
}
