//! What every binary stands on: configuration, telemetry, the admin port, signals, draining and
//! exit codes, so that a worker's `main.rs` is one sentence.
//!
//! The life of a process is typed: configuration → build → run → drain; each step consumes the one
//! before. Only this crate reads the environment. It knows no broker, no database and no message:
//! a binary names those.
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     chassis::main::<audit::workers::IndexWorker, queue_sqs::Sqs>()
//! }
//! ```

mod admin;
pub mod config;
mod context;
mod exit;
mod process;
mod process_args;
mod readiness;
mod secret;
mod serve;
mod service;
mod signals;
mod status;
mod telemetry;
mod worker;

pub use admin::{Admin, AdminConfig};
pub use config::{
    ConfigError, Definition, Environment, OptionDoc, Problem, describe, describe_json,
};
pub use context::Context;
pub use exit::Exit;
pub use process::main;
pub use process_args::CommonArgs;
pub use readiness::{Check, Readiness, Report};
pub use secret::Secret;
pub use serve::{App, app_command, serve_args, serve_main};
pub use service::{Broker, BuildError, Companion, Roles, Service};
pub use signals::{Signals, StopNow};
pub use status::Status;
pub use telemetry::{
    DLQ_DEPTH, LogFormat, MetricsEmf, QUEUE_DEPTH, Telemetry, TelemetryOptions, TraceArgs,
    TraceSampler, json_lines, log_filter,
};
pub use worker::{Ended, Lane, WorkerArgs, WorkerRun, dead_letter_url, run_worker, worker_command};
