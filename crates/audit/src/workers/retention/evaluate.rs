//! `EVALUATE_POLICY`: the plan is made and kept, its units are listed, and the run starts, unless its brake
//! holds it. Any number of times: the plan that was kept first stands, each unit is added once, and a
//! worker that dies anywhere leaves what the next one goes on from.

use std::time::Duration;

use chrono::TimeDelta;
use contracts::Header;
use contracts::audit::lifecycle::{EvaluatePolicy, PolicyId, RetentionMessage, RunEvent, Then};
use contracts::errors::RUN_NOT_PLANNED;
use queue_core::{Failure, Reason};
use uuid::Uuid;

use super::{RetentionWorker, database, put};
use crate::archive::outgoing::{self, Cause};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::request::unit_id;
use crate::lifecycle::unit::NewWork;
use crate::lifecycle::{Basis, KeyRange, NewUnit, Run, RunState, Tally};
use crate::retention::brake::{self, Load};
use crate::retention::policy::ArchiveSpec;
use crate::retention::{Plan, Policy};
use crate::store::{self, Fed, Large, Planned, Step, UNITS_ADDED_MAX, planning, policies};

/// A run waits so long, again and again, while an earlier one of its policy is at work ..
const AFTER_THE_OTHER: Duration = Duration::from_secs(60);
/// Or while this process evaluates another policy of the tenant.
const TENANT_BUSY: Duration = Duration::from_secs(30);
/// .. but no longer than this, should the other one never end: it keeps to its own rows.
const AFTER_THE_OTHER_MAX: TimeDelta = TimeDelta::hours(6);
/// Logs beyond a plan's end are counted by this much time at once.
const COUNTED_AT_ONCE: TimeDelta = TimeDelta::days(1);

/// Why a run was not planned now.
enum Obstacle {
    /// Something is before it: after this time.
    Wait(Duration),
    /// Later.
    Later(Failure),
    /// Never.
    Never(String),
}

impl From<sqlx::Error> for Obstacle {
    fn from(error: sqlx::Error) -> Self {
        Self::Later(database(&error))
    }
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Self {
        Self::Later(failure)
    }
}

impl From<serde_json::Error> for Obstacle {
    fn from(error: serde_json::Error) -> Self {
        Self::Never(error.to_string())
    }
}

/// A run that is being planned, and by what.
struct Planning<'a> {
    worker: &'a RetentionWorker,
    run: &'a Run,
    policy: Policy,
    cause: Cause,
    progress: &'a (dyn Fn() + Sync),
}

impl RetentionWorker {
    pub(super) async fn evaluate(
        &self,
        header: &Header,
        message: &EvaluatePolicy,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        let mut run = self.run(&header.tenant, message.run_id, Large::Plan).await?;
        let Some(_turn) = self.turn(&header.tenant) else {
            return self.come_again(header, message, TENANT_BUSY).await;
        };
        let cause = Cause::of(&run, header);
        if matches!(run.state, RunState::Planning | RunState::Braked) {
            match self.plan_and_start(&run, &cause, progress).await {
                Ok(()) => {}
                Err(Obstacle::Wait(delay)) => {
                    return self.come_again(header, message, delay).await;
                }
                Err(Obstacle::Later(failure)) => return Err(failure),
                Err(Obstacle::Never(why)) => return self.give_up(&run, &cause, &why).await,
            }
            run = self.run(&header.tenant, message.run_id, Large::Neither).await?;
        }
        if run.state == RunState::Running {
            self.tell_units(&run, &cause, progress).await?;
        }
        Ok(())
    }

    /// The evaluation waits as a message that is not visible yet, one per run however often it was told.
    async fn come_again(
        &self,
        header: &Header,
        message: &EvaluatePolicy,
        delay: Duration,
    ) -> Result<(), Failure> {
        let (tenant, id) = (&header.tenant, message.run_id);
        let mut transaction =
            self.database.pool().begin().await.map_err(|error| database(&error))?;
        let noted = planning::come_again(&mut transaction, tenant, id, delay).await;
        if noted.map_err(|error| database(&error))? {
            let message = RetentionMessage::Evaluate(message.clone());
            let put = outgoing::again(&mut transaction, header, (&message, delay), self.now());
            put.await.map_err(super::put)?;
        }
        transaction.commit().await.map_err(|error| database(&error))
    }

