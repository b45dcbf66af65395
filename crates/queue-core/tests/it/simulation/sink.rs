//! What a handler writes to, and where failures are recorded. The sink is transactional: an effect and
//! its ledger entry come to be in one instant or not at all; its answer may be late or lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use queue_core::attempts::{AttemptStoreError, History};
use queue_core::coalesce::BisectError;
use queue_core::{AttemptStore, Probe, RecordedFailure};

use super::invariants::Invariant;
use super::plan::{Nature, StoreRates};
use super::process::Process;
use super::trace::What;
use super::world::{Books, World};
use crate::rig::QUEUE;

/// Why a transaction failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SinkError {
    /// Some job of it is poison; nothing of it took effect.
    Poison,
    /// The sink is down, or its answer was lost.
    Unavailable,
}

/// What happens to one call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    Refused,
    AnswerLost,
}

async fn luck(world: &World, rates: StoreRates) -> Luck {
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

/// Writes jobs in one transaction.
pub(super) async fn transaction(
    world: &World,
    process: &Process,
    jobs: &[u64],
) -> Result<Vec<()>, BisectError<SinkError>> {
    process.step(world).await;
    let luck = luck(world, world.plan.sink).await;
    process.step(world).await;
    if world.books().sink_down || luck == Luck::Refused {
        return Err(BisectError::Whole(SinkError::Unavailable));
    }
    let poison =
        |job: &u64| world.plan.jobs[usize::try_from(*job).unwrap()].nature == Nature::Poison;
    if jobs.iter().any(poison) {
        return Err(BisectError::Data(SinkError::Poison));
    }
    commit(world, process, jobs);
    process.step(world).await;
    match luck {
        Luck::AnswerLost => Err(BisectError::Whole(SinkError::Unavailable)),
        _ => Ok(vec![(); jobs.len()]),
    }
}

/// The instant of the effects.
fn commit(world: &World, process: &Process, jobs: &[u64]) {
    for job in jobs {
        let mut books = world.books();
        let first = books.ledger.insert(*job);
        let effects = {
            let book = books.job(*job);
            book.effects += u32::from(first);
            book.effects
        };
        drop(books);
        let what = if first { What::Effect { job: *job } } else { What::Repeated { job: *job } };
        world.note(process.id, what);
        if effects != 1 {
            world.breaks(Invariant::EffectOnce, format!("job {job} took effect {effects} times"));
        }
    }
}

/// Says whether the sink works.
pub(super) struct SinkProbe {
    world: Arc<World>,
    process: Arc<Process>,
}

impl SinkProbe {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        Self { world: Arc::clone(world), process: Arc::clone(process) }
    }
}

#[async_trait]
impl Probe for SinkProbe {
    fn name(&self) -> &'static str {
        "sink"
    }

    async fn probe(&self) -> Result<(), String> {
        self.process.step(&self.world).await;
        if self.world.books().sink_down { Err("it is down".into()) } else { Ok(()) }
    }
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
        self.process.step(&self.world).await;
        let luck = luck(&self.world, self.world.plan.attempts).await;
        self.process.step(&self.world).await;
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

impl World {
    /// Ended jobs of which the attempt store still knows.
    pub(super) fn remembered(&self, books: &Books) -> Vec<u64> {
        let ids: Vec<u64> = (0..).take(books.jobs.len()).collect();
        let keys: Vec<String> =
            ids.iter().map(|id| crate::rig::header(*id).id.to_string()).collect();
        let known = futures_util::FutureExt::now_or_never(self.attempts.load(QUEUE.name, &keys));
        let known = known.unwrap().unwrap();
        let of_jobs = ids.into_iter().zip(known);
        of_jobs.filter(|(_, history)| !history.attempts.is_empty()).map(|(id, _)| id).collect()
    }
}
