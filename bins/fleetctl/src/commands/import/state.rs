//! How far an import is: a small JSON file, replaced whole, so a kill leaves the old or the new one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The position in one source.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Which source it is about.
    source: String,
    /// Events answered for good, from the source's start.
    pub(super) done: u64,
    #[serde(skip)]
    path: Option<PathBuf>,
}

impl State {
    /// Reads the file, or begins at the start where there is none.
    pub(super) fn load(path: Option<&Path>, source: &str) -> Result<Self, Failure> {
        let fresh = Self { source: source.to_owned(), done: 0, path: path.map(Into::into) };
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(fresh) };
        let text = fs::read_to_string(path)?;
        let known: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("{}: no import state: {error}", path.display()))
        })?;
        if known.source != source {
            return Err(Failure::usage(format!(
                "{} is of another import: {}",
                path.display(),
                known.source
            ))
            .hint("name another --state file, or remove it to begin anew"));
        }
        Ok(Self { done: known.done, ..fresh })
    }

    /// Notes that `events` more are done.
    pub(super) fn advance(&mut self, events: u64) -> Result<(), Failure> {
        self.done += events;
        let Some(path) = &self.path else { return Ok(()) };
        let next = path.with_extension("next");
        fs::write(&next, serde_json::to_vec(self).map_err(Failure::new)?)?;
        fs::rename(&next, path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn a_state_is_read_back_and_never_taken_for_another_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("import.state");
        let mut state = State::load(Some(&path), "git a").unwrap();
        state.advance(500).unwrap();
        assert_eq!(State::load(Some(&path), "git a").unwrap().done, 500);
        assert!(State::load(Some(&path), "git b").is_err());
        std::fs::write(&path, "{").unwrap();
        assert!(State::load(Some(&path), "git a").is_err());
    }
}
