//! The retention worker as a process: killed at every step, on PostgreSQL, SQS over HTTP, and third parties
//! that remember what they were told.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod crash;
mod process;
mod scene;