    async fn plan_and_start(
        &self,
        run: &Run,
        cause: &Cause,
        progress: &(dyn Fn() + Sync),
    ) -> Result<(), Obstacle> {
        let Basis::Policy { id, version, .. } = run.new.basis else {
            return Err(Obstacle::Never("it is no policy's run".to_owned()));
        };
        let policy = {
            let mut connection = self.database.pool().acquire().await?;
            policies::version(&mut connection, &run.new.tenant, id, version).await?
        };
        let policy = policy.ok_or_else(|| {
            Obstacle::Never(format!("policy {id} has no version {version}: was it restored?"))
        })?;
        let planning = Planning { worker: self, run, policy, cause: cause.clone(), progress };
        let kept = planning.kept()?;
        if run.state == RunState::Braked {
            return planning.start().await;
        }
        planning.wait_for_others(id).await?;
        let plan = match kept {
            Some(plan) => plan,
            None => planning.make().await?,
        };
        reach(CrashPoint::AfterPlan);
        planning.add_units(&plan).await?;
        reach(CrashPoint::AfterUnits);
        match planning.brake(&plan).await? {
            Some(why) => planning.hold_back(&why).await,
            None => planning.start().await,
        }
    }

    /// A run that can never be planned has failed, and says why.
    async fn give_up(&self, run: &Run, cause: &Cause, why: &str) -> Result<(), Failure> {
        let (tenant, id) = (&run.new.tenant, run.new.id);
        let mut transaction =
            self.database.pool().begin().await.map_err(|error| database(&error))?;
        let step = store::stop_run(&mut transaction, tenant, id, RunState::Failed, why).await;
        if step.map_err(|error| database(&error))? == Step::Now {
            let event = RunEvent::Failed;
            let told = outgoing::tell_of(&mut transaction, cause, run, event, self.now()).await;
            told.map_err(put)?;
        }
        transaction.commit().await.map_err(|error| database(&error))?;
        let message = format!("run {id}: {why}");
        Err(Failure::Reject(Reason { code: RUN_NOT_PLANNED, message }))
    }
}

