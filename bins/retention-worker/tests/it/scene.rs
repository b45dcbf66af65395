//! Two tenants and a policy each for one process under test: one run goes on to its units, the other is held
//! by its brake and people are told. Its database, queue and third parties, and what has to be true in the end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use audit::lifecycle::{Run, RunState, Tally};
use audit::retention::{Plan, PolicyDraft};
use audit::store;
use audit::store::policies::{self, NewVersion, Written};
use audit::workers::retention::run_of_slot;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{
    EvaluatePolicy, PolicyNotification, RetentionMessage, RunEvent, ScheduleRetention,
};
use contracts::{Envelope, EnvelopeId, Header, Tenant, catalogue};
use database::outbox::{self, Relay};
use database::{Database, Role, partitions};
use queue_core::{Clock, DeadLetter, Driver, Outgoing, SystemClock};
use queue_sqs::{Admin, Deployment, Sqs};
use serde_json::{Value, json};
use sqs_emulator::{Hub, Server};
use testkit::{Answer, HttpDouble, TestDatabase, agrees, eventually};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::process::{Process, aws};

/// Longer than a slow machine needs for all of them at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// A little more than the queue's lease.
const LEASE_MILLIS: u64 = 121_000;
/// Of the logs so many are due, one in each of as many hours.
const DUE: u64 = 5;
const LOGS: i64 = 40;

/// Everything around the process.
pub(crate) struct Scene {
    cluster: TestDatabase,
    owner: Database,
    admin: Admin,
    queue: Arc<dyn Driver>,
    queue_url: String,
    dlq_url: String,
    endpoint: String,
    hub: Hub,
    people: HttpDouble,
    directory: tempfile::TempDir,
    slot: DateTime<Utc>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

/// Its run goes on.
fn acme() -> Tenant {
    "acme".parse().unwrap()
}

/// Its run is braked.
fn globex() -> Tenant {
    "globex".parse().unwrap()
}

fn policy() -> Uuid {
    Uuid::from_u128(1)
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let cluster = TestDatabase::new().await;
        let (owner, worker) = (cluster.connect(Role::Owner), cluster.connect(Role::Worker));
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await.unwrap();
        let (endpoint, hub) = (server.endpoint(), server.hub());
        tasks.spawn(server.run(ended.clone()));
        let sqs = Sqs::connect(&aws(&endpoint)).await.unwrap();
        let admin = sqs.admin();
        // Every call to the queues may be late on a busy machine; each may be made twice.
        let made = eventually(PATIENCE, "the queue", async || {
            admin.create(&catalogue::AUDIT_RETENTION, Deployment::Dev).await.ok()
        })
        .await;
        let queue = sqs.queue(catalogue::AUDIT_RETENTION.name, &made.url);
        let routes = vec![(&catalogue::AUDIT_RETENTION, outbox::sender(Arc::clone(&queue)))];
        let relay = Relay::new(&worker, routes);
        let drain = ended.clone();
        tasks.spawn(async move { relay.run(drain).await });
        let people = HttpDouble::start().await;
        people.programme(|seen| match seen.path.as_str() {
            "/ops" => Answer::status(200).body("ok"),
            _ => Answer::status(204),
        });
        let slot = SystemClock.now().duration_trunc(TimeDelta::minutes(1)).unwrap();
        let scene = Self {
            owner,
            queue,
            queue_url: made.url,
            dlq_url: made.dlq_url,
            admin,
            endpoint,
            hub,
            people,
            directory: tempfile::tempdir().unwrap(),
            slot,
            tasks,
            ended,
            cluster,
        };
        scene.fill().await;
        let braked = json!({"brake": {"share_max": 0.01, "growth_max": 9},
                            "notify": [{"type": "slack", "name": "ops"},
                                       {"type": "webhook", "name": "hook"}]});
        scene.write(&acme(), &json!({})).await;
        scene.write(&globex(), &braked).await;
        scene
    }

