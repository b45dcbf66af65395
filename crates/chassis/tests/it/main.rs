//! The chassis from outside: configuration as values, the admin port over HTTP, and real processes
//! for signals and exit codes.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod admin;
mod config;
mod process;
