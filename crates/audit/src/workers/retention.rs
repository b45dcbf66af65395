//! The retention worker: a policy's time becomes a run, a run becomes a plan, and the plan's units become
//! messages of the archive and cleanup queues; people are told how it went.
//!
//! It archives and deletes nothing itself. A run goes by the version, rules and plan that it was made
//! with, whatever is written meanwhile, but for holds: who deletes asks for those again.

mod config;
mod evaluate;
mod notify;
mod targets;
mod units;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound, Utc};
use contracts::audit::lifecycle::{
    EvaluatePolicy, PolicyId, RetentionMessage, RunId, ScheduleRetention,
};
use contracts::errors::{INTERNAL, RUN_UNKNOWN};
use contracts::{Header, Tenant};
use database::outbox::PutError;
use database::{Database, PostgresAttempts, PostgresEffects, classify};
use queue_core::effects::Effects;
use queue_core::{AttemptStore, Clock, Delivery, Failure, Probe, Reason, Worker};
use serde_json::json;
use sinks::notify::Notifier;
use uuid::Uuid;

use crate::archive::outgoing;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Basis, NewRun, Run};
use crate::retention::policy::Brake;
use crate::retention::{Policy, PolicyState};
use crate::store::{self, Begun, Large, policies};

pub use config::RetentionWorkerConfig;
pub use targets::{TARGETS_BYTES_MAX, TARGETS_MAX, Targets};

/// What the worker stands on.
pub struct Parts {
    /// On a pool under the worker's role.
    pub database: Database,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Tells people.
    pub notifier: Arc<dyn Notifier>,
    /// Whom policies may name.
    pub targets: Targets,
    /// The widest that a policy's brake may be, whatever it says.
    pub ceiling: Brake,
}

/// Handles `SCHEDULE_RETENTION`, `EVALUATE_POLICY` and `POLICY_NOTIFICATION`.
pub struct RetentionWorker {
    database: Database,
    clock: Arc<dyn Clock>,
    probes: Vec<Arc<dyn Probe>>,
    attempts: Arc<PostgresAttempts>,
    effects: Arc<dyn Effects>,
    notifier: Arc<dyn Notifier>,
    targets: Targets,
    ceiling: Brake,
    /// Tenants of which a policy is being evaluated here: one at a time each, so that a tenant with many
    /// policies leaves room to the others.
    evaluating: Mutex<HashSet<Tenant>>,
}

fn database(error: &sqlx::Error) -> Failure {
    classify(error).failure(error.to_string())
}

fn put(error: PutError) -> Failure {
    match error {
        PutError::Database(error) => database(&error),
        other => Failure::Reject(Reason { code: INTERNAL, message: other.to_string() }),
    }
}

/// The run of a policy's slot: the same id however often the slot is told.
pub fn run_of_slot(policy: PolicyId, slot: DateTime<Utc>) -> RunId {
    Uuid::new_v5(&policy, &slot.timestamp_micros().to_be_bytes())
}

/// A run of a policy's version, to be begun.
pub(crate) fn new_run(
    tenant: &Tenant,
    policy: &Policy,
    (id, slot): (RunId, Option<DateTime<Utc>>),
    requester: serde_json::Value,
    (as_of, correlation_id): (DateTime<Utc>, &str),
) -> Result<NewRun, serde_json::Error> {
    let spec = &policy.spec;
    Ok(NewRun {
        id,
        tenant: tenant.clone(),
        basis: Basis::Policy { id: policy.id, version: policy.version, slot },
        requester,
        then: spec.then,
        archive: spec.archive.as_ref().map(serde_json::to_value).transpose()?,
        rules: None,
        as_of,
        notify: u32::try_from(spec.notify.len()).unwrap_or(u32::MAX),
        correlation_id: correlation_id.to_owned(),
    })
}

