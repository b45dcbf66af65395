//! The API over HTTP: real PostgreSQL and Redis, a queue that misbehaves on command.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod access;
mod archives;
mod cleanup;
mod crash;
mod idempotency;
mod keys;
mod limits;
mod live;
mod queue;
mod read;
mod retention;
mod runs;
mod scene;
mod write;
