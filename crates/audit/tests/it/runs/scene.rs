//! A tenant with logs of January, a policy, and a retention worker whose clock stands still.

use std::sync::{Arc, Mutex};

use audit::lifecycle::{Run, Unit};
use audit::retention::Plan;
use audit::retention::policy::Brake;
use audit::store::policies::{self, Written};
use audit::store::{self, Fed, planning};
use audit::workers::RetentionWorker;
use audit::workers::retention::{Parts, Targets, run_of_slot};
use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{
    EvaluatePolicy, PolicyId, PolicyNotification, RetentionMessage, RunEvent, RunId,
    ScheduleRetention,
};
use database::{Database, Role};
use queue_core::{Clock, Delivery, Failure, SystemClock, Worker};
use serde_json::Value;
use sinks::notify::{Channels, NotifyConfig};
use testkit::TestDatabase;
use uuid::Uuid;

use crate::retention::plans::{fill, settled};
use crate::retention::{at, new, now};
use crate::scene::{first_attempt, header, tenant};

/// A clock that a test moves.
pub(crate) struct Hands(pub(crate) Mutex<DateTime<Utc>>);

impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

pub(crate) struct Scene {
    _cluster: TestDatabase,
    pub(crate) owner: Database,
    pub(crate) api: Database,
    pub(crate) database: Database,
    pub(crate) clock: Arc<Hands>,
    pub(crate) worker: RetentionWorker,
}

pub(crate) fn acme() -> Tenant {
    tenant("acme")
}

pub(crate) fn policy() -> PolicyId {
    Uuid::from_u128(1)
}

pub(crate) fn slot() -> DateTime<Utc> {
    at("2026-03-01T03:00:00Z")
}

impl Scene {
    /// Logs of the tenant every seven seconds of January's beginning.
    pub(crate) async fn new(logs: i64) -> Self {
        Self::with_targets(logs, Targets::default()).await
    }

    pub(crate) async fn with_targets(logs: i64, targets: Targets) -> Self {
        Self::with(logs, targets, Brake::WIDEST).await
    }

    /// With these targets, under this ceiling of brakes.
    pub(crate) async fn with(logs: i64, targets: Targets, ceiling: Brake) -> Self {
        let cluster = TestDatabase::new().await;
        let owner = cluster.connect(Role::Owner);
        fill(&owner, "acme", logs).await;
        settled(&owner).await;
        let (api, database) = (cluster.connect(Role::Api), cluster.connect(Role::Worker));
        let clock = Arc::new(Hands(Mutex::new(now())));
        let notify = NotifyConfig {
            webhook_allow_private: true,
            webhook_allow_http: true,
            notify_timeout_secs: 2,
            ..NotifyConfig::default()
        };
        let notifier = Channels::new(&notify, Arc::new(queue_core::SystemClock)).unwrap();
        let worker = RetentionWorker::new(Parts {
            database: database.clone(),
            clock: clock.clone(),
            notifier: Arc::new(notifier),
            targets,
            ceiling,
        });
        Self { _cluster: cluster, owner, api, database, clock, worker }
    }

    /// Writes the policy's next version; `from` is the one before, 0 for none.
    pub(crate) async fn write(&self, tenant: &Tenant, members: &Value, from: u64) {
        let mut transaction = self.api.tenant(tenant).await.unwrap();
        let version = new(1, "old ones", members);
        let written = match from {
            0 => policies::create(&mut transaction, tenant, version).await.unwrap(),
            from => policies::change(&mut transaction, tenant, version, from).await.unwrap(),
        };
        assert!(matches!(written, Written::Done(_)), "{written:?}");
        transaction.commit().await.unwrap();
    }

    async fn handle(&self, tenant: &Tenant, message: RetentionMessage) -> Result<(), Failure> {
        let at = self.clock.now();
        let delivery = Delivery::detached(header(tenant, at), message, first_attempt(at));
        self.worker.handle(delivery).await
    }

    pub(crate) async fn schedule(&self, slot: DateTime<Utc>) -> Result<RunId, Failure> {
        let message = ScheduleRetention { policy_id: policy(), slot };
        self.handle(&acme(), RetentionMessage::Schedule(message)).await?;
        Ok(run_of_slot(policy(), slot))
    }

    pub(crate) async fn evaluate(&self, run_id: RunId) -> Result<(), Failure> {
        let message = EvaluatePolicy { policy_id: policy(), run_id };
        self.handle(&acme(), RetentionMessage::Evaluate(message)).await
    }

