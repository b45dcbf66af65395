//! Deletes what the archive holds or a policy says, with a receipt in the chain.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main::<audit::workers::CleanupWorker, queue_sqs::Sqs>()
}
