//! The engine against the emulator's broker under paused time: one binary, a module per duty.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod broker_driver;
mod rig;

mod attempts;
mod breaker;
mod claims;
mod coalescing;
mod crash_loop;
mod dead_letters;
mod drain;
mod effects;
mod fetching;
mod fifo;
mod late_duplicates;
mod leases;
mod packing;
mod recall;
mod retries;
mod sending;
mod settling;
mod simulation;
mod traces;
mod undecodable;
