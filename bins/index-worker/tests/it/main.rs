//! The index worker as a real process, on a real PostgreSQL, Redis and SQS over HTTP.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod crash;
mod drain;
mod legacy;
mod metrics;
mod outage;
mod scene;
