//! The archive worker as a process: killed at every step, on PostgreSQL, SQS over HTTP and a directory
//! in the bucket's place.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod crash;
mod logs;
mod process;
mod runs;
mod s3;
mod scene;
mod sealing;
