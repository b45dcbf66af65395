//! Plans what policies would archive and delete, and starts it unless a brake holds it.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main::<audit::workers::RetentionWorker, queue_sqs::Sqs>()
}
