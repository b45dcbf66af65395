//! The real `fleetctl` binary against real parts: what an operator types and what comes of it.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod archive;
mod claimed_letters;
mod command;
mod configuration;
mod dead_letters;
mod effects;
mod evidence;
mod fleet;
mod health;
mod import;
mod json;
mod keys;
mod parked;
mod reading;
mod reconcile;
mod redrive;
mod retention;
mod signing;
mod verify;
mod verify_s3;
