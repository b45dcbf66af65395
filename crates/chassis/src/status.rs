//! `/status`: what a process is doing now, as JSON. Each part registers a function that is called
//! when someone asks; nothing is kept up to date for nobody.

use std::sync::{Arc, RwLock};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

type Section = Arc<dyn Fn() -> Value + Send + Sync>;

/// The sections of one process's status; cheap to clone.
#[derive(Clone)]
pub struct Status {
    name: &'static str,
    version: &'static str,
    started_at: DateTime<Utc>,
    sections: Arc<RwLock<Vec<(String, Section)>>>,
}

impl Status {
    pub(crate) fn new(
        name: &'static str,
        version: &'static str,
        started_at: DateTime<Utc>,
    ) -> Self {
        Self { name, version, started_at, sections: Arc::default() }
    }

    /// Adds or replaces a section. `section` must answer at once: no IO, no waiting.
    pub fn register(
        &self,
        name: impl Into<String>,
        section: impl Fn() -> Value + Send + Sync + 'static,
    ) {
        let name = name.into();
        let mut sections = self.sections.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        sections.retain(|(known, _)| *known != name);
        sections.push((name, Arc::new(section)));
    }

    /// The whole document.
    pub fn document(&self) -> Value {
        let sections =
            self.sections.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let sections: Map<String, Value> =
            sections.into_iter().map(|(name, section)| (name, section())).collect();
        json!({
            "service": self.name,
            "build": {
                "version": self.version,
                "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
                "target": concat_target(),
            },
            "pid": std::process::id(),
            "started_at": self.started_at,
            "sections": sections,
        })
    }
}

fn concat_target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Status").field("service", &self.name).finish_non_exhaustive()
    }
}
