//! The real binary: its command line, SIGKILL in the middle of traffic, a disk that is full.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod command_line;
mod crash;
mod full_disk;
mod process;
