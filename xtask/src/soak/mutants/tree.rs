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

/// Makes the copy anew, and says where it is. What was built of it before is kept.
pub(super) fn copy(root: &Path) -> Result<PathBuf> {
    let scratch = root.join("target/mutants/tree");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    }
    let wanted = |path: &PathBuf| {
        CRATES.iter().any(|name| path.starts_with(Path::new("crates").join(name)))
            || FILES.iter().any(|name| path == Path::new(name))
    };
    for path in tree::files(root)?.into_iter().filter(wanted) {
        let to = scratch.join(&path);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(root.join(&path), &to).with_context(|| format!("copy {}", path.display()))?;
    }
    let manifest = tree::read(&root.join("Cargo.toml"))?;
    let members = |line: &str| {
        let line = if line.starts_with("members = ") { "members = [\"crates/*\"]" } else { line };
        format!("{line}\n")
    };
    let manifest: Vec<String> = manifest.lines().map(members).collect();
    fs::write(scratch.join("Cargo.toml"), manifest.concat())?;
    Ok(scratch)
}
