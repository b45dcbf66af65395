//! The archive. Units of rows become objects ([`Archivist`]), which are read back whole before anything
//! counts. Its proof is each tenant's chain of signed documents. What is archived or deleted is said
//! in the very transaction that does it ([`chain::append`]); signing and storing follow by themselves
//! ([`seal::Sealer`]), and catch up after any outage.
//!
//! It deletes no log, and never changes a document or an object that is in a chain.

mod alarm;
pub mod chain;
pub(crate) mod discard;
mod events;
pub mod heads;
pub mod keys;
pub(crate) mod lines;
pub(crate) mod outgoing;
mod pack;
mod place;
pub(crate) mod proof;
mod put;
pub mod reader;
pub(crate) mod requests;
pub(crate) mod rows;
pub mod seal;
pub mod second;
pub(crate) mod selection;
pub mod signing;
mod supersede;
mod unit;

pub use chain::{AppendError, append};
pub use events::{
    CHAIN_FORKED, CHAIN_STALLED, HEADS_TOTAL, SEALED_TOTAL, STALLED_TENANTS, UNSTORED,
};
pub use reader::Reader;
pub use seal::{Pass, SealError, Sealer, SealerConfig};
pub use second::HeadsConfig;
pub(crate) use selection::Keeper;
pub use signing::{KeyUnavailable, Keys, SigningConfig};
pub use unit::Archivist;
pub(crate) use unit::{Done, Obstacle};
