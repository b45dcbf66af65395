//! Every event of the proof: one struct each, whose `emit` writes the log line and the metric.

use contracts::Tenant;
use metrics::{counter, gauge};
use tracing::{debug, error, info, warn};

/// Documents that are sealed and in the store, by `kind`.
pub const SEALED_TOTAL: &str = "flotilla_chain_documents_stored_total";
/// Signed heads put into a store, by `store`: `archive` or `second`.
pub const HEADS_TOTAL: &str = "flotilla_chain_heads_stored_total";
/// Documents that wait to be sealed and stored.
pub const UNSTORED: &str = "flotilla_chain_unstored";
/// Tenants whose chain did not go on in the last pass.
pub const STALLED_TENANTS: &str = "flotilla_chain_stalled_tenants";
/// Times that a tenant's chain did not go on, by `cause`.
pub const CHAIN_STALLED: &str = "flotilla_chain_stalled_total";
/// Times that the store held another document than the chain. Alarm on any.
pub const CHAIN_FORKED: &str = "flotilla_chain_forked_total";

pub(super) struct Stored<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) sequence: u64,
    pub(super) kind: &'static str,
}

impl Stored<'_> {
    pub(super) fn emit(&self) {
        debug!(tenant = %self.tenant, sequence = self.sequence, kind = self.kind, "document stored");
        counter!(SEALED_TOTAL, "kind" => self.kind).increment(1);
    }
}

pub(super) struct HeadStored<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) size: u64,
    pub(super) store: &'static str,
}

impl HeadStored<'_> {
    pub(super) fn emit(&self) {
        info!(tenant = %self.tenant, documents = self.size, store = self.store, "signed head stored");
        counter!(HEADS_TOTAL, "store" => self.store).increment(1);
    }
}

pub(super) struct Stalled<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) cause: &'static str,
    pub(super) error: &'a dyn std::fmt::Display,
}

impl Stalled<'_> {
    pub(super) fn emit(&self) {
        warn!(
            tenant = %self.tenant,
            cause = self.cause,
            error = %self.error,
            "the tenant's chain does not go on; what waits is kept and tried again"
        );
        counter!(CHAIN_STALLED, "cause" => self.cause).increment(1);
    }
}

pub(super) struct Forked<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) object: &'a str,
}

impl Forked<'_> {
    pub(super) fn emit(&self) {
        error!(
            tenant = %self.tenant,
            object = self.object,
            "chain-forked: the store holds another document under this name; nothing is overwritten. \
             Was PostgreSQL restored to an earlier point, or did somebody write to the bucket?"
        );
        counter!(CHAIN_FORKED).increment(1);
    }
}

pub(super) fn counted(unstored: u64, stalled: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a metric; chains are far below 2^52 documents")]
    let (unstored, stalled) = (unstored as f64, stalled as f64);
    gauge!(UNSTORED).set(unstored);
    gauge!(STALLED_TENANTS).set(stalled);
}
