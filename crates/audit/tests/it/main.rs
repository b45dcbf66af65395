//! The audit subsystem against real parts: PostgreSQL, its full-text search, Redis.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod archive;
mod chain;
mod cleanup;
mod index;
mod lifecycle;
mod reconcile;
mod retention;
mod runs;
mod scan;
mod scene;
