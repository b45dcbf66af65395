//! Archives as a fleet would leave them, verified, attacked, and read by other programs.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod attacks;
mod bundles;
mod following;
mod programs;
mod scene;
mod verdicts;
