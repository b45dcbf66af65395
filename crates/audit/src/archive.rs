//! The archive's proof: each tenant's chain of signed documents. What is archived or deleted is said
//! in the very transaction that does it ([`chain::append`]); signing and storing follow by themselves
//! ([`seal::Sealer`]), and catch up after any outage.
//!
//! It decides nothing about what is archived or deleted, and never changes a document.

pub mod chain;
mod events;
pub mod heads;
pub mod keys;
pub mod seal;
pub mod second;
pub mod signing;

pub use chain::{AppendError, append};
pub use events::{
    CHAIN_FORKED, CHAIN_STALLED, HEADS_TOTAL, SEALED_TOTAL, STALLED_TENANTS, UNSTORED,
};
pub use seal::{Pass, SealError, Sealer, SealerConfig};
pub use second::HeadsConfig;
pub use signing::{KeyUnavailable, Keys, SigningConfig};
