//! Writes logs into the archive, reads them back whole and puts what was proved into the chain.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::main::<audit::workers::ArchiveWorker, queue_sqs::Sqs>()
}