    pub(crate) async fn notify(&self, run_id: RunId, target: u32) -> Result<(), Failure> {
        let event = RunEvent::Braked;
        let message = PolicyNotification { policy_id: policy(), run_id, event, target };
        self.handle(&acme(), RetentionMessage::Notify(message)).await
    }

    pub(crate) async fn run(&self, id: RunId) -> Option<Run> {
        let mut connection = self.database.pool().acquire().await.unwrap();
        store::run(&mut connection, &acme(), id).await.unwrap()
    }

    pub(crate) async fn runs(&self) -> Vec<Run> {
        let mut connection = self.database.pool().acquire().await.unwrap();
        let later = SystemClock.now() + chrono::TimeDelta::days(1);
        store::runs(&mut connection, &acme(), Some(policy()), later, 100).await.unwrap()
    }

    pub(crate) async fn units(&self, run: RunId) -> Vec<Unit> {
        let mut connection = self.database.pool().acquire().await.unwrap();
        store::units_of(&mut connection, &acme(), run, 0, 100_000).await.unwrap()
    }

    /// What a simulation shows: under the API's role, in the tenant's transaction.
    pub(crate) async fn simulated(&self, version: u64) -> Plan {
        let mut transaction = self.api.tenant(&acme()).await.unwrap();
        let found = policies::version(&mut transaction, &acme(), policy(), version).await.unwrap();
        let found = found.unwrap();
        let made = planning::planner(&mut transaction, &acme(), &found, self.clock.now()).await;
        let (mut planner, _) = made.unwrap();
        let mut after = None;
        while let Fed::More(place) =
            store::feed(&mut transaction, &acme(), &mut planner, after).await.unwrap()
        {
            after = Some(place);
        }
        transaction.rollback().await.unwrap();
        planner.finish(true)
    }

    /// Messages in the outbox: their type, group and body, in order.
    pub(crate) async fn outbox(&self) -> Vec<(String, String, Value)> {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT grp, envelope FROM outbox ORDER BY id")
                .fetch_all(self.owner.pool())
                .await
                .unwrap();
        rows.into_iter()
            .map(|(group, envelope)| {
                let envelope: Value = serde_json::from_slice(&envelope).unwrap();
                let kind = envelope["type"].as_str().unwrap().to_owned();
                (kind, group, envelope["body"].clone())
            })
            .collect()
    }

    /// How many messages of a type are in the outbox.
    pub(crate) async fn told(&self, kind: &str) -> usize {
        self.outbox().await.iter().filter(|(of, ..)| of == kind).count()
    }

    /// Messages in the outbox that have this run evaluated.
    pub(crate) async fn evaluations_of(&self, run: RunId) -> usize {
        let of = |(kind, _, body): &(String, String, Value)| {
            kind == "EVALUATE_POLICY" && body["run_id"] == run.to_string()
        };
        self.outbox().await.iter().filter(|message| of(message)).count()
    }

    /// All units of the run have ended, with everything archived and deleted or with nothing: whoever ends
    /// the run tells what its end leads to. The slot for what the plan did not cover.
    pub(crate) async fn end_all(&self, run: RunId, archived: bool) -> Option<DateTime<Utc>> {
        self.sql(
            "UPDATE archive_units SET state = 'kept';
             UPDATE retention_runs SET state = 'braked', approvals = '[{}]', units_open = 0",
        )
        .await;
        if archived {
            self.sql(
                "DELETE FROM logs WHERE recorded_at <= (SELECT max(last_at) FROM archive_units);
                 UPDATE retention_runs SET verified_events = planned_events",
            )
            .await;
        }
        self.evaluate(run).await.unwrap();
        let slots =
            self.outbox().await.into_iter().filter(|(kind, ..)| kind == "SCHEDULE_RETENTION");
        let slots: Vec<_> = slots.map(|(.., body)| body["slot"].clone()).collect();
        assert!(slots.len() <= 1, "{slots:?}");
        slots.first().map(|slot| serde_json::from_value(slot.clone()).unwrap())
    }

    /// As the API approves.
    pub(crate) async fn approve(&self, run: RunId) {
        let mut transaction = self.api.tenant(&acme()).await.unwrap();
        let by = serde_json::json!({"key_id": "k2"});
        store::approve_run(&mut transaction, &acme(), run, &by).await.unwrap();
        transaction.commit().await.unwrap();
    }

    pub(crate) async fn sql(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.owner.pool()).await.unwrap();
    }
}
