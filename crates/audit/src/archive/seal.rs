//! The sealer: signs what the chains hold, in order, and puts it into the object store; then heads over
//! it. Every step may be done twice, by this process or another: a seal that is kept is the one that
//! counts, a document goes under its own name and is never overwritten, marks say what was seen.
//!
//! A tenant whose chain does not go on keeps none of the others waiting. It archives and deletes nothing.

use std::time::Duration;

use chrono::TimeDelta;
use contracts::Tenant;
use database::{Database, timed};
use evidence::document::{DOCUMENT_BYTES_MAX, document_name, seal};
use evidence::key::SignError;
use evidence::note::Signed;
use evidence::{Document, Hash, Sealed, Signer};
use queue_core::Clock;
use sinks::SinkError;
use sinks::objects::{ObjectKey, SharedObjects, Write, Written};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::events::{Forked, Stalled, Stored, counted};
use super::signing::Keys;
use crate::crash::{CrashPoint, reach};
use crate::store::chain::{self as store, Standing, Unstored};

/// Tenants that are looked at in one go.
const TENANTS: i64 = 100;
/// Documents of a tenant in one go; each has at most 2 MiB.
const DOCUMENTS: i64 = 16;
/// One statement.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// One signature; a key service answers within seconds.
pub(super) const SIGN_TIMEOUT: Duration = Duration::from_secs(15);

/// When heads are signed.
#[derive(Clone, Copy, Debug)]
pub struct SealerConfig {
    /// A head of every chain at least so often, also where nothing was added: it shows that nothing was.
    pub head_every: TimeDelta,
    /// A chain that grew and then rested so long gets one at once.
    pub head_after_quiet: TimeDelta,
    /// Between two passes while nobody wakes it.
    pub sweep: Duration,
}

impl Default for SealerConfig {
    /// Every hour; after a minute of quiet; a pass every 5 s.
    fn default() -> Self {
        Self {
            head_every: TimeDelta::hours(1),
            head_after_quiet: TimeDelta::minutes(1),
            sweep: Duration::from_secs(5),
        }
    }
}

/// Why a tenant's chain does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The document names a key that this process has not.
    #[error(
        "no private key for {0}: give it as ARCHIVE_SIGNING_KEY or ARCHIVE_SIGNING_KEY_PREVIOUS"
    )]
    NoSigner(String),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It did not sign in time.
    #[error("key {0}: no signature within {SIGN_TIMEOUT:?}")]
    SignTimeout(String),
    /// The store did not take it, or could not be read.
    #[error(transparent)]
    Store(#[from] SinkError),
    /// The store holds something else under this name; nothing is overwritten.
    #[error("chain-forked: the store holds another {0}")]
    Forked(String),
    /// A row is not what was written: the database was changed by another hand.
    #[error("document {0} is not what was appended: {1}")]
    Changed(u64, &'static str),
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl SealError {
    fn cause(&self) -> &'static str {
        match self {
            Self::NoSigner(_) => "no-signer",
            Self::Sign(_) | Self::SignTimeout(_) => "sign",
            Self::Store(_) => "store",
            Self::Forked(_) => "chain-forked",
            Self::Changed(..) => "changed",
            Self::Database(_) => "database",
        }
    }
}

/// What one pass over the tenants did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Documents that are in the store now.
    pub stored: u64,
    /// Heads that were signed.
    pub heads: u64,
    /// Tenants whose chain did not go on.
    pub stalled: u64,
    /// Documents that still wait.
    pub unstored: u64,
}

