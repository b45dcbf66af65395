//! Amazon SQS on one machine: a pure state machine ([`Broker`]) that is told the time, and a server
//! ([`Server`]) around it that speaks the wire protocol, parks long polls and keeps a log on disk.
//!
//! Reading order: [`operations`] (what can be asked and answered), [`broker`] (what happens),
//! [`hub`] (one broker, many callers, a log), [`server`] and [`codec`] (the wire), [`faults`] (what a
//! test may have go wrong).
//!
//! What it never does: read the clock, the environment or the network inside [`Broker`]; verify a
//! signature; depend on other crates of this workspace, so that it cannot share their bugs.

mod attributes;
pub mod broker;
mod clock;
pub mod codec;
pub mod digest;
mod effects;
pub mod errors;
pub mod faults;
pub mod hub;
pub mod limits;
pub mod model;
pub mod operations;
mod page;
mod queue;
pub mod selection;
pub mod server;
mod store;
mod waiters;

pub use broker::{Broker, BrokerConfig};
pub use errors::{ErrorKind, SqsError};
pub use hub::Hub;
pub use model::{Caller, Draft, QueueArn, QueueId};
pub use operations::{Request, Response};
pub use server::{Server, ServerError, ServerOptions};
