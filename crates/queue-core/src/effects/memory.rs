//! The ledger in memory, for tests and simulations: the same answers as the one in PostgreSQL, with a
//! transaction whose effect and entry appear together or not at all. It forgets at exit.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use super::{Begun, Claim, EffectKey, Effects, EffectsError, Entry, Outcome};
use crate::clock::Clock;

/// Entries and effects that are remembered; more is refused.
pub const MEMORY_ENTRIES_MAX: usize = 100_000;

#[derive(Clone, Debug)]
enum State {
    Done(Outcome),
    InProgress { epoch: i64, holder: String, since: DateTime<Utc>, until: DateTime<Utc> },
}

#[derive(Default)]
struct Memory {
    entries: HashMap<EffectKey, State>,
    /// Claimed by a transaction that has not ended.
    claimed: HashSet<EffectKey>,
    effects: Vec<(EffectKey, String)>,
}

/// A ledger in memory. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct MemoryEffects {
    memory: Arc<Mutex<Memory>>,
    /// A transaction ended.
    ended: Arc<Notify>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for MemoryEffects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryEffects").field("entries", &self.locked().entries.len()).finish()
    }
}

impl MemoryEffects {
    /// An empty ledger; `clock` says when an entry in progress has expired.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { memory: Arc::default(), ended: Arc::default(), clock }
    }

    fn locked(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction.
    pub fn transaction(&self) -> MemoryTransaction {
        MemoryTransaction { ledger: self.clone(), claimed: Vec::new(), effects: Vec::new() }
    }

    /// The committed effects, in the order of their commits.
    pub fn effects(&self) -> Vec<(EffectKey, String)> {
        self.locked().effects.clone()
    }

    fn until(&self, lease: Duration) -> DateTime<Utc> {
        let lease = TimeDelta::from_std(lease).unwrap_or(TimeDelta::MAX);
        self.clock.now().checked_add_signed(lease).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Changes our own entry in progress.
    fn ours(
        &self,
        entry: &Entry,
        change: impl FnOnce(&mut HashMap<EffectKey, State>),
    ) -> Result<(), EffectsError> {
        let mut memory = self.locked();
        match memory.entries.get(&entry.key) {
            Some(State::InProgress { epoch, .. }) if *epoch == entry.epoch => {
                change(&mut memory.entries);
                Ok(())
            }
            _ => Err(EffectsError::Lost(entry.key.clone())),
        }
    }
}

/// One transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct MemoryTransaction {
    ledger: MemoryEffects,
    claimed: Vec<(EffectKey, Outcome)>,
    effects: Vec<(EffectKey, String)>,
}

impl MemoryTransaction {
    /// Claims an effect. Waits while another transaction that claimed it has not ended.
    pub async fn claim(&mut self, key: &EffectKey) -> Result<Claim, EffectsError> {
        loop {
            let ended = self.ledger.ended.clone();
            let mut ended = std::pin::pin!(ended.notified());
            ended.as_mut().enable();
            {
                let mut memory = self.ledger.locked();
                let Memory { entries, claimed, .. } = &mut *memory;
                match entries.get(key) {
                    Some(State::Done(outcome)) => return Ok(Claim::Done(outcome.clone())),
                    Some(State::InProgress { .. }) => {
                        return Err(EffectsError::Misused(key.clone()));
                    }
                    None if claimed.insert(key.clone()) => {
                        self.claimed.push((key.clone(), Outcome::default()));
                        return Ok(Claim::New);
                    }
                    // Ours already: what one transaction does twice, it meant to.
                    None if self.claimed.iter().any(|(claimed, _)| claimed == key) => {
                        return Ok(Claim::Done(Outcome::default()));
                    }
                    None => {}
                }
            }
            ended.await;
        }
    }

    /// What a claimed effect came to.
    pub fn record(&mut self, key: &EffectKey, outcome: &Outcome) {
        for (_, kept) in self.claimed.iter_mut().filter(|(claimed, _)| claimed == key) {
            *kept = outcome.clone();
        }
    }

    /// The effect itself.
    pub fn write(&mut self, key: &EffectKey, effect: impl Into<String>) {
        self.effects.push((key.clone(), effect.into()));
    }

    /// Makes effects and entries seen, together.
    pub fn commit(mut self) -> Result<(), EffectsError> {
        let mut memory = self.ledger.locked();
        if memory.effects.len() + self.effects.len() > MEMORY_ENTRIES_MAX
            || memory.entries.len() + self.claimed.len() > MEMORY_ENTRIES_MAX
        {
            return Err(EffectsError::Unavailable(format!("over {MEMORY_ENTRIES_MAX} entries")));
        }
        memory.effects.append(&mut self.effects);
        for (key, outcome) in &self.claimed {
            memory.entries.insert(key.clone(), State::Done(outcome.clone()));
        }
        Ok(())
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        let mut memory = self.ledger.locked();
        for (key, _) in &self.claimed {
            memory.claimed.remove(key);
        }
        drop(memory);
        self.ledger.ended.notify_waiters();
    }
}

#[async_trait]
impl Effects for MemoryEffects {
    async fn begin(
        &self,
        key: &EffectKey,
        holder: &str,
        lease: Duration,
    ) -> Result<Begun, EffectsError> {
        let (now, until) = (self.clock.now(), self.until(lease));
        let mut memory = self.locked();
        let (last_epoch, before) = match memory.entries.get(key) {
            None if memory.entries.len() >= MEMORY_ENTRIES_MAX => {
                let full = format!("over {MEMORY_ENTRIES_MAX} entries");
                return Err(EffectsError::Unavailable(full));
            }
            None => (0, None),
            Some(State::Done(outcome)) => return Ok(Begun::Done(outcome.clone())),
            Some(State::InProgress { until, .. }) if *until > now => {
                return Ok(Begun::Busy((*until - now).to_std().unwrap_or_default()));
            }
            Some(State::InProgress { epoch, holder, since, .. }) => {
                (*epoch, Some((*since, holder.clone())))
            }
        };
        let entry = Entry { key: key.clone(), epoch: last_epoch + 1 };
        // Who began it stays in it, also when it is taken over.
        let (since, holder) = before.clone().unwrap_or_else(|| (now, holder.to_owned()));
        let held = State::InProgress { epoch: entry.epoch, holder, since, until };
        memory.entries.insert(key.clone(), held);
        Ok(match before {
            None => Begun::Fresh(entry),
            Some((since, by)) => Begun::Abandoned { entry, since, by },
        })
    }

    async fn extend(&self, entry: &Entry, lease: Duration) -> Result<(), EffectsError> {
        let later = self.until(lease);
        self.ours(entry, |entries| {
            if let Some(State::InProgress { until, .. }) = entries.get_mut(&entry.key) {
                *until = later;
            }
        })
    }

    async fn complete(&self, entry: &Entry, outcome: &Outcome) -> Result<(), EffectsError> {
        if let Some(State::Done(_)) = self.locked().entries.get(&entry.key) {
            return Ok(());
        }
        self.ours(entry, |entries| {
            entries.insert(entry.key.clone(), State::Done(outcome.clone()));
        })
    }

    async fn release(&self, entry: &Entry) -> Result<(), EffectsError> {
        self.ours(entry, |entries| {
            entries.remove(&entry.key);
        })
    }
}