    /// The same logs for both tenants, every seven minutes; one in eight is the policy's.
    async fn fill(&self) {
        let hour = SystemClock.now().duration_trunc(TimeDelta::hours(1)).unwrap();
        let hour = hour - TimeDelta::days(40);
        let later = hour + TimeDelta::days(1);
        partitions::ensure_range(self.owner.pool(), hour, later).await.unwrap();
        let rows = "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                      actor_type, actor_id, action, outcome)
                    SELECT $1, gen_random_uuid(), '90d', $2 + n * interval '7 minutes', '', sha256(''), '',
                           'user', 'u', CASE WHEN n % 8 = 0 THEN 'a.b' ELSE 'c.d' END, 'success'
                      FROM generate_series(1, $3) n";
        for tenant in [acme(), globex()] {
            let insert = sqlx::query(rows).bind(tenant.as_str()).bind(hour).bind(LOGS);
            insert.execute(self.owner.pool()).await.unwrap();
        }
        // A plan takes what nothing that runs in the whole cluster can precede any more.
        eventually(PATIENCE, "older transactions end", async || {
            let over = "SELECT pg_snapshot_xmin(pg_current_snapshot()) > max(ingest_xid) FROM logs";
            let over: Option<bool> =
                sqlx::query_scalar(over).fetch_one(self.owner.pool()).await.unwrap();
            (over == Some(true)).then_some(())
        })
        .await;
    }

    async fn write(&self, tenant: &Tenant, members: &Value) {
        let now = SystemClock.now() - TimeDelta::hours(1);
        let mut body = json!({"name": "old ones", "keep": "P30D", "then": "archive_and_delete",
                              "filter": {"actions": ["a.*"]}});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let new = NewVersion {
            id: policy(),
            spec: PolicyDraft::read(&body, false, now).unwrap().spec,
            effective_from: now,
            created_by: json!({"key_id": "k1"}),
            created_at: now,
        };
        let mut transaction = self.owner.pool().begin().await.unwrap();
        let written = policies::create(&mut transaction, tenant, new).await.unwrap();
        assert!(matches!(written, Written::Done(_)), "{written:?}");
        transaction.commit().await.unwrap();
    }

    /// Each tenant's slot is told, as the scheduler tells it.
    pub(crate) async fn slots(&self) {
        for tenant in [acme(), globex()] {
            let message = ScheduleRetention { policy_id: policy(), slot: self.slot };
            self.send(&tenant, &RetentionMessage::Schedule(message)).await;
        }
    }

    /// What followed from it is told once more.
    pub(crate) async fn again(&self) {
        let (policy_id, run_id) = (policy(), run_of_slot(policy(), self.slot));
        for tenant in [acme(), globex()] {
            self.send(&tenant, &RetentionMessage::Evaluate(EvaluatePolicy { policy_id, run_id }))
                .await;
        }
        for target in 0..2 {
            let event = RunEvent::Braked;
            let message = PolicyNotification { policy_id, run_id, event, target };
            self.send(&globex(), &RetentionMessage::Notify(message)).await;
        }
    }

    async fn send(&self, tenant: &Tenant, message: &RetentionMessage) {
        let header = Header {
            v: 1,
            kind: String::new(),
            id: EnvelopeId(Uuid::new_v4()),
            tenant: tenant.clone(),
            recorded_at: SystemClock.now(),
            correlation_id: "test".into(),
            causation_id: None,
            hops: 0,
            key: None,
            revision: None,
        };
        let body = Envelope::wrap(header, message).unwrap().to_json().unwrap();
        eventually(PATIENCE, "the message is sent", async || {
            let message = Outgoing { body: body.clone(), ..Outgoing::default() };
            let sent = self.queue.send(&[message]).await;
            sent.is_ok_and(|sent| sent == [Ok(())]).then_some(())
        })
        .await;
    }

