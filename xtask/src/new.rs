//! A new worker's two-file binary. The worker itself, its message and its catalogue line are written
//! by hand: they are the decisions. It never overwrites a file.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

/// Writes `bins/{name}`.
pub(crate) fn run(root: &Path, name: &str, service: &str) -> Result<ExitCode> {
    let valid = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure!(valid && !name.is_empty(), "{name:?} is no binary name; e.g. archive-worker");
    let Some((subsystem, _)) = service.split_once("::") else {
        bail!("{service:?} is no path of a service; e.g. audit::workers::archive::ArchiveWorker");
    };
    let folder = root.join("bins").join(name);
    ensure!(!folder.exists(), "{} exists already", folder.display());
    fs::create_dir_all(folder.join("src"))?;
    for (path, text) in
        [("Cargo.toml", manifest(name, subsystem)), ("src/main.rs", main_file(name, service))]
    {
        let path = folder.join(path);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    println!("next: `cargo xtask gen`, then `cargo run -p {name} -- --help`");
    Ok(ExitCode::SUCCESS)
}

fn manifest(name: &str, subsystem: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\n\
         rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n\
         [dependencies]\n{subsystem}.workspace = true\nchassis.workspace = true\n\
         queue-sqs.workspace = true\n\n[lints]\nworkspace = true\n"
    )
}

fn main_file(name: &str, service: &str) -> String {
    format!(
        "//! The {name} binary: a worker and a broker, nothing else.\n\n\
         use std::process::ExitCode;\n\nfn main() -> ExitCode {{\n    \
         chassis::main::<{service}, queue_sqs::Sqs>()\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn writes_two_files_and_never_overwrites() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "sample-worker", "audit::workers::sample::Sample").unwrap();
        let main = root.path().join("bins/sample-worker/src/main.rs");
        assert!(std::fs::read_to_string(main).unwrap().starts_with("//! "));
        assert!(run(root.path(), "sample-worker", "audit::workers::sample::Sample").is_err());
        assert!(run(root.path(), "Sample", "audit::Sample").is_err());
        assert!(run(root.path(), "sample", "Sample").is_err());
    }
}
