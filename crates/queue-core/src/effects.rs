//! Effects once: what an effect is known by, the port to the ledger that remembers it, and the one
//! way a handler runs an effect that no transaction of ours can hold. Effects in PostgreSQL need no
//! port: they claim their entry in the transaction of the effect. A ledger never decides what an
//! effect is, and it cannot make one happen once where the other side keeps no account of it: such
//! doubt is told, not hidden.

mod memory;
mod once;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use contracts::{Header, Tenant};
use sha2::{Digest, Sha256};

pub use memory::{MEMORY_ENTRIES_MAX, MemoryEffects, MemoryTransaction};
pub use once::{Promise, once};

/// Bytes of an outcome: an id or a receipt, not a document.
pub const OUTCOME_BYTES_MAX: usize = 4_096;
/// Bytes of a key as it is stored; a longer one is stored as its hash.
pub const KEY_BYTES_MAX: usize = 256;

/// What an effect is known by: the same key is the same effect, whatever message asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EffectKey {
    scope: &'static str,
    tenant: Tenant,
    key: String,
}

impl EffectKey {
    /// An effect of one message: its envelope id, which survives a redrive and a re-sending.
    /// `scope` tells several effects of one message apart, e.g. `orders.charge`.
    pub fn of_message(scope: &'static str, header: &Header) -> Self {
        Self { scope, tenant: header.tenant.clone(), key: format!("id:{}", header.id) }
    }

    /// An effect of a thing: the header's business key at its revision, or the message where it
    /// names none. Two messages about one revision of one thing are one effect.
    pub fn of_thing(scope: &'static str, header: &Header) -> Self {
        let Some(key) = &header.key else { return Self::of_message(scope, header) };
        match header.revision {
            Some(revision) => {
                Self::named(scope, header.tenant.clone(), &format!("{revision}@{key}"))
            }
            None => Self::named(scope, header.tenant.clone(), key),
        }
    }

    /// An effect under a name of the caller's own.
    pub fn named(scope: &'static str, tenant: Tenant, name: &str) -> Self {
        let key = format!("key:{name}");
        // A text that PostgreSQL does not store, or that an index does not take.
        let key = if key.len() > KEY_BYTES_MAX || key.contains('\0') {
            format!("sha256:{}", hex::encode(Sha256::digest(name.as_bytes())))
        } else {
            key
        };
        Self { scope, tenant, key }
    }

    /// Which effect, e.g. `orders.charge`.
    pub fn scope(&self) -> &'static str {
        self.scope
    }

    /// Whose.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The key as it is stored, at most [`KEY_BYTES_MAX`] bytes.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl std::fmt::Display for EffectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.tenant, self.key)
    }
}

/// What an effect came to, kept for whoever asks for it again; empty where nobody will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome(String);

/// An outcome over [`OUTCOME_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an outcome of {0} bytes, the limit is {OUTCOME_BYTES_MAX}; keep an id that leads to it")]
pub struct OutcomeTooLarge(usize);

impl Outcome {
    /// An outcome as text.
    pub fn new(text: impl Into<String>) -> Result<Self, OutcomeTooLarge> {
        let text = text.into();
        if text.len() > OUTCOME_BYTES_MAX {
            return Err(OutcomeTooLarge(text.len()));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What claiming an effect inside a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this transaction's to do; entry and effect commit together or not at all.
    New,
    /// It was done before.
    Done(Outcome),
}

/// What beginning an effect outside our transactions came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was never begun, or given back since: it is ours to do.
    Fresh(Entry),
    /// It was done before.
    Done(Outcome),
    /// Another delivery is at it, for this much longer unless it goes on.
    Busy(Duration),
    /// Another delivery began it and stopped without a word. The entry is ours now; whether the
    /// effect happened is not known here.
    Abandoned {
        /// Our hold on it.
        entry: Entry,
        /// When it was begun first.
        since: DateTime<Utc>,
        /// Who did: only that one can have brought it about, where nobody runs a doubt again.
        by: String,
    },
}

/// Our hold on an effect in progress. Another holder's has another epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The effect.
    pub key: EffectKey,
    /// Grows with every holder.
    pub epoch: i64,
}

/// The ledger did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectsError {
    /// It does not answer; what was asked may have been done.
    #[error("effects ledger: {0}")]
    Unavailable(String),
    /// The entry is no longer ours: its lease ended and another holder has begun.
    #[error("effects ledger: {0} is no longer ours")]
    Lost(EffectKey),
    /// One scope is used for effects inside and outside of transactions.
    #[error(
        "effects ledger: {0} is in progress outside a transaction; give each kind its own scope"
    )]
    Misused(EffectKey),
}

/// The ledger of effects outside our own transactions.
///
/// Guarantees: of all calls of `begin` for one key, at most one holds an unexpired entry; `complete`
/// and `release` act only for the newest holder; a completed entry is remembered longer than its
/// message can be redelivered. An entry whose holder died is [`Begun::Abandoned`] to the next, never
/// [`Begun::Fresh`].
#[async_trait]
pub trait Effects: Send + Sync + 'static {
    /// Begins an effect for `lease`; `holder` is who a person would ask.
    async fn begin(
        &self,
        key: &EffectKey,
        holder: &str,
        lease: Duration,
    ) -> Result<Begun, EffectsError>;

    /// Holds an entry for `lease` from now on.
    async fn extend(&self, entry: &Entry, lease: Duration) -> Result<(), EffectsError>;

    /// The effect happened. Calling it again is no error.
    async fn complete(&self, entry: &Entry, outcome: &Outcome) -> Result<(), EffectsError>;

    /// The effect certainly did not happen: the entry goes, and the next `begin` is fresh.
    async fn release(&self, entry: &Entry) -> Result<(), EffectsError>;
}
