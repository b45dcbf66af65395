//! A private LocalStack (SQS and S3) in a Python environment of its own, brought by pip. It listens
//! on loopback and takes any credentials: for tests and trying.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::answers::answers;
use crate::directory::Directory;
use crate::error::{PartError, io};
use crate::part::Part;
use crate::process::{Keep, Launch, Process};
use crate::programs::{self, Package};
use crate::{fetching, port};

const PART: &str = "LocalStack";
/// The version: the last one that needs no account.
pub const VERSION: &str = "4.14.0";
/// What pip installs; the other three are pinned where LocalStack's own bounds admit versions that
/// it does not start with.
const REQUIREMENTS: [&str; 4] = [
    "localstack-core[base-runtime]==4.14.0",
    "cbor2==5.8.0",
    "localstack-twisted==25.5.0",
    "pyopenssl==25.3.0",
];
/// Imports on a cold disk take long.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Python versions it runs on, by minor version. Its metadata admits 3.12, where every call of SQS
/// answers 500: it imports `warnings.deprecated`, which came with 3.13.
const PYTHON_MINORS: [u32; 1] = [13];
/// Answers only when SQS does; the health page is green before its first import.
const READY: &str = "/?Action=ListQueues&Version=2012-11-05";
const PACKAGE: Package = Package {
    apt: "python3.13 python3.13-venv",
    dnf: "python3.13",
    apk: "python3",
    pacman: "python",
    brew: "python@3.13",
};

/// Brings LocalStack into a Python environment in the cache with `pip`, saying so; returns its
/// `python`. Quick when it is there already.
pub fn fetch(cache: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, PartError> {
    let name = format!("localstack-{VERSION}-python3.{}", PYTHON_MINORS[0]);
    // A virtual environment knows its own path, so it is made in place; this marks it as whole.
    let environment = cache.join(format!("{name}-environment"));
    fetching::once(cache, &name, |_| {
        let python = python()?;
        if environment.exists() {
            fs::remove_dir_all(&environment)
                .map_err(io(format!("remove {}", environment.display())))?;
        }
        say(&format!("fetching LocalStack {VERSION} with pip, 180 MB installed, once"));
        fetching::run(Command::new(&python).args(["-m", "venv"]).arg(&environment))?;
        fetching::run(
            Command::new(environment.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .args(REQUIREMENTS),
        )
    })?;
    Ok(environment.join("bin/python"))
}

/// Whether a LocalStack on that port answers calls of SQS.
pub async fn ready(port: u16) -> bool {
    answers(port, READY).await
}

/// A running LocalStack.
pub type LocalStack = Part<Kind>;

/// Nothing that the others do not have.
#[derive(Debug)]
pub struct Kind;

impl LocalStack {
    /// Starts one with its files in that directory; it keeps nothing over a restart.
    pub async fn start(dir: &Path) -> Result<Self, PartError> {
        Self::start_with(dir, Keep::WithHandle).await
    }

    /// As [`LocalStack::start`], with a choice of lifetime.
    pub async fn start_with(dir: &Path, keep: Keep) -> Result<Self, PartError> {
        let python = fetch(&crate::parts_cache(), &mut |line| tracing::info!("{line}"))?;
        // It runs as root too, and must: the Python may lie where other accounts cannot go.
        let directory = Directory::open_as(dir, None)?;
        let port = port::kept(&directory.join("port"))?;
        let setting = |name, value: &str| (name, value.to_owned());
        let mut process = Process::spawn(Launch {
            part: PART,
            program: &python,
            args: ["-m", "localstack.runtime.main"].map(str::to_owned).to_vec(),
            env: vec![
                setting("SERVICES", "sqs,s3"),
                setting("EAGER_SERVICE_LOADING", "1"),
                setting("DISABLE_EVENTS", "1"),
                setting("SKIP_SSL_CERT_DOWNLOAD", "1"),
                ("GATEWAY_LISTEN", format!("127.0.0.1:{port}")),
                ("FILESYSTEM_ROOT", directory.join("files").to_string_lossy().into_owned()),
            ],
            dir: &directory.path,
            account: directory.account,
            stop: "TERM",
            keep,
        })?;
        process.until_ready(READY_LIMIT, async || ready(port).await).await?;
        Ok(Self::running(process, directory, port, Kind))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

/// A Python that is new enough: by name, from pyenv, or `python3` itself.
fn python() -> Result<PathBuf, PartError> {
    let named =
        PYTHON_MINORS.iter().filter_map(|minor| programs::on_path(&format!("python3.{minor}")));
    let pyenv = std::env::home_dir().map(|home| home.join(".pyenv/versions"));
    let mut versions: Vec<PathBuf> = pyenv
        .and_then(|dir| fs::read_dir(dir).ok())
        .into_iter()
        .flat_map(|entries| entries.flatten().map(|entry| entry.path().join("bin/python3")))
        .collect();
    versions.sort();
    named
        .chain(versions)
        .chain(programs::on_path("python3"))
        .find(|python| minor_of(python).is_some_and(|minor| PYTHON_MINORS.contains(&minor)))
        .ok_or_else(|| PartError::Missing {
            part: PART,
            program: "python3.13".to_owned(),
            install: PACKAGE.install_command(),
        })
}

/// Asks it; a pyenv shim of a version that is not selected fails here.
fn minor_of(python: &Path) -> Option<u32> {
    let output = Command::new(python)
        .args(["-c", "import sys, venv, ensurepip; print(sys.version_info.major * 1000 + sys.version_info.minor)"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let version: u32 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    version.checked_sub(3_000)
}
