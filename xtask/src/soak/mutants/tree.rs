//! The copy that mutants live in: the engine, what it stands on and its tests, as a workspace of its
//! own under the build folder, with a build folder of its own: cargo takes two workspaces' packages of
//! one name and place for the same, and a mutant's engine must never get into another build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tree;

/// What the engine and its tests consist of.
const CRATES: [&str; 3] = ["contracts", "queue-core", "sqs-emulator"];
/// What cargo needs beside them.
const FILES: [&str; 4] = ["Cargo.lock", "clippy.toml", "rust-toolchain.toml", "rustfmt.toml"];

/// Makes the copy, and says where it is. What is there already and equal stays, so that cargo builds
/// only what has changed.
pub(super) fn copy(root: &Path) -> Result<PathBuf> {
    let scratch = root.join("target/mutants/tree");
    let wanted = |path: &PathBuf| {
        CRATES.iter().any(|name| path.starts_with(Path::new("crates").join(name)))
            || FILES.iter().any(|name| path == Path::new(name))
    };
    let wanted: Vec<PathBuf> = tree::files(root)?.into_iter().filter(wanted).collect();
    for path in &wanted {
        put(&scratch.join(path), &fs::read(root.join(path))?)?;
    }
    let manifest = tree::read(&root.join("Cargo.toml"))?;
    let members = |line: &str| {
        let line = if line.starts_with("members = ") { "members = [\"crates/*\"]" } else { line };
        format!("{line}\n")
    };
    let manifest: Vec<String> = manifest.lines().map(members).collect();
    put(&scratch.join("Cargo.toml"), manifest.concat().as_bytes())?;
    let manifest = PathBuf::from("Cargo.toml");
    for path in tree::files(&scratch)? {
        if path != manifest && !wanted.contains(&path) {
            fs::remove_file(scratch.join(&path))?;
        }
    }
    Ok(scratch)
}

fn put(to: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::write(to, bytes).with_context(|| format!("write {}", to.display()))
}
