//! `fleetctl`: keys, tenants, migrations, imports, searches, queues and dead letters, from one
//! command line. Each command group is one file under `commands/`.
//!
//! What it never does: print a secret it was given, delete without being asked twice, or report a
//! count that it did not see.

mod api;
mod archive;
mod author;
mod commands;
mod failure;
mod output;
mod settings;

use std::process::ExitCode;

use chassis::config::Environment;
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Connections, Settings};

const AFTER_HELP: &str = "\
Connections come from flags, from the services' own variables (DATABASE_URL, REDIS_URL,
OPENSEARCH_URL, AWS_ENDPOINT_URL, AWS_SQS_*_QUEUE_URL, FLOTILLA_URL, FLOTILLA_API_KEY; a secret also as
VARIABLE_FILE), or from --env-file. Where DATABASE_URL is not set and `.flotilla/fleet.env` exists, the
fleet of this folder (`fleet up`) is meant.

Exit codes: 0 done, 1 it failed or was refused, 3 an archive's tail is unproven, 4 a chain is broken, 64 wrong usage, 69 something does not answer,
78 wrong configuration.

Examples:
  fleetctl doctor
  fleetctl keys create --tenant acme --scope logs:write
  fleetctl import git .
  fleetctl dlq list audit-index
  fleetctl dlq redrive audit-index --code failures-exhausted";

/// Operates a Flotilla fleet.
#[derive(Parser)]
#[command(name = "fleetctl", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    connections: Connections,
    /// Print JSON: one value, or one line per item where there are many.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: commands::Command,
}

/// The whole of `main`.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "--describe") {
        output::line(&chassis::describe_json(&Cli::command()).to_string());
        return ExitCode::SUCCESS;
    }
    let matches = match Cli::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => run(cli),
        Err(error) => usage(&error),
    }
}

/// Help is no failure; a wrong command line is 64 as everywhere in the fleet.
fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { failure::USAGE } else { 0 };
    // Nothing can be told to a reader that is gone.
    let _ = error.print();
    ExitCode::from(code)
}

fn run(cli: Cli) -> ExitCode {
    let output = Output::new(cli.json);
    let settings = Settings::new(cli.connections, Environment::process());
    let result = settings.and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
        runtime.block_on(commands::run(cli.command, &settings, &output))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str, without: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                check(sub, &format!("{path} {}", sub.get_name()), without);
            }
            let help = command.clone().render_long_help().to_string();
            if !help.contains("Example") {
                without.push(path.to_owned());
            }
        }
        let mut without = Vec::new();
        check(&Cli::command(), "fleetctl", &mut without);
        assert!(without.is_empty(), "no example in the help of {without:?}");
    }
}
