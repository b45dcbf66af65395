//! Checks that no lint can express: how a file opens, how long it is, what it is called, which crate
//! may name which third party, and that every guarantee names a test that exists. It changes nothing.

mod boundaries;
mod guarantees;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::{soak, tree};

/// One file of the tree, with its text; files that are no text are not looked at.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// Checks the tree and prints what leaves the rules.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let findings = findings(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(root: &Path) -> Result<Vec<String>> {
    let files = load(root, tree::files(root)?);
    let mut findings = sources::check(&files);
    findings.extend(boundaries::check(&files));
    findings.extend(guarantees::check(&files));
    findings.extend(soak::mutants::stale(|path| {
        files.iter().find(|file| file.path == path).map(|file| file.text.clone())
    }));
    findings.sort();
    Ok(findings)
}

fn load(root: &Path, paths: Vec<PathBuf>) -> Vec<File> {
    paths
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root.join(&path)).ok()?;
            Some(File { path: path.to_string_lossy().replace('\\', "/"), text })
        })
        .collect()
}

#[cfg(test)]
impl File {
    fn of(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use crate::tree;

    #[test]
    fn the_tree_is_tidy() {
        let findings = super::findings(&tree::root()).unwrap();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }
}
