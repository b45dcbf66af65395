//! What can go wrong with a part, each in words that say what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of a part's log that an error repeats.
const LOG_LINES: usize = 12;

/// A part cannot be had or started.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A program is not installed.
    #[error("{part} needs `{program}`, which is not installed; try: {install}")]
    Missing {
        /// The part, e.g. `PostgreSQL`.
        part: &'static str,
        /// What was looked for.
        program: String,
        /// A command that installs it.
        install: String,
    },
    /// It ended while starting.
    #[error("{part} ended while starting; the end of {}:\n{tail}", .log.display())]
    Ended {
        /// The part.
        part: &'static str,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// It runs but did not become ready.
    #[error("{part} was not ready after {waited:?}; the end of {}:\n{tail}", .log.display())]
    NotReady {
        /// The part.
        part: &'static str,
        /// How long it was given.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Another process has started a part in that directory.
    #[error("{} is in use by another process; stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// Root has no other account to run a server as.
    #[error("{part} refuses to run as root and there is no account `{}` to run it as; try: useradd --system flotilla", .tried.join("`, `"))]
    NoAccount {
        /// The part.
        part: &'static str,
        /// Accounts looked for.
        tried: Vec<&'static str>,
    },
    /// A command that prepares a part failed.
    #[error("`{command}` failed:\n{output}")]
    Command {
        /// The command as one could type it.
        command: String,
        /// The end of what it said.
        output: String,
    },
    /// A file or process operation failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, as a verb phrase with the path.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl PartError {
    /// Whether the machine lacks the part, as opposed to the part failing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NoAccount { .. })
    }
}

pub(crate) fn io<D: Into<String>>(doing: D) -> impl FnOnce(std::io::Error) -> PartError {
    let doing = doing.into();
    move |source| PartError::Io { doing, source }
}

/// The end of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes))
}

pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