impl RetentionWorker {
    /// A worker on those parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { database, clock, notifier, targets, ceiling } = parts;
        let probes: Vec<Arc<dyn Probe>> = vec![Arc::new(database.clone())];
        Self {
            attempts: Arc::new(PostgresAttempts::new(&database)),
            effects: Arc::new(PostgresEffects::new(&database)),
            notifier,
            targets,
            ceiling,
            database,
            clock,
            probes,
            evaluating: Mutex::default(),
        }
    }

    /// In the microseconds that PostgreSQL keeps.
    fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(6)
    }

    /// Begins the run of a slot, once, by the version in effect now; of a policy that is not applied any
    /// more none.
    async fn schedule(&self, header: &Header, message: &ScheduleRetention) -> Result<(), Failure> {
        let (tenant, now) = (&header.tenant, self.now());
        let (policy, slot) = (message.policy_id, message.slot);
        let mut transaction =
            self.database.pool().begin().await.map_err(|error| database(&error))?;
        let version = policies::in_effect_of(&mut transaction, tenant, policy, now).await;
        let version = version.map_err(|error| database(&error))?;
        let Some(version) = version.filter(|found| found.spec.state == PolicyState::Active) else {
            tracing::info!(%tenant, %policy, %slot, "the policy is not applied; its slot is passed over");
            return Ok(());
        };
        let of_slot = (run_of_slot(policy, slot), Some(slot));
        let requester = json!({ "key_id": "scheduler" });
        let run = new_run(tenant, &version, of_slot, requester, (now, &header.correlation_id));
        let run = run.map_err(|error| put(error.into()))?;
        let begun = store::begin_run(&mut transaction, &run).await;
        if begun.map_err(|error| database(&error))? == Begun::New {
            let message = EvaluatePolicy { policy_id: policy, run_id: run.id };
            let message = RetentionMessage::Evaluate(message);
            outgoing::follow(&mut transaction, header, &message, now).await.map_err(put)?;
        }
        transaction.commit().await.map_err(|error| database(&error))?;
        reach(CrashPoint::AfterRunBegun);
        Ok(())
    }

    async fn run(&self, tenant: &Tenant, id: RunId, large: Large) -> Result<Run, Failure> {
        let mut connection =
            self.database.pool().acquire().await.map_err(|error| database(&error))?;
        let run = store::run_with(&mut connection, tenant, id, large)
            .await
            .map_err(|error| database(&error))?;
        run.ok_or_else(|| {
            let message = format!("there is no run {id} of tenant {tenant}");
            Failure::Reject(Reason { code: RUN_UNKNOWN, message })
        })
    }

    /// One evaluation of the tenant at a time.
    fn turn(&self, tenant: &Tenant) -> Option<Turn<'_>> {
        let mut evaluating = self.evaluating.lock().unwrap_or_else(PoisonError::into_inner);
        let free = evaluating.insert(tenant.clone());
        free.then(|| Turn { worker: self, tenant: tenant.clone() })
    }
}

/// A tenant's turn; dropping it gives it back.
struct Turn<'a> {
    worker: &'a RetentionWorker,
    tenant: Tenant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let evaluating = &self.worker.evaluating;
        evaluating.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tenant);
    }
}

impl Worker for RetentionWorker {
    const NAME: &'static str = "retention-worker";
    /// Each holds a chunk's columns and a plan.
    const CONCURRENCY: usize = 8;
    type Message = RetentionMessage;

    async fn handle(&self, delivery: Delivery<RetentionMessage>) -> Result<(), Failure> {
        let (header, progress) = (&delivery.header, || delivery.progress());
        match &delivery.message {
            RetentionMessage::Schedule(message) => self.schedule(header, message).await,
            RetentionMessage::Evaluate(message) => {
                Box::pin(self.evaluate(header, message, &progress)).await
            }
            RetentionMessage::Notify(message) => Box::pin(self.notify(&delivery, message)).await,
        }?;
        reach(CrashPoint::BeforeSettle);
        Ok(())
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.probes.clone()
    }
}

impl RetentionWorker {
    pub(super) fn attempt_store(&self) -> Arc<dyn AttemptStore> {
        Arc::clone(&self.attempts) as Arc<dyn AttemptStore>
    }
}

impl std::fmt::Debug for RetentionWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetentionWorker").field("database", &self.database).finish_non_exhaustive()
    }
}
