//! The environment as a value: read once from the process, or written down by a test or by
//! `fleet`. Nothing else in the workspace reads variables.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// Variables and their values. An empty value counts as absent, as compose files leave many.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// No variables.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The value of a variable; `None` when it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The same, with one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// These variables over those of `base`; an empty one hides nothing.
    #[must_use]
    pub fn onto(self, mut base: Self) -> Self {
        base.0.extend(self.0.into_iter().filter(|(_, value)| !value.is_empty()));
        base
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
