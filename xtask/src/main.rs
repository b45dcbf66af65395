//! The project's own tools: files derived from the catalogue, checks that no lint can express, a new
//! worker's skeleton. They run on a developer's machine and in CI; nothing here ships.
#![expect(clippy::print_stdout, reason = "a command-line tool speaks on stdout")]

mod demo;
mod deny;
mod r#gen;
mod machine;
mod new;
mod parts;
mod soak;
mod tidy;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What the project does for itself.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    /// The work tree; by default the one this tool was built from.
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    #[command(flatten)]
    machine: machine::Machine,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes what is derived from the queue catalogue, the error registry and the binaries' options.
    Gen {
        /// Writes nothing; fails and names each file that is not as it would be written.
        #[arg(long)]
        check: bool,
        /// Leaves out docs/CONFIG.md, which needs every binary built.
        #[arg(long)]
        without_config: bool,
    },
    /// Checks what no lint can express.
    Tidy,
    /// Checks the dependencies: bans, licences, sources, advisories.
    Deny,
    /// Installs the real parts that are missing, with the platform's package manager.
    Parts {
        /// For what.
        #[arg(long, value_enum, default_value = "test")]
        only: parts::Purpose,
    },
    /// Shows the whole fleet at work on this machine, and checks every count.
    Demo {
        /// Leave it running at the end
        #[arg(long, env = "KEEP", value_parser = clap::builder::BoolishValueParser::new())]
        keep: bool,
    },
    /// The long proofs: simulation, mutants, drains, fuzz targets; writes what came of them.
    ///
    /// Example: `cargo xtask soak mutants --mutant leaked-permit`
    Soak(soak::Soak),
    /// Puts a report's table into its section of docs/PROOF.md, with date and machine.
    ///
    /// Example: `cargo xtask proof chaos target/chaos.md`
    Proof {
        /// The section, as its markers name it.
        section: String,
        /// A file with a Markdown table.
        table: PathBuf,
    },
    /// Writes the two files of a new worker binary.
    ///
    /// Example: `cargo xtask new archive-worker audit::workers::archive::ArchiveWorker`
    New {
        /// Name of the binary, as the catalogue's `worker` field has it.
        name: String,
        /// Path of the type that implements `chassis::Service`.
        service: String,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let root = cli.root.unwrap_or_else(tree::root);
    match cli.command {
        Command::Gen { check, without_config } => r#gen::run(&root, check, !without_config),
        Command::Tidy => tidy::run(&root),
        Command::Deny => deny::run(&root, &cli.machine),
        Command::Parts { only } => Ok(parts::run(&cli.machine, only)),
        Command::Demo { keep } => demo::run(&root, keep),
        Command::Soak(soak) => soak::run(&root, &soak),
        Command::Proof { section, table } => {
            soak::report::put(&root, &section, &table).map(|()| ExitCode::SUCCESS)
        }
        Command::New { name, service } => new::run(&root, &name, &service),
    }
}
