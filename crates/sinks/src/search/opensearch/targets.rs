//! Where a partition is written: found by its aliases, remembered, and fenced, so that a process
//! that remembers wrongly is refused instead of writing to the wrong version.
//!
//! A partition's index carries the alias `{base}-w{g}`, and while it is rebuilt the new index
//! carries `{base}-w{g}-new`. Every change of the pair takes a new `g`, in one atomic call. Writes
//! name the alias and demand that it is one (`require_alias`), so a write by an old `g` fails as a
//! whole, the process looks again, and from then on writes to both. No clock, no waiting.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use opensearch::http::Method;
use serde_json::{Value, json};

use super::NAME;
use super::api::Api;
use super::bulk::Side;
use super::schema::Names;
use crate::error::{SinkError, SinkErrorKind};
use crate::search::partition::Partition;

/// Partitions remembered at most; reached only by an import over decades, and then all are forgot.
const REMEMBERED_MAX: usize = 512;
/// How often a race with another process is run again.
const RACES_MAX: usize = 5;

/// The aliases that a partition is written through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    serving: String,
    filling: Option<String>,
}

impl Targets {
    /// Each alias with its side.
    pub(super) fn all(&self) -> Vec<(Side, &str)> {
        let filling = self.filling.as_deref().map(|alias| (Side::Filling, alias));
        std::iter::once((Side::Serving, self.serving.as_str())).chain(filling).collect()
    }
}

/// A partition's indices as they are in the cluster.
#[derive(Debug, Default)]
struct Found {
    /// The highest version of any index, aliased or not.
    version: u64,
    generation: u64,
    /// Index and alias.
    serving: Option<(String, String)>,
    filling: Option<(String, String)>,
}

impl Found {
    fn read(base: &str, answer: &Value) -> Self {
        let mut found = Self::default();
        let indices = answer.as_object().into_iter().flatten();
        for (index, body) in indices {
            let version = index.strip_prefix(base).and_then(|rest| rest.strip_prefix("-v"));
            let Some(version) = version.and_then(|v| v.parse().ok()) else { continue };
            found.version = found.version.max(version);
            let aliases = body.get("aliases").and_then(Value::as_object).into_iter().flatten();
            for alias in aliases.map(|(alias, _)| alias) {
                let rest = alias.strip_prefix(base).and_then(|rest| rest.strip_prefix("-w"));
                let Some(rest) = rest else { continue };
                let (number, place) = match rest.strip_suffix("-new") {
                    Some(number) => (number, &mut found.filling),
                    None => (rest, &mut found.serving),
                };
                let Ok(generation) = number.parse() else { continue };
                found.generation = found.generation.max(generation);
                *place = Some((index.clone(), alias.clone()));
            }
        }
        found
    }
}

/// Remembers where partitions are written, and changes it.
#[derive(Debug)]
pub(super) struct Directory {
    api: Api,
    names: Names,
    known: Mutex<HashMap<Partition, Targets>>,
}

