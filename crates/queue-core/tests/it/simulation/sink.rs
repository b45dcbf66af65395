//! What handlers write to. A database whose transactions hold effect and ledger entry together, and two
//! sinks that know no transaction: an object store, where doing it twice is doing it once, and mail,
//! which keeps no account. Each may be down, refuse, be late, or lose an answer after the effect.

use std::sync::Arc;

use async_trait::async_trait;
use contracts::errors;
use queue_core::coalesce::BisectError;
use queue_core::effects::{Claim, EffectKey, EffectsError, Outcome, Promise, once};
use queue_core::{Delivery, Failure, Probe, Reason};

use super::plan::Nature;
use super::process::Process;
use super::stores::{Ledger, Luck, luck};
use super::trace::What;
use super::worker::Numbered;
use super::world::World;
use crate::rig::{header, infrastructure};

/// Why a transaction failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SinkError {
    /// Some job of it is poison; nothing of it took effect.
    Poison,
    /// The sink is down, or its answer was lost.
    Unavailable,
}

/// Writes jobs in one transaction, each with its ledger entry.
pub(super) async fn transaction(
    world: &World,
    process: &Process,
    mut jobs: Vec<u64>,
) -> Result<Vec<()>, BisectError<SinkError>> {
    process.step(world).await;
    let luck = luck(world, world.plan.sink).await;
    process.step(world).await;
    if world.books().sink_down {
        return Err(BisectError::Whole(SinkError::Unavailable));
    }
    let poison = |job: &u64| world.plan.job(*job).nature == Nature::Poison;
    if jobs.iter().any(poison) {
        return Err(BisectError::Data(SinkError::Poison));
    }
    // One order for all, so that two transactions never wait for each other.
    jobs.sort_unstable();
    let count = jobs.len();
    let rolled_back = BisectError::Whole(SinkError::Unavailable);
    match write(world, process, jobs, luck).await {
        Err(_) => return Err(rolled_back),
        // The process is dead.
        Ok(false) => std::future::pending::<()>().await,
        Ok(true) => {}
    }
    process.step(world).await;
    match luck {
        Luck::AnswerLost => Err(BisectError::Whole(SinkError::Unavailable)),
        _ => Ok(vec![(); count]),
    }
}

/// Whether it was committed; the process may die before.
async fn write(
    world: &World,
    process: &Process,
    jobs: Vec<u64>,
    luck: Luck,
) -> Result<bool, EffectsError> {
    let mut transaction = world.effects.transaction();
    for job in jobs {
        let key = EffectKey::of_message("sim.row", &header(job));
        if transaction.claim(&key).await? == Claim::New {
            transaction.write(&key, job.to_string());
        } else {
            world.note(process.id, What::Repeated { job });
        }
        if !process.survives(world) {
            return Ok(false);
        }
    }
    if luck == Luck::Refused {
        return Err(EffectsError::Unavailable("the commit failed".into()));
    }
    transaction.commit()?;
    world.look_at_effects(process.id);
    Ok(true)
}

/// Sends a job's mail, or stores its object: an effect that no transaction of ours holds.
pub(super) async fn outside(
    world: &World,
    process: &Process,
    ledger: &Ledger,
    delivery: &Delivery<impl Numbered>,
) -> Result<Outcome, Failure> {
    let job = delivery.message.number();
    let promise = match world.plan.job(job).nature {
        Nature::Mail => Promise::Unknown,
        _ => Promise::Idempotent,
    };
    let key = EffectKey::of_message("sim.outside", &delivery.header);
    once(ledger, delivery, &key, promise, async {
        process.step(world).await;
        let luck = luck(world, world.plan.sink).await;
        process.step(world).await;
        if world.books().sink_down || luck == Luck::Refused {
            return Err(infrastructure("connection refused"));
        }
        match promise {
            Promise::Unknown => world.takes_effect(process.id, job),
            Promise::Idempotent if world.books().job(job).effects == 0 => {
                world.takes_effect(process.id, job);
            }
            Promise::Idempotent => world.note(process.id, What::Repeated { job }),
        }
        process.step(world).await;
        match (luck, promise) {
            (Luck::AnswerLost, Promise::Unknown) => {
                let message = "no answer after it was sent".into();
                Err(Failure::Unknown(Reason { code: errors::EFFECT_UNKNOWN, message }))
            }
            (Luck::AnswerLost, Promise::Idempotent) => Err(infrastructure("no answer")),
            _ => Ok(Outcome::default()),
        }
    })
    .await
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
