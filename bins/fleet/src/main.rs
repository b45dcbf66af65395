//! Every service in one process: the laptop default, and with real backends the `small` deployment.
//! It wires nothing of its own: each service is built by its own crate from its own options, which
//! are read from an environment that `fleet` writes down.

mod backends;
mod first_key;
mod options;
mod ready;
mod report;
mod services;
mod state;
mod up;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use chassis::Exit;

const HELP: &str = "\
Flotilla: every service in one process.

Usage: fleet up [OPTIONS]

Examples:
  fleet up                            PostgreSQL, Redis, queues, API and workers, all on this machine
  fleet up --except index-worker      the same without one service, to run its own binary beside
  fleet up --backends aws             real backends, by the services' usual variables
  fleet up --json                     one line of JSON when it is ready, for scripts
  fleet up --help                     every option

Exit codes: 0 drained, 1 failure, 64 usage, 75 drain budget exceeded, 78 configuration.
";

fn main() -> ExitCode {
    up::begin();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let command = arguments.get(1).and_then(|word| word.to_str()).unwrap_or("--help").to_owned();
    match command.as_str() {
        "up" => {
            arguments.remove(1);
            chassis::serve_args::<up::Fleet>(arguments)
        }
        "--describe" => chassis::serve_args::<up::Fleet>(arguments),
        "--version" | "-V" => {
            say(&format!("fleet {}\n", env!("CARGO_PKG_VERSION")));
            Exit::Drained.into()
        }
        "--help" | "-h" | "help" => {
            say(HELP);
            Exit::Drained.into()
        }
        other => {
            let told = format!("fleet: there is no command `{other}`; try `fleet up`\n");
            std::io::stderr().write_all(told.as_bytes()).unwrap_or_default();
            Exit::Usage.into()
        }
    }
}

/// Output that nobody reads any more is no reason to fail.
fn say(text: &str) {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap_or_default();
}
