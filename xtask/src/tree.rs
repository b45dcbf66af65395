//! The work tree: where it is and which files are the project's. It follows no link and reads no
//! build output.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders that hold no file of ours: build output, history, a laptop fleet's state.
const SKIPPED: [&str; 5] = ["target", ".git", ".flotilla", "node_modules", "__pycache__"];

/// The tree that cargo runs this tool for. Asked at run time: two clones that share a target
/// directory share the built tool, and the path compiled into it may be the other one's.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Every file under `root`, relative to it, sorted.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).with_context(|| format!("read {}", path.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                folders.push(folder.join(&name));
            } else if kind.is_file() {
                found.push(folder.join(&name));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file, with the path in the error.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Names of the folders under `bins/` that hold a package.
pub(crate) fn binaries(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("bins")).context("read bins/")? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
