//! The delivery engine: leases, retry with jitter, dead letters, deduplication of settles, breaker,
//! coalescing and draining, once for every worker. It knows no broker and no message of ours.

pub mod attempts;
pub mod backoff;
pub mod breaker;
pub mod claim;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod dead_letter;
pub mod decide;
pub mod delivery;
mod drain;
pub mod driver;
pub mod effects;
pub mod engine;
pub mod events;
mod fetch;
mod group;
mod lease;
pub mod park;
pub mod recall;
pub mod send;
mod settle;
pub mod status;
pub mod taxonomy;
pub mod trace;
pub mod worker;

pub use attempts::{AttemptStore, MemoryAttempts, RecordedFailure};
pub use breaker::Probe;
pub use claim::{ClaimError, ClaimStore, MemoryClaims, Packer};
pub use clock::{Clock, SystemClock};
pub use coalesce::{CoalesceLimits, Coalescer, Full};
pub use dead_letter::DeadLetter;
pub use driver::{Driver, DriverError, EntryError, Outgoing, Received};
pub use effects::{EffectKey, Effects, MemoryEffects};
pub use engine::{DrainReport, Engine, EngineConfig, Ports};
pub use park::{MemoryParking, ParkStore};
pub use send::{SendError, SendLimits, Sender};
pub use status::{EngineStatus, StatusSnapshot, Times};
pub use taxonomy::Trouble;
pub use worker::{Attempt, Delivery, Error, ErrorClass, Failure, Reason, RejectedPart, Worker};
