//! What the machine is: whether it is CI's, where its cache is, which package manager it has, and
//! whether a program is there. It installs nothing by itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

/// What the environment says, read through the options.
#[derive(Args, Clone, Debug)]
pub(crate) struct Machine {
    /// `true` on CI's machine: what could not be tested is a failure there.
    #[arg(long, env = "CI", global = true, hide = true, default_value = "")]
    ci: String,
    #[arg(long, env = "XDG_CACHE_HOME", global = true, hide = true)]
    cache_home: Option<PathBuf>,
    #[arg(long, env = "HOME", global = true, hide = true, default_value = "/root")]
    home: PathBuf,
    #[arg(long, env = "PATH", global = true, hide = true, default_value = "")]
    path: String,
}

impl Machine {
    /// Whether a missing part is a failure.
    pub(crate) fn is_ci(&self) -> bool {
        self.ci == "true" || self.ci == "1"
    }

    /// Where tools and downloads are kept between runs.
    pub(crate) fn cache(&self) -> PathBuf {
        self.cache_home
            .clone()
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.home.join(".cache"))
            .join("flotilla")
    }

    /// The program of that name on the path.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        self.path.split(':').map(|folder| Path::new(folder).join(program)).find(|p| p.is_file())
    }

    /// Pythons that pyenv keeps, of 3.13 or later.
    pub(crate) fn pyenv_pythons(&self) -> Vec<PathBuf> {
        let versions = std::fs::read_dir(self.home.join(".pyenv/versions"));
        let mut found: Vec<PathBuf> = versions
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let minor = name.strip_prefix("3.").and_then(|rest| rest.split('.').next());
                minor.and_then(|minor| minor.parse().ok()).is_some_and(|minor: u32| minor >= 13)
            })
            .map(|entry| entry.path().join("bin/python3"))
            .filter(|python| python.is_file())
            .collect();
        found.sort();
        found
    }

    /// The package manager, of those we know how to use.
    pub(crate) fn package_manager(&self) -> Option<PackageManager> {
        [
            ("apt-get", PackageManager::Apt),
            ("dnf", PackageManager::Dnf),
            ("brew", PackageManager::Brew),
        ]
        .into_iter()
        .find_map(|(program, manager)| self.find(program).map(|_| manager))
    }

    /// Whether commands that install need `sudo` in front, and it is there.
    pub(crate) fn sudo(&self) -> bool {
        let root = output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
        !root && self.find("sudo").is_some()
    }
}

/// A platform's package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackageManager {
    /// Debian and its kin.
    Apt,
    /// Fedora and its kin.
    Dnf,
    /// macOS.
    Brew,
}

/// What a program prints on stdout and stderr together; `None` when it is absent or fails.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Runs a command to its end, its output shown; fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run {shown}"))?;
    ensure!(status.success(), "{shown} failed ({status})");
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