impl Directory {
    pub(super) fn new(api: Api, names: Names) -> Self {
        Self { api, names, known: Mutex::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Partition, Targets>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to write; makes the partition's first index when there is none.
    pub(super) async fn targets(&self, partition: Partition) -> Result<Targets, SinkError> {
        if let Some(targets) = self.known().get(&partition) {
            return Ok(targets.clone());
        }
        for _ in 0..RACES_MAX {
            let found = self.look(partition).await?;
            if let Some((_, serving)) = found.serving {
                let targets = Targets { serving, filling: found.filling.map(|(_, alias)| alias) };
                let mut known = self.known();
                if known.len() >= REMEMBERED_MAX {
                    known.clear();
                }
                known.insert(partition, targets.clone());
                return Ok(targets);
            }
            let base = self.names.base(partition);
            let aliases = json!({
                self.names.read(): {},
                format!("{base}-w{}", found.generation + 1): {},
            });
            self.create(&base, found.version + 1, Some(aliases)).await?;
        }
        Err(lost_race(partition))
    }

    /// What was remembered is wrong.
    pub(super) fn forget(&self, partition: Partition) {
        self.known().remove(&partition);
    }

    async fn look(&self, partition: Partition) -> Result<Found, SinkError> {
        let base = self.names.base(partition);
        let path = format!("{base}-v*/_alias");
        let answer = self.api.call(Method::Get, &path, &[], None).await?;
        if answer.status == 404 {
            return Ok(Found::default());
        }
        Ok(Found::read(&base, &answer.json()?))
    }

    /// Makes an index; one that another process has just made is as good.
    async fn create(
        &self,
        base: &str,
        version: u64,
        aliases: Option<Value>,
    ) -> Result<String, SinkError> {
        let index = format!("{base}-v{version}");
        let body = json!({ "aliases": aliases.unwrap_or_else(|| json!({})) });
        let answer = self.api.call(Method::Put, &index, &[], Some(body.to_string())).await?;
        let exists =
            answer.status == 400 && answer.body.contains("resource_already_exists_exception");
        if !exists {
            answer.json()?;
        }
        Ok(index)
    }

    /// Several changes of aliases and indices at one instant; `false` when what they start from
    /// has changed meanwhile.
    async fn change(&self, actions: Value) -> Result<bool, SinkError> {
        let body = json!({ "actions": actions }).to_string();
        let answer = self.api.call(Method::Post, "_aliases", &[], Some(body)).await?;
        if answer.status == 404 {
            return Ok(false);
        }
        let done = answer.json()?;
        if done.get("acknowledged") == Some(&Value::Bool(true)) {
            return Ok(true);
        }
        // Some node may still write by the old aliases.
        let why = "the cluster did not confirm the aliases on every node; begin again";
        Err(SinkError::new(NAME, SinkErrorKind::Timeout, why))
    }

    /// Makes the index that a rebuild fills and sends every write there, too. Returns its alias.
    pub(super) async fn begin(&self, partition: Partition) -> Result<String, SinkError> {
        let base = self.names.base(partition);
        for _ in 0..RACES_MAX {
            self.forget(partition);
            self.targets(partition).await?;
            let found = self.look(partition).await?;
            let Some((index, alias)) = found.serving else { continue };
            let next = found.generation + 1;
            let new = self.create(&base, found.version + 1, None).await?;
            let filling = format!("{base}-w{next}-new");
            let mut actions = vec![
                json!({ "remove": { "index": index, "alias": alias, "must_exist": true } }),
                json!({ "add": { "index": index, "alias": format!("{base}-w{next}") } }),
                json!({ "add": { "index": new, "alias": filling } }),
            ];
            if let Some((abandoned, _)) = found.filling {
                actions.push(json!({ "remove_index": { "index": abandoned } }));
            }
            if self.change(actions.into()).await? {
                self.forget(partition);
                return Ok(filling);
            }
        }
        Err(lost_race(partition))
    }

    /// Puts the filled index in the place of the one that serves, which is dropped.
    pub(super) async fn finish(
        &self,
        partition: Partition,
        target: &str,
    ) -> Result<String, SinkError> {
        let base = self.names.base(partition);
        let found = self.look(partition).await?;
        let (Some((old, _)), Some((new, alias))) = (found.serving, found.filling) else {
            return Err(superseded(target));
        };
        if alias != target {
            return Err(superseded(target));
        }
        let serving = format!("{base}-w{}", found.generation + 1);
        let actions = json!([
            { "remove": { "index": new, "alias": alias, "must_exist": true } },
            { "add": { "index": new, "alias": serving } },
            { "add": { "index": new, "alias": self.names.read() } },
            { "remove_index": { "index": old } },
        ]);
        let changed = self.change(actions).await?;
        self.forget(partition);
        if changed { Ok(new) } else { Err(superseded(target)) }
    }

    /// Drops the index that was being filled, if it is still the one of `target`.
    pub(super) async fn abandon(
        &self,
        partition: Partition,
        target: &str,
    ) -> Result<(), SinkError> {
        let found = self.look(partition).await?;
        if let Some((index, alias)) = found.filling
            && alias == target
        {
            self.change(json!([{ "remove_index": { "index": index } }])).await?;
        }
        self.forget(partition);
        Ok(())
    }
}

fn lost_race(partition: Partition) -> SinkError {
    let why = format!("the aliases of {partition} change faster than they can be read");
    SinkError::new(NAME, SinkErrorKind::Unavailable, why)
}

fn superseded(target: &str) -> SinkError {
    let why = format!("the rebuild of {target} was abandoned or finished by another; begin again");
    SinkError::new(NAME, SinkErrorKind::Refused, why)
}
