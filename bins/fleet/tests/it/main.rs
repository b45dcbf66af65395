//! `fleet up` as a real process on real backends: start, SIGKILL, restart, locks, ports, drain.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod aws;
mod process;
mod refused;
mod up;