/// Signs and stores what the chains hold. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    pub(super) database: Database,
    pub(super) keys: Keys,
    pub(super) objects: SharedObjects,
    /// A second store for heads: another bucket of another account.
    pub(super) second: Option<SharedObjects>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: SealerConfig,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer that puts documents into `objects`. Needs [`database::Role::Worker`], and two
    /// connections at a time.
    pub fn new(
        database: &Database,
        keys: Keys,
        objects: SharedObjects,
        clock: Arc<dyn Clock>,
        config: SealerConfig,
    ) -> Self {
        let (database, wake) = (database.clone(), Arc::default());
        Self { database, keys, objects, second: None, clock, config, wake }
    }

    /// Copies every head there too.
    #[must_use]
    pub fn with_second_store(self, objects: SharedObjects) -> Self {
        Self { second: Some(objects), ..self }
    }

    /// Something was appended and committed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Passes until `drain`. What is left then is for the next one.
    pub async fn run(&self, drain: CancellationToken) {
        while !drain.is_cancelled() {
            let passed = tokio::select! {
                passed = self.pass() => passed,
                () = drain.cancelled() => return,
            };
            match passed {
                Ok(Pass { stored, unstored, .. }) if stored > 0 && unstored > 0 => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "failed to read the chains"),
            }
            tokio::select! {
                () = drain.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.config.sweep) => {}
            }
        }
    }

    /// Goes once over every chain: some documents of each, and the heads that are due.
    pub async fn pass(&self) -> Result<Pass, sqlx::Error> {
        let (mut total, mut after) = (Pass::default(), String::new());
        loop {
            let standings =
                store::standings(self.database.pool(), &after, self.second.is_some(), TENANTS);
            let standings = timed(CALL_TIMEOUT, standings).await?;
            let Some(last) = standings.last() else { break };
            last.tenant.as_str().clone_into(&mut after);
            for standing in standings {
                self.attend(standing, &mut total).await?;
            }
        }
        counted(total.unstored, total.stalled);
        Ok(total)
    }

    async fn attend(&self, mut standing: Standing, total: &mut Pass) -> Result<(), sqlx::Error> {
        let grown = standing.stored < standing.sequence;
        if !grown && !standing.unpublished && !self.head_due(&standing) {
            return Ok(());
        }
        // Held by this transaction, which writes nothing itself.
        let mut lock = timed(CALL_TIMEOUT, self.database.pool().begin()).await?;
        if !timed(CALL_TIMEOUT, store::try_lock_sealing(&mut lock, &standing.tenant)).await? {
            total.unstored += standing.sequence.saturating_sub(standing.stored);
            return Ok(());
        }
        let done = self.documents(&mut standing, &mut total.stored).await;
        let done = match done {
            Ok(()) => self.heads(&standing, &mut total.heads).await,
            Err(error) => Err(error),
        };
        // More may have been appended since.
        total.unstored += standing.sequence.saturating_sub(standing.stored);
        if let Err(error) = &done {
            total.stalled += 1;
            let (tenant, cause) = (&standing.tenant, error.cause());
            if let SealError::Forked(object) = error {
                Forked { tenant, object }.emit();
            }
            Stalled { tenant, cause, error }.emit();
        }
        lock.rollback().await.ok();
        self.alarm(&standing.tenant, &done).await
    }

    async fn documents(&self, standing: &mut Standing, count: &mut u64) -> Result<(), SealError> {
        let unstored = store::unstored(self.database.pool(), &standing.tenant, DOCUMENTS);
        for document in timed(CALL_TIMEOUT, unstored).await? {
            self.document(&standing.tenant, &document).await?;
            standing.stored = document.sequence;
            standing.stored_at = Some(self.clock.now());
            *count += 1;
        }
        Ok(())
    }

    /// Seals one document, stores it, marks it.
    pub(crate) async fn document(&self, tenant: &Tenant, row: &Unstored) -> Result<(), SealError> {
        let document = intact(row)?;
        let seal = if let Some(kept) = &row.seal {
            kept.clone()
        } else {
            let made = self.seal(&document, row).await?;
            reach(CrashPoint::AfterSign);
            let keep = store::keep_seal(self.database.pool(), tenant, row.sequence, &made);
            let kept = timed(CALL_TIMEOUT, keep).await?;
            reach(CrashPoint::AfterSealKept);
            kept
        };
        let file = [&row.document[..], b"\n", &seal].concat();
        let name = document_name(tenant, row.sequence, row.kind);
        let key = object_key(&name, row.sequence)?;
        if self.objects.put(&key, file.clone(), Write::IfAbsent).await? == Written::AlreadyThere {
            let there = self.objects.get(&key, DOCUMENT_BYTES_MAX).await?;
            if !there.is_some_and(|there| there == file || self.same(&there, row)) {
                return Err(SealError::Forked(name));
            }
        }
        reach(CrashPoint::AfterDocumentPut);
        let mark = store::mark_stored(self.database.pool(), tenant, row.sequence);
        timed(CALL_TIMEOUT, mark).await?;
        reach(CrashPoint::AfterDocumentMark);
        Stored { tenant, sequence: row.sequence, kind: row.kind.as_str() }.emit();
        Ok(())
    }

    /// The seal: what comes after the document's line and the empty line.
    async fn seal(&self, document: &Document, row: &Unstored) -> Result<Vec<u8>, SealError> {
        let mut signers: Vec<&dyn Signer> = Vec::with_capacity(2);
        for key_id in std::iter::once(&row.key_id).chain(&row.cosigner) {
            signers.push(self.signer(key_id)?);
        }
        let file = match tokio::time::timeout(SIGN_TIMEOUT, seal(document, &signers)).await {
            Ok(sealed) => sealed?,
            Err(_) => return Err(SealError::SignTimeout(row.key_id.clone())),
        };
        Ok(file[row.document.len() + 1..].to_vec())
    }

    pub(super) fn signer(&self, key_id: &str) -> Result<&dyn Signer, SealError> {
        let signer = self.keys.get(key_id).ok_or_else(|| SealError::NoSigner(key_id.to_owned()))?;
        Ok(signer.as_ref())
    }

    /// Whether a file is the same document under a valid seal of its key: sealed by another process
    /// whose seal was not the one that was kept.
    fn same(&self, file: &[u8], row: &Unstored) -> bool {
        let (Ok(there), Ok(signer)) = (Sealed::parse(file), self.signer(&row.key_id)) else {
            return false;
        };
        there.hash == row.sha256 && there.note.signed_by(signer.key()) == Signed::Valid
    }
}

/// The document as it was appended.
fn intact(row: &Unstored) -> Result<Document, SealError> {
    let changed = |what| SealError::Changed(row.sequence, what);
    if Hash::of(&row.document) != row.sha256 {
        return Err(changed("its hash is another"));
    }
    let document: Document =
        serde_json::from_slice(&row.document).map_err(|_| changed("it cannot be read"))?;
    if document.bytes() != row.document || document.header.sequence != row.sequence {
        return Err(changed("its bytes are not those of its values"));
    }
    Ok(document)
}

pub(super) fn object_key(name: &str, sequence: u64) -> Result<ObjectKey, SealError> {
    name.parse().map_err(|_| SealError::Changed(sequence, "it has no possible name"))
}
