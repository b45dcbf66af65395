//! The driver for Amazon SQS and what speaks its protocol: the only crate that names `aws-sdk-sqs`.
//! It translates calls and errors; it never retries, buffers, batches or decides.
//!
//! Two SDK clients per process: one only for long polls, one for everything else, each with its own
//! connections, so that twenty parked polls never keep a delete waiting. SDK retries are off: the
//! engine has the one decision table, and a receive that the SDK tried again would strand messages.

mod admin;
mod broker;
mod classify;
mod config;
mod driver;

pub use admin::{Admin, AdminError, Deployment, MoveTask, Moved, QueueInfo};
pub use broker::Sqs;
pub use config::AwsConfig;
