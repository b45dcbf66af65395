//! Which logs a hold or a cleanup is about, as flags: the API's filter. It asks for everything only where
//! that is said in so many words.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// A filter.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Actions, with `*` for any characters; repeat for more
    #[arg(long)]
    pub(super) action: Vec<String>,
    /// An actor as TYPE or TYPE/ID; repeat for more
    #[arg(long)]
    pub(super) actor: Vec<String>,
    /// A target's type; repeat for more
    #[arg(long)]
    pub(super) target_type: Vec<String>,
    /// A metadata path and its value as PATH=VALUE, or PATH where it must hold anything
    #[arg(long)]
    pub(super) metadata: Vec<String>,
    /// Every log of the tenant; needed where nothing else says which
    #[arg(long)]
    pub(super) everything: bool,
}

impl Which {
    /// Refuses both a filter and everything, and neither of them where no `bounds` say which either.
    pub(super) fn check(&self, bounds: bool) -> Result<(), Failure> {
        let asks = [&self.action, &self.actor, &self.target_type, &self.metadata];
        let some = asks.iter().any(|list| !list.is_empty());
        if some == self.everything && (some || !bounds) {
            return Err(Failure::usage("say which logs, or --everything, and not both"));
        }
        Ok(())
    }

    /// As the API takes it.
    pub(super) fn filter(&self) -> Value {
        let actors: Vec<Value> = self
            .actor
            .iter()
            .map(|actor| match actor.split_once('/') {
                Some((kind, id)) => json!({ "type": kind, "id": id }),
                None => json!({ "type": actor }),
            })
            .collect();
        let metadata: Map<String, Value> = self
            .metadata
            .iter()
            .map(|pair| match pair.split_once('=') {
                Some((path, value)) => (path.to_owned(), value.into()),
                None => (pair.clone(), true.into()),
            })
            .collect();
        json!({ "actions": self.action, "actors": actors, "target_types": self.target_type,
                "metadata": metadata })
    }
}
