//! One target per file. A short run each is a test like any other; a long one, or an input again:
//!
//! ```text
//! BOLERO_RANDOM_TEST_TIME_MS=60000 BOLERO_RANDOM_ITERATIONS=1000000000 cargo test -p fuzz json
//! BOLERO_RANDOM_SEED=<as printed> cargo test -p fuzz json
//! ```
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod corpus;
mod dead_letters;
mod emulator;
mod messages;
