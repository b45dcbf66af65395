//! Starts what time starts.

fn main() -> std::process::ExitCode {
    chassis::serve_main::<scheduler::Scheduler>()
}