    /// Starts the worker; `crash_at` arms a crash point.
    pub(crate) fn start(&self, crash_at: Option<&str>) -> Process {
        let output = self.directory.path().join(format!("{}.log", crash_at.unwrap_or("healthy")));
        let people = self.people.url();
        let targets = json!({
            "ops": {"slack": format!("{people}/ops")},
            "hook": {"webhook": format!("{people}/hook"),
                     "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"},
        });
        let mut variables = vec![
            ("DATABASE_URL", self.cluster.url().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            (catalogue::AUDIT_RETENTION.env, self.queue_url.clone()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("WORKER_WAIT_SECS", "1".to_owned()),
            ("NOTIFY_TARGETS", targets.to_string()),
            ("WEBHOOK_ALLOW_PRIVATE", "true".to_owned()),
            ("WEBHOOK_ALLOW_HTTP", "true".to_owned()),
        ];
        variables.extend(crash_at.map(|point| ("CRASH_POINT", point.to_owned())));
        Process::start(output, &variables)
    }

    /// The leases of a worker that died are over: the queue's, and those of what it had begun to tell.
    pub(crate) async fn let_the_dead_one_go(&self) {
        assert!(self.hub.advance_clock(LEASE_MILLIS));
        let over = "UPDATE effects SET busy_until = now() WHERE busy_until IS NOT NULL";
        sqlx::query(over).execute(self.owner.pool()).await.unwrap();
    }

    /// Waits until everything is where it belongs.
    pub(crate) async fn converged(&self) {
        agrees(PATIENCE, "planned, told and settled", async || self.differs().await).await;
    }

    /// An error says what is not as it should be, or what does not answer just now.
    pub(crate) async fn differs(&self) -> Result<(), String> {
        let depth = async |url: &str| {
            let attributes = self.admin.attributes(url).await;
            attributes.map(|found| found.depth).map_err(|error| error.to_string())
        };
        let (queue, waiting) =
            (depth(&self.queue_url).await?, self.outbox("audit-retention").await?);
        if queue.visible + queue.in_flight + queue.delayed > 0 || !waiting.is_empty() {
            return Err(format!("the queue is not empty: {queue:?}, {} wait", waiting.len()));
        }
        self.goes_on().await?;
        self.is_braked().await?;
        let dead = depth(&self.dlq_url).await?;
        self.told(usize::try_from(dead.visible + dead.in_flight).unwrap()).await
    }

    /// The tenant's one run and its plan; the units of the run are those of the plan.
    async fn planned(&self, tenant: &Tenant, state: RunState) -> Result<(Run, Vec<Uuid>), String> {
        let error = |error: sqlx::Error| error.to_string();
        let mut connection = self.owner.pool().acquire().await.map_err(error)?;
        let later = SystemClock.now() + TimeDelta::days(1);
        let runs = store::runs(&mut connection, tenant, Some(policy()), later, 100).await;
        let runs = runs.map_err(error)?;
        let ids: Vec<Uuid> = runs.iter().map(|run| run.new.id).collect();
        let id = run_of_slot(policy(), self.slot);
        if ids != [id] {
            return Err(format!("{tenant}: one run per slot: {ids:?}"));
        }
        let run = store::run(&mut connection, tenant, id).await.map_err(error)?.unwrap();
        if run.state != state {
            return Err(format!("{tenant}: {:?}, not {state:?}", run.state));
        }
        let plan: Plan = serde_json::from_value(run.plan.clone().unwrap_or_default())
            .map_err(|error| format!("{tenant}: no plan: {error}"))?;
        let units = store::units_of(&mut connection, tenant, id, 0, 1_000).await.map_err(error)?;
        let mut planned = Tally::default();
        for unit in &units {
            planned = planned.and(unit.counters.planned);
        }
        let counters = run.counters;
        let ended = [counters.archived, counters.deleted, counters.gone, counters.failed];
        let checks = [
            ("every due log is planned once", plan.events == DUE && counters.planned.events == DUE),
            ("an hour is a unit", units.len() as u64 == DUE && plan.units.len() as u64 == DUE),
            ("the run counts its units", run.units.all == DUE),
            ("the units add up to the run", planned == counters.planned),
            ("nothing has ended", ended.iter().all(|tally| tally.events == 0)),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(format!("{tenant}: not so: {what}; {run:?}, {units:?}")),
            None => Ok((run, units.into_iter().map(|unit| unit.id).collect())),
        }
    }

    /// Each unit is told to the archive worker, and no other.
    async fn goes_on(&self) -> Result<(), String> {
        let (run, mut units) = self.planned(&acme(), RunState::Running).await?;
        let messages = self.outbox("audit-archive").await?;
        let of_run = |(tenant, body): &(String, Value)| {
            tenant == "acme" && body["run_id"] == json!(run.new.id)
        };
        let mut told: Vec<Uuid> = messages
            .iter()
            .filter(|message| of_run(message))
            .map(|(_, body)| serde_json::from_value(body["unit_id"].clone()).unwrap())
            .collect();
        units.sort_unstable();
        told.sort_unstable();
        if told != units || messages.len() != units.len() {
            return Err(format!("each unit is told once: {units:?}; {messages:?}"));
        }
        if !self.outbox("audit-cleanup").await?.is_empty() {
            return Err("nothing is archived, so nothing may be deleted".to_owned());
        }
        Ok(())
    }

    /// Its units are listed and nobody is told of them.
    async fn is_braked(&self) -> Result<(), String> {
        let (run, _) = self.planned(&globex(), RunState::Braked).await?;
        if run.approvals.as_array().is_some_and(|by| !by.is_empty()) {
            return Err(format!("nobody approved: {run:?}"));
        }
        Ok(())
    }

    /// People heard of the brake. The webhook's receiver may hear twice and knows a repeat by its id; Slack
    /// hears once at most, and where nobody knows whether it did there is a dead letter.
    async fn told(&self, dead: usize) -> Result<(), String> {
        let mut heard: BTreeMap<String, usize> = BTreeMap::new();
        let mut ids = Vec::new();
        for seen in self.people.seen() {
            ids.extend((seen.path == "/hook").then(|| seen.header("webhook-id").to_owned()));
            *heard.entry(seen.path).or_default() += 1;
        }
        ids.dedup();
        let of = |path: &str| heard.get(path).copied().unwrap_or(0);
        let (slack, hook) = (of("/ops"), of("/hook"));
        let fine = (1..=2).contains(&hook)
            && ids.len() == 1
            && slack <= 1
            && (1..=2).contains(&(slack + dead))
            && dead <= 1;
        if !fine {
            return Err(format!("heard {heard:?} with ids {ids:?}; {dead} dead letters"));
        }
        if dead > 0 {
            let letters = self.admin.peek(&self.dlq_url, 10).await;
            for letter in letters.map_err(|error| error.to_string())? {
                let letter = DeadLetter::from_json(&letter.body).map_err(|e| e.to_string())?;
                if letter.code != "effect-unknown" {
                    return Err(format!("a dead letter: {}: {}", letter.code, letter.message));
                }
            }
        }
        Ok(())
    }

    /// Tenant and body of what the outbox holds for a queue.
    async fn outbox(&self, queue: &str) -> Result<Vec<(String, Value)>, String> {
        let rows: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT tenant, envelope FROM outbox WHERE queue = $1 ORDER BY id")
                .bind(queue)
                .fetch_all(self.owner.pool())
                .await
                .map_err(|error| error.to_string())?;
        let read = |(tenant, envelope): (String, Vec<u8>)| {
            let envelope: Value = serde_json::from_slice(&envelope).unwrap();
            (tenant, envelope["body"].clone())
        };
        Ok(rows.into_iter().map(read).collect())
    }

    pub(crate) async fn end(self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
