//! The stores of our own that an engine and its handlers lean on, as one process reaches them: late,
//! refusing, or without an answer although it is done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use queue_core::attempts::{AttemptStoreError, History};
use queue_core::effects::{Begun, EffectKey, Effects, EffectsError, Entry, Outcome};
use queue_core::{AttemptStore, RecordedFailure};

use super::plan::StoreRates;
use super::process::Process;
use super::trace::What;
use super::world::{Books, World};

/// What happens to one call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    Good,
    Refused,
    AnswerLost,
}

pub(super) async fn luck(world: &World, rates: StoreRates) -> Luck {
    let (delay, luck) = world.draw((0, Luck::Good), |dice| {
        let delay = if dice.hit(rates.slow) { dice.within(1..=1_500) } else { 0 };
        let luck = if dice.hit(rates.refuse) {
            Luck::Refused
        } else if dice.hit(rates.lose_answer) {
            Luck::AnswerLost
        } else {
            Luck::Good
        };
        (delay, luck)
    });
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    luck
}

/// A call's luck, with the awaits before its effect.
pub(super) async fn before(world: &World, process: &Process, rates: StoreRates) -> Luck {
    process.step(world).await;
    let luck = luck(world, rates).await;
    process.step(world).await;
    luck
}

/// The attempt store as one process reaches it.
pub(super) struct Attempts {
    world: Arc<World>,
    process: Arc<Process>,
}

impl Attempts {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        Self { world: Arc::clone(world), process: Arc::clone(process) }
    }

    async fn before(&self) -> Result<Luck, AttemptStoreError> {
        let luck = before(&self.world, &self.process, self.world.plan.attempts).await;
        if luck == Luck::Refused { Err(AttemptStoreError("down".into())) } else { Ok(luck) }
    }

    async fn after(&self, luck: Luck) -> Result<(), AttemptStoreError> {
        self.process.step(&self.world).await;
        let lost = luck == Luck::AnswerLost;
        if lost { Err(AttemptStoreError("no answer".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl AttemptStore for Attempts {
    async fn record(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, AttemptStoreError> {
        let luck = self.before().await?;
        let counts = failure.counts;
        let recorded = self.world.attempts.record(queue, message, failure).await;
        let job = self.world.books().job_named(message);
        if let Some(job) = job {
            self.world.note(self.process.id, What::Recorded { job, counts });
            if counts && luck == Luck::AnswerLost {
                self.world.books().job(job).unsure_records += 1;
            }
        }
        self.after(luck).await?;
        recorded
    }

    async fn load(
        &self,
        queue: &str,
        messages: &[String],
    ) -> Result<Vec<History>, AttemptStoreError> {
        let luck = self.before().await?;
        let loaded = self.world.attempts.load(queue, messages).await;
        self.after(luck).await?;
        loaded
    }

    async fn forget(&self, queue: &str, messages: &[String]) -> Result<(), AttemptStoreError> {
        let luck = self.before().await?;
        let forgotten = self.world.attempts.forget(queue, messages).await;
        self.after(luck).await?;
        forgotten
    }
}

/// The effects ledger as one process reaches it.
pub(super) struct Ledger {
    world: Arc<World>,
    process: Arc<Process>,
}

impl Ledger {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        Self { world: Arc::clone(world), process: Arc::clone(process) }
    }

    async fn before(&self) -> Result<Luck, EffectsError> {
        let luck = before(&self.world, &self.process, self.world.plan.sink).await;
        if luck == Luck::Refused { Err(unavailable()) } else { Ok(luck) }
    }

    async fn after(&self, luck: Luck) -> Result<(), EffectsError> {
        self.process.step(&self.world).await;
        if luck == Luck::AnswerLost { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> EffectsError {
    EffectsError::Unavailable("no answer".into())
}

#[async_trait]
impl Effects for Ledger {
    async fn begin(
        &self,
        key: &EffectKey,
        holder: &str,
        lease: Duration,
    ) -> Result<Begun, EffectsError> {
        let luck = self.before().await?;
        let begun = self.world.effects.begin(key, holder, lease).await;
        self.after(luck).await?;
        begun
    }

    async fn extend(&self, entry: &Entry, lease: Duration) -> Result<(), EffectsError> {
        let luck = self.before().await?;
        let extended = self.world.effects.extend(entry, lease).await;
        self.after(luck).await?;
        extended
    }

    async fn complete(&self, entry: &Entry, outcome: &Outcome) -> Result<(), EffectsError> {
        let luck = self.before().await?;
        let completed = self.world.effects.complete(entry, outcome).await;
        self.after(luck).await?;
        completed
    }

    async fn release(&self, entry: &Entry) -> Result<(), EffectsError> {
        let luck = self.before().await?;
        let released = self.world.effects.release(entry).await;
        self.after(luck).await?;
        released
    }
}

impl World {
    /// Ended jobs of which the attempt store still knows.
    pub(super) fn remembered(&self, books: &Books) -> Vec<u64> {
        let ids: Vec<u64> = (0..).take(books.jobs.len()).collect();
        let keys: Vec<String> =
            ids.iter().map(|id| crate::rig::header(*id).id.to_string()).collect();
        let known =
            futures_util::FutureExt::now_or_never(self.attempts.load(self.spec().name, &keys));
        let known = known.unwrap().unwrap();
        let of_jobs = ids.into_iter().zip(known);
        of_jobs.filter(|(_, history)| !history.attempts.is_empty()).map(|(id, _)| id).collect()
    }
}
