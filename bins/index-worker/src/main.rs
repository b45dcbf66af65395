//! Stores accepted audit logs, makes them searchable and streams them live.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main::<(audit::workers::IndexWorker, audit::workers::LegacyIndexWorker), queue_sqs::Sqs>(
    )
}
