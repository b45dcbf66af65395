//! Every message type and the queue catalogue: what travels between the API and the workers.
//! Pure data and its rules; it never does IO, reads a clock or knows a broker.

pub mod audit;
pub mod catalogue;
pub mod envelope;
pub mod errors;
pub mod ids;
pub mod json;
pub mod legacy;
pub mod message;
mod messages;
pub mod packing;
pub mod reading;
pub mod retention;

pub use catalogue::QueueSpec;
pub use envelope::{Body, Envelope, Header};
pub use errors::ErrorCode;
pub use ids::{EnvelopeId, LogId, Tenant};
pub use message::{DecodeError, Message, Schedule};
pub use packing::{Claim, Claimed, Encoding, Gzipped};
pub use retention::RetentionClass;
