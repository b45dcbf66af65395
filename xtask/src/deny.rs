//! Runs cargo-deny over `deny.toml`: bans, licences and sources always, advisories where their
//! database can be had. Where cargo-deny is absent it is built once into the user's cache.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::machine::{self, Machine};

/// The version whose `deny.toml` ours is.
const VERSION: &str = "0.20.2";

/// Checks the dependencies.
pub(crate) fn run(root: &Path, machine: &Machine) -> Result<ExitCode> {
    let tool = match tool(machine) {
        Ok(tool) => tool,
        Err(error) if !machine.is_ci() => {
            println!("UNTESTED: bans, licences and sources: no cargo-deny ({error:#})");
            println!("          to have it: cargo install cargo-deny --locked");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error),
    };
    machine::run(Command::new(&tool).current_dir(root).args([
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "--allow",
        "unused-wrapper",
        "bans",
        "licenses",
        "sources",
    ]))?;
    advisories(root, &tool)
}

fn tool(machine: &Machine) -> Result<PathBuf> {
    if let Some(found) = machine.find("cargo-deny") {
        return Ok(found);
    }
    let tools = machine.cache().join("tools");
    let tool = tools.join("bin/cargo-deny");
    if tool.is_file() {
        return Ok(tool);
    }
    println!("building cargo-deny {VERSION} into {} (2 to 4 minutes, once)", tools.display());
    machine::run(
        Command::new("cargo")
            .args(["install", "cargo-deny", "--locked", "--quiet", "--version", VERSION, "--root"])
            .arg(&tools)
            // It runs for a second: building fast matters more than running fast.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env_remove("CARGO_TARGET_DIR"),
    )?;
    Ok(tool)
}

/// Fails on an advisory; says so aloud when the database cannot be had.
fn advisories(root: &Path, tool: &Path) -> Result<ExitCode> {
    let output = Command::new(tool)
        .current_dir(root)
        .args(["--log-level", "error", "check", "--hide-inclusion-graph", "advisories"])
        .stdin(Stdio::null())
        .output()
        .context("run cargo-deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("advisories ok");
        return Ok(ExitCode::SUCCESS);
    }
    if said.contains("failed to fetch advisory database") {
        println!("UNTESTED: advisories: their database cannot be fetched from this machine");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{said}");
    Ok(ExitCode::FAILURE)
}
