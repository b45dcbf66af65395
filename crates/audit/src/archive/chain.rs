//! Appending to a tenant's chain, in the transaction that the document speaks of: so there is never an
//! archive without its manifest or a deletion without its receipt, and never the reverse.
//!
//! ```ignore
//! let mut transaction = database.pool().begin().await?;
//! mark_written(&mut transaction, &unit).await?;
//! let end = chain::append(&mut transaction, &tenant, Body::Manifest(manifest), clock.now()).await?;
//! outbox::put(&mut transaction, &Draft::new(header, &cleanup(end.sequence, end.hash))?).await?;
//! transaction.commit().await?;
//! relay.wake();
//! ```
//!
//! The tenant's chain stays locked from the append to the end of the transaction: append late, commit
//! soon, and lock whatever else is locked before it. It neither signs nor stores; the sealer does.

use chrono::{DateTime, SubsecRound, Utc};
use contracts::errors::{CLOCK_BEHIND, DOCUMENT_TOO_LARGE, SIGNING_KEY_MISSING};
use contracts::{ErrorCode, Tenant};
use database::classify;
use evidence::Document;
use evidence::document::{Body, ChainEnd, ClockBehind, DOCUMENT_BYTES_MAX, Header, KeyRecord};
use queue_core::{Failure, Trouble};
use sqlx::PgConnection;

use crate::store::chain as store;

/// Bytes that are kept free for a document's seal: the statement and two signatures under the longest
/// names.
pub const SEAL_BYTES_MAX: u64 = 2_048;

/// Why nothing was appended. The chain is as it was; after [`AppendError::Database`] the transaction is
/// aborted.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The clock is wrong; it may be right later.
    #[error(transparent)]
    ClockBehind(#[from] ClockBehind),
    /// No key has been set up.
    #[error("there is no signing key: run `fleetctl signing init`")]
    NoKey,
    /// It would never fit into its file.
    #[error("a document of {0} bytes; the limit is {DOCUMENT_BYTES_MAX} with its seal")]
    TooLarge(u64),
    /// Key records follow from the keys; nobody appends one.
    #[error("a key record is appended by the chain itself")]
    KeyRecord,
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AppendError {
    /// The registry's code for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::ClockBehind(_) => CLOCK_BEHIND,
            Self::NoKey => SIGNING_KEY_MISSING,
            Self::TooLarge(_) => DOCUMENT_TOO_LARGE,
            Self::KeyRecord => contracts::errors::INTERNAL,
            Self::Database(error) => classify(error).code(),
        }
    }

    /// What a handler answers to it: a wrong clock and a missing key are waited out and never counted.
    pub fn failure(&self) -> Failure {
        let trouble = match self {
            Self::ClockBehind(_) | Self::NoKey => Trouble::Unavailable,
            Self::TooLarge(_) => Trouble::Invalid,
            Self::KeyRecord => Trouble::Poison,
            Self::Database(error) => return classify(error).failure(error.to_string()),
        };
        trouble.failure(self.code(), self.to_string(), None)
    }
}

/// Appends a manifest or a receipt to the tenant's chain and returns the chain's new end: the
/// document's number and hash. In an empty chain the key's record goes first; after a rotation, the
/// rotation's. It takes effect when the caller's transaction commits, and not otherwise.
///
/// Needs [`database::Role::Worker`]. A document has at most [`DOCUMENT_BYTES_MAX`] less
/// [`SEAL_BYTES_MAX`].
pub async fn append(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    body: Body,
    now: DateTime<Utc>,
) -> Result<ChainEnd, AppendError> {
    if matches!(body, Body::Key(_)) {
        return Err(AppendError::KeyRecord);
    }
    let mut chain = Chain::lock(transaction, tenant, now).await?;
    let record = chain.key_record()?;
    let document = chain.document(body)?;
    if let Some(record) = record {
        store::put(transaction, &record.document, record.cosigner.as_deref()).await?;
    }
    store::put(transaction, &document, None).await?;
    store::move_end(transaction, tenant, &document.end(), &chain.signer).await?;
    Ok(document.end())
}

/// Appends the rotation's record to the tenant's chain, where its key is not the newest one. Tells
/// whether it was not. An empty chain begins with the newest key anyway.
pub async fn rotate(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    now: DateTime<Utc>,
) -> Result<bool, AppendError> {
    let mut chain = Chain::lock(transaction, tenant, now).await?;
    if chain.end.is_none() {
        return Ok(false);
    }
    let Some(record) = chain.key_record()? else { return Ok(false) };
    store::put(transaction, &record.document, record.cosigner.as_deref()).await?;
    store::move_end(transaction, tenant, &record.document.end(), &chain.signer).await?;
    Ok(true)
}

/// A chain whose end is locked.
struct Chain<'a> {
    tenant: &'a Tenant,
    end: Option<ChainEnd>,
    /// The key that signs the next document; empty in an empty chain.
    signer: String,
    newest: store::SigningKey,
    now: DateTime<Utc>,
}

struct Record {
    document: Document,
    /// The new key, in a rotation.
    cosigner: Option<String>,
}

impl<'a> Chain<'a> {
    async fn lock(
        transaction: &mut PgConnection,
        tenant: &'a Tenant,
        now: DateTime<Utc>,
    ) -> Result<Self, AppendError> {
        let (end, signer) = store::lock_end(transaction, tenant).await?;
        // After the lock: a rotation that was committed while we waited counts.
        let newest = store::newest_key(transaction).await?.ok_or(AppendError::NoKey)?;
        // Times have microseconds in documents and in PostgreSQL.
        Ok(Self {
            tenant,
            end,
            signer: signer.unwrap_or_default(),
            newest,
            now: now.trunc_subsecs(6),
        })
    }

    /// The record that has to come before anything else, if any.
    fn key_record(&mut self) -> Result<Option<Record>, AppendError> {
        if self.signer == self.newest.key_id {
            return Ok(None);
        }
        let first = self.end.is_none();
        let newest = self.newest.key_id.clone();
        let replaces = (!first).then(|| self.signer.clone());
        if first {
            self.signer.clone_from(&newest);
        }
        let body = Body::Key(KeyRecord {
            public_key: self.newest.public_key.clone(),
            replaces,
            reason: if first { "first".to_owned() } else { self.newest.reason.clone() },
        });
        // Its header names the key that the chain had; both sign.
        let document = self.document(body)?;
        self.signer.clone_from(&newest);
        self.end = Some(document.end());
        Ok(Some(Record { document, cosigner: (!first).then_some(newest) }))
    }

    fn document(&self, body: Body) -> Result<Document, AppendError> {
        let header = Header::next(self.tenant, self.end, self.now, self.signer.clone())?;
        let document = Document { header, body };
        let bytes = document.bytes().len() as u64;
        if bytes + SEAL_BYTES_MAX > DOCUMENT_BYTES_MAX {
            return Err(AppendError::TooLarge(bytes));
        }
        Ok(document)
    }
}
