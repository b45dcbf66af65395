//! FIFO groups that are parked: the store as one process reaches it, and the operator, who releases or
//! replays what was parked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use queue_core::park::{
    Admission, Decision, Due, EntryState, Marker, ParkDesk, ParkFigures, ParkReason, ParkStore,
    ParkStoreError, ParkedGroup, ParkedMessage, Place,
};

use super::plan::Plan;
use super::process::Process;
use super::stores::{Luck, before};
use super::trace::What;
use super::world::{World, number_in};

/// Between two looks of the operator.
const LOOK: Duration = Duration::from_secs(15);
/// Groups that the operator sees at once; there are fewer.
const GROUPS_MAX: usize = 100;

pub(super) struct Parking {
    world: Arc<World>,
    process: Arc<Process>,
}

impl Parking {
    pub(super) fn new(world: &Arc<World>, process: &Arc<Process>) -> Self {
        Self { world: Arc::clone(world), process: Arc::clone(process) }
    }

    async fn before(&self) -> Result<Luck, ParkStoreError> {
        let luck = before(&self.world, &self.process, self.world.plan.attempts).await;
        if luck == Luck::Refused { Err(ParkStoreError("down".into())) } else { Ok(luck) }
    }

    async fn after<T>(&self, luck: Luck, answer: T) -> Result<T, ParkStoreError> {
        self.process.step(&self.world).await;
        let lost = luck == Luck::AnswerLost;
        if lost { Err(ParkStoreError("no answer".into())) } else { Ok(answer) }
    }

    fn in_line(&self, message: &ParkedMessage) {
        let Some(job) = number_in(&message.body) else { return };
        self.world.books().job(job).parked = true;
        self.world.note(self.process.id, What::Parked { job });
    }
}

#[async_trait]
impl ParkStore for Parking {
    async fn parked(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.parked(queue, groups).await?;
        self.after(luck, answer).await
    }

    async fn admit(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.admit(queue, message, marker).await?;
        if answer == Admission::InLine {
            self.in_line(message);
        }
        self.after(luck, answer).await
    }

    async fn park(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        place: Place,
        reason: &ParkReason,
    ) -> Result<bool, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.park(queue, message, marker, place, reason).await?;
        if answer {
            self.in_line(message);
        }
        if let (true, Place::Rejected, Some(job)) = (answer, place, number_in(&message.body)) {
            self.world.books().job(job).rejected = true;
        }
        self.after(luck, answer).await
    }

    async fn lettered(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<(), ParkStoreError> {
        let luck = self.before().await?;
        self.world.parking.lettered(queue, message, marker).await?;
        self.after(luck, ()).await
    }

    async fn handled(
        &self,
        queue: &str,
        group: &str,
        marker: Marker,
    ) -> Result<bool, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.handled(queue, group, marker).await?;
        self.after(luck, answer).await
    }

    async fn due(&self, queue: &str, max: usize) -> Result<Vec<Due>, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.due(queue, max).await?;
        self.after(luck, answer).await
    }

    async fn sent(&self, queue: &str, group: &str, marker: Marker) -> Result<(), ParkStoreError> {
        let luck = self.before().await?;
        self.world.parking.sent(queue, group, marker).await?;
        self.after(luck, ()).await
    }

    async fn figures(&self, queue: &str) -> Result<ParkFigures, ParkStoreError> {
        let luck = self.before().await?;
        let answer = self.world.parking.figures(queue).await?;
        self.after(luck, answer).await
    }
}

/// Decides over whatever is parked, for as long as the world stands.
pub(super) async fn operate(world: Arc<World>) {
    let queue = world.spec().name;
    loop {
        tokio::time::sleep(LOOK).await;
        for parked in world.parking.groups(queue, GROUPS_MAX).await.unwrap() {
            if parked.releasing {
                continue;
            }
            let replay = world.draw(false, |dice| dice.hit(200));
            let decision = if replay { Decision::Replay } else { Decision::Release };
            world.parking.decide(queue, &parked.group, decision).await.unwrap();
            world.note(0, What::Decided { replay });
        }
    }
}

/// The name of a job's group.
pub(super) fn group_of(plan: &Plan, job: u64) -> String {
    format!("g{}", job % plan.groups)
}

impl World {
    /// Whether a job's group is parked, nobody has decided, and it was not this job that parked it: that
    /// one may have been handled beside its rejection, where a lease was lost.
    pub(super) fn is_parked(&self, job: u64) -> bool {
        if !self.plan.is_fifo() || self.books().job(job).rejected {
            return false;
        }
        let name = group_of(&self.plan, job);
        let groups = self.parking.groups(self.spec().name, GROUPS_MAX).now_or_never();
        groups.unwrap().unwrap().iter().any(|parked| parked.group == name && !parked.releasing)
    }

    /// What is parked, for a person.
    pub(super) fn parked_lines(&self) -> String {
        let queue = self.spec().name;
        let groups = self.parking.groups(queue, GROUPS_MAX).now_or_never().unwrap().unwrap();
        let line = |parked: &ParkedGroup| {
            let line = self.parking.line(queue, &parked.group, GROUPS_MAX).now_or_never();
            let entries = line.unwrap().unwrap().into_iter();
            let entries: Vec<(EntryState, Option<u64>)> =
                entries.map(|entry| (entry.state, number_in(&entry.message.body))).collect();
            format!("{} releasing {}: {entries:?}", parked.group, parked.releasing)
        };
        groups.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// Groups that are parked or being released.
    pub(super) fn parked_groups(&self) -> u64 {
        let figures = self.parking.figures(self.spec().name).now_or_never();
        figures.unwrap().unwrap().groups
    }
}
