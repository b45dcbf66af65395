//! The delivery engine: leases, retry with jitter, dead letters, deduplication of settles, breaker,
//! coalescing and draining, once for every worker. It knows no broker and no message of ours.

pub mod attempts;
pub mod breaker;
pub mod clock;
pub mod driver;
pub mod worker;

pub use attempts::{AttemptStore, MemoryAttempts, RecordedFailure};
pub use breaker::Probe;
pub use clock::{Clock, SystemClock};
pub use driver::{Driver, DriverError, EntryError, Received};
pub use worker::{Attempt, Delivery, Error, ErrorClass, Failure, Reason, RejectedPart, Worker};