impl Planning<'_> {
    /// The plan that was kept, by this worker or another.
    fn kept(&self) -> Result<Option<Plan>, Obstacle> {
        Ok(self.run.plan.clone().map(serde_json::from_value).transpose()?)
    }

    /// A policy's runs go one after the other.
    async fn wait_for_others(&self, policy: PolicyId) -> Result<(), Obstacle> {
        let created_at = self.run.created_at;
        if self.worker.now() - created_at > AFTER_THE_OTHER_MAX {
            return Ok(());
        }
        let mut connection = self.worker.database.pool().acquire().await?;
        let key = (created_at, self.run.new.id);
        let waits =
            planning::active_before(&mut connection, &self.run.new.tenant, policy, key).await?;
        if waits { Err(Obstacle::Wait(AFTER_THE_OTHER)) } else { Ok(()) }
    }

    /// Makes the plan and keeps it; another's that was kept meanwhile is the one that counts.
    async fn make(&self) -> Result<Plan, Obstacle> {
        let (tenant, pool) = (&self.run.new.tenant, self.worker.database.pool());
        let (mut plan, rules) = {
            let mut connection = pool.acquire().await?;
            planning::planner(&mut connection, tenant, &self.policy, self.run.new.as_of).await?
        };
        let mut after = None;
        let complete = loop {
            // A connection per chunk: a plan that takes long leaves the pool to others.
            let mut connection = pool.acquire().await?;
            match store::feed(&mut connection, tenant, &mut plan, after).await? {
                Fed::More(place) => after = Some(place),
                Fed::End => break true,
                Fed::Full => break false,
            }
            (self.progress)();
        };
        let plan = plan.finish(complete);
        let fingerprint = hex::decode(&plan.rules_fingerprint).ok();
        let planned = Planned {
            rules: serde_json::to_value(&*rules)?,
            plan: serde_json::to_value(&plan)?,
            fingerprint: fingerprint.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
                Obstacle::Never("the fingerprint of its rules is no SHA-256".to_owned())
            })?,
            snapshot_xmin: plan.snapshot_xmin,
        };
        self.keep(plan, &planned).await
    }

    async fn keep(&self, plan: Plan, planned: &Planned) -> Result<Plan, Obstacle> {
        let (tenant, id) = (&self.run.new.tenant, self.run.new.id);
        let mut transaction = self.worker.database.pool().begin().await?;
        if store::keep_plan(&mut transaction, tenant, id, planned).await? == Step::Now {
            if plan.complete {
                policies::keep_figures(&mut transaction, &plan).await?;
            }
            transaction.commit().await?;
            return Ok(plan);
        }
        let run = store::run_with(&mut transaction, tenant, id, Large::Plan).await?;
        let plan = run.filter(|run| run.state == RunState::Planning).and_then(|run| run.plan);
        // Another worker is further with it than we are, or somebody cancelled it.
        let plan = plan.ok_or(Obstacle::Wait(AFTER_THE_OTHER))?;
        Ok(serde_json::from_value(plan)?)
    }

    /// The plan's units of work, numbered in its order.
    async fn units(&self, plan: &Plan) -> Result<Vec<NewUnit>, Obstacle> {
        let (run, spec) = (self.run.new.id, &self.policy.spec);
        let codec = spec.archive.as_ref().map_or(ArchiveSpec::default().codec, |spec| spec.codec);
        let work = || match plan.then {
            Then::Delete => NewWork::Delete,
            Then::Archive | Then::ArchiveAndDelete => NewWork::Archive(codec),
        };
        let mut units = Vec::with_capacity(plan.units.len() + plan.again.len());
        for (number, unit) in (1..).zip(&plan.units) {
            units.push(NewUnit {
                id: unit_id(run, number),
                number,
                work: work(),
                range: KeyRange {
                    class: unit.class,
                    first: (unit.first.recorded_at, unit.first.id.0),
                    last: (unit.last.recorded_at, unit.last.id.0),
                },
                planned: Tally { events: unit.tally.events, bytes: unit.tally.bytes },
            });
        }
        let numbered = u32::try_from(units.len()).unwrap_or(u32::MAX);
        for (number, again) in (numbered.saturating_add(1)..).zip(&plan.again) {
            let (tenant, unit) = (&self.run.new.tenant, again.unit_id);
            let mut connection = self.worker.database.pool().acquire().await?;
            let object = planning::object_of_unit(&mut connection, tenant, unit).await?;
            // Gone since: the next plan knows.
            let Some((object, first, last)) = object else { continue };
            units.push(NewUnit {
                id: unit_id(run, number),
                number,
                work: NewWork::Again(object),
                range: KeyRange {
                    class: again.class,
                    first: (first, Uuid::nil()),
                    last: (last, Uuid::max()),
                },
                planned: Tally { events: again.tally.events, bytes: again.tally.bytes },
            });
            (self.progress)();
        }
        Ok(units)
    }

    async fn add_units(&self, plan: &Plan) -> Result<(), Obstacle> {
        for units in self.units(plan).await?.chunks(UNITS_ADDED_MAX) {
            let mut transaction = self.worker.database.pool().begin().await?;
            store::add_units(&mut transaction, &self.run.new.tenant, self.run.new.id, units)
                .await?;
            transaction.commit().await?;
            (self.progress)();
        }
        Ok(())
    }

    /// Why the run has to wait for somebody, if it has to.
    async fn brake(&self, plan: &Plan) -> Result<Option<String>, Obstacle> {
        if plan.then == Then::Archive || plan.events == 0 {
            return Ok(None);
        }
        let (tenant, own) = (&self.run.new.tenant, self.policy.spec.brake);
        let brake = own.within(self.worker.ceiling);
        let enough = brake::counted_up_to(brake, plan.events);
        // All before this time were looked at; of what came later only the number counts.
        let mut from = plan.covers_until.filter(|_| !plan.complete).unwrap_or(plan.cutoff);
        let until = self.worker.now() + COUNTED_AT_ONCE;
        let mut stored = plan.looked_at;
        while stored < enough && from < until {
            let to = (from + COUNTED_AT_ONCE).min(until);
            let mut connection = self.worker.database.pool().acquire().await?;
            let left = enough - stored;
            stored += planning::count_between(&mut connection, tenant, (from, to), left).await?;
            from = to;
            (self.progress)();
        }
        let mut connection = self.worker.database.pool().acquire().await?;
        let last = planning::last_deleted(&mut connection, tenant, self.policy.id).await?;
        let why = brake::stops(brake, Load { deletes: plan.events, stored, last });
        let whose = if brake == own { "" } else { "; the operator allows no wider one" };
        Ok(why.map(|why| format!("{why}{whose}")))
    }

    async fn hold_back(&self, why: &str) -> Result<(), Obstacle> {
        let (tenant, id, now) = (&self.run.new.tenant, self.run.new.id, self.worker.now());
        let mut transaction = self.worker.database.pool().begin().await?;
        if store::brake_run(&mut transaction, tenant, id, why).await? == Step::Now {
            let event = RunEvent::Braked;
            let told = outgoing::tell_of(&mut transaction, &self.cause, self.run, event, now);
            told.await.map_err(put)?;
            tracing::warn!(%tenant, run = %id, why, "a run waits for an approval");
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Starts the run, where that is allowed.
    async fn start(&self) -> Result<(), Obstacle> {
        let (tenant, id, now) = (&self.run.new.tenant, self.run.new.id, self.worker.now());
        let mut transaction = self.worker.database.pool().begin().await?;
        let (step, end) = store::start_run(&mut transaction, tenant, id).await?;
        if step == Step::Now {
            let told = outgoing::tell(&mut transaction, &self.cause, end.as_ref(), now);
            told.await.map_err(put)?;
        }
        transaction.commit().await?;
        reach(CrashPoint::AfterStart);
        Ok(())
    }
}
