//! A test binary: built once, then run with variables of its own, watched, and ended when it takes too
//! long. Its output goes to a file, so that nothing blocks on a pipe.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Between two looks at a run.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A built test binary of a package.
pub(super) struct Binary {
    path: PathBuf,
    /// Its package's folder, where cargo would run it.
    folder: PathBuf,
}

/// How a run ended, and what it said.
pub(super) struct Ran {
    pub(super) succeeded: bool,
    pub(super) output: String,
}

impl Binary {
    /// Builds the integration tests of `package` in the workspace at `root`, into the usual build
    /// folder or one of its own.
    pub(super) fn build(
        root: &Path,
        package: &str,
        folder: &str,
        target: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new("cargo");
        command.envs(target.map(|target| ("CARGO_TARGET_DIR", target)));
        command
            .args(["test", "--package", package, "--test", "it", "--no-run"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(root)
            .stdin(Stdio::null());
        let output = command.output().context("run cargo")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{package}'s tests do not build:\n{errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut built = text.lines().rev().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            (message["target"]["name"] == "it").then_some(())?;
            message["executable"].as_str().map(PathBuf::from)
        });
        let path = built.next().context("cargo names no test binary")?;
        Ok(Self { path, folder: root.join(folder) })
    }

    /// Runs the tests that `filter` names; `look` sees what was said so far.
    pub(super) fn run(
        &self,
        filter: &str,
        variables: &[(&str, String)],
        most: Duration,
        mut look: impl FnMut(&str),
    ) -> Result<Ran> {
        let log = tempfile(&self.path)?;
        let file = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut child = Command::new(&self.path)
            .args([filter, "--nocapture", "--test-threads=1"])
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stderr(file.try_clone()?)
            .stdout(file)
            .spawn()
            .with_context(|| format!("start {}", self.path.display()))?;
        let started = Instant::now();
        let said = || -> Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(&log)?).into_owned())
        };
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > most {
                child.kill()?;
                child.wait()?;
                bail!("no end after {most:?}");
            }
            std::thread::sleep(LOOK_EVERY);
            look(&said()?);
        };
        let output = said()?;
        std::fs::remove_file(&log)?;
        Ok(Ran { succeeded: status.success(), output })
    }
}

/// Beside the binary, one per run of this tool.
fn tempfile(binary: &Path) -> Result<PathBuf> {
    let folder = binary.parent().context("a binary is in a folder")?;
    Ok(folder.join(format!("soak-{}.log", std::process::id())))
}
