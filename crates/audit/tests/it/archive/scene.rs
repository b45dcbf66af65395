//! What the archive's tests stand on: logs as the API makes them, a run as the retention worker starts
//! it, the worker, and everything that has to be true of what it left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use audit::archive::{Keys, Sealer, SealerConfig};
use audit::event::{self, EventLimits, Origin, Rules, Stamp};
use audit::lifecycle::request::{Request, unit_id};
use audit::lifecycle::unit::NewWork;
use audit::lifecycle::{Basis, KeyRange, NewRun, NewUnit, Run, Tally, Unit};
use audit::model::{NewErasure, NewLog, NewRevision};
use audit::retention::plan::{Plan, Planner};
use audit::retention::rules::{RulePolicy, RuleSet};
use audit::retention::{Filter, Term};
use audit::store::{self, Fed, Planned, signing_keys};
use audit::workers::archive::{ArchiveWorker, Parts};
use bytes::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::Requester;
use contracts::audit::lifecycle::{
    ArchiveByDate, ArchiveByPolicy, ArchiveMessage, BulkArchive, RunId, Then,
};
use contracts::{EnvelopeId, LogId, RetentionClass, Tenant};
use database::{Database, Role, partitions};
use evidence::source::{Directory, Source};
use evidence::verify::{Options, Report, verify};
use evidence::{Codec, MemorySigner, Signer};
use queue_core::{Clock, Delivery, Failure, SystemClock, Worker};
use serde_json::json;
use sinks::objects::{ArchiveConfig, Files, Objects, Uploads};
use testkit::{TestDatabase, eventually};
use uuid::Uuid;

use super::double::Double;
use crate::scene::{first_attempt, header, tenant};

/// What a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn acme() -> Tenant {
    tenant("acme")
}

pub(crate) struct Scene {
    cluster: TestDatabase,
    pub(crate) database: Database,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<Double>,
    pub(crate) worker: ArchiveWorker,
    pub(crate) policy: Uuid,
    /// The hour that the logs are of.
    pub(crate) hour: DateTime<Utc>,
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap())
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::stored_as(ArchiveConfig::default()).await
    }

    pub(crate) async fn stored_as(stored_as: ArchiveConfig) -> Self {
        let cluster = TestDatabase::new().await;
        let (owner, database) = (cluster.connect(Role::Owner), cluster.connect(Role::Worker));
        let hour = SystemClock.now().duration_trunc(TimeDelta::hours(1)).unwrap();
        let hour = hour - TimeDelta::days(40);
        let later = hour + TimeDelta::days(1);
        partitions::ensure_range(owner.pool(), hour, later).await.unwrap();
        let (mut connection, key) = (owner.pool().acquire().await.unwrap(), signer());
        let (id, text) = (key.key().id(), key.key().to_string());
        signing_keys::put_key(&mut connection, &id, &text, "first", "test").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Double::new(Files::new(dir.path())));
        let worker = ArchiveWorker::new(Parts {
            database: database.clone(),
            objects: store.clone(),
            clock: Arc::new(SystemClock),
            stored_as,
            spool: std::env::temp_dir(),
        });
        Self { cluster, database, dir, store, worker, policy: Uuid::new_v4(), hour }
    }

    /// Where the database is, for another process.
    pub(crate) fn url(&self) -> &str {
        self.cluster.url()
    }

    /// The owner's pool: what no worker may do.
    pub(crate) fn owner(&self) -> Database {
        self.cluster.connect(Role::Owner)
    }

    /// Stores logs so many milliseconds after the hour's beginning; answers their ids.
    pub(crate) async fn logs(&self, at_millis: &[i64]) -> Vec<LogId> {
        let logs = at_millis.iter().map(|at| self.log(*at, LogId(v7(self.hour, *at)), "a.b", 20));
        self.insert(logs.collect()).await
    }

    pub(crate) async fn insert(&self, mut logs: Vec<NewLog>) -> Vec<LogId> {
        let ids = logs.iter().map(|log| log.key.id).collect();
        logs.sort_by(|a, b| a.key.cmp(&b.key));
        let mut connection = self.database.pool().acquire().await.unwrap();
        for logs in logs.chunks(500) {
            store::insert_batch(&mut connection, logs).await.unwrap();
        }
        // A plan takes what nothing that runs in the whole cluster can precede any more.
        eventually(PATIENCE, "older transactions end", async || {
            let over = "SELECT pg_snapshot_xmin(pg_current_snapshot()) > max(ingest_xid) FROM logs";
            let over: Option<bool> =
                sqlx::query_scalar(over).fetch_one(&mut *connection).await.unwrap();
            (over != Some(false)).then_some(())
        })
        .await;
        ids
    }

    /// A log as the API makes it, with a text of so many characters that does not compress.
    pub(crate) fn log(&self, at_millis: i64, id: LogId, action: &str, text: usize) -> NewLog {
        let at = self.hour + TimeDelta::milliseconds(at_millis) + micros(id);
        let noise = noise(id, text);
        let event = format!(
            r#"{{"actor":{{"type":"user","id":"u1"}},"action":"{action}","metadata":{{"noise":"{noise}"}}}}"#
        );
        let rules = Rules::at(at, EventLimits::default(), false);
        let event = event::validate_text(&event, &rules).unwrap();
        let class = RetentionClass::Days90;
        let stamp = Stamp { id, tenant: acme(), recorded_at: at, class };
        let source = Origin { key_id: "k1".into(), ip: None, user_agent: None };
        let record = event::record_bytes(&stamp, &source, &event).unwrap();
        let salt = hex::encode(&id.0.as_bytes()[..]);
        audit::rules::admit(&acme(), Bytes::from(record.get().to_owned()), &salt).unwrap()
    }

    /// Erases a log, as the index worker does.
    pub(crate) async fn erase(&self, id: LogId) {
        erase(&self.database, id).await;
    }

    pub(crate) async fn revise(&self, id: LogId, annotation: &str) {
        let mut connection = self.database.pool().acquire().await.unwrap();
        let revision = NewRevision {
            envelope_id: EnvelopeId(Uuid::new_v4()),
            tags: Some(vec!["seen".into()]),
            annotation: Some(annotation.into()),
            actor: json!({"key_id": "k1"}),
            recorded_at: SystemClock.now().duration_trunc(TimeDelta::microseconds(1)).unwrap(),
        };
        store::append_revision(&mut connection, &acme(), id, &revision).await.unwrap();
    }

    /// Plans and starts a run of a policy over all logs, as the retention worker does.
    pub(crate) async fn run(&self, then: Then, codec: Codec) -> (Run, Plan) {
        let as_of = SystemClock.now();
        let rules = RuleSet::new(vec![self.rule(then)], Vec::new());
        let mut connection = self.database.pool().acquire().await.unwrap();
        let xmin = store::snapshot_xmin(&mut connection).await.unwrap();
        let mut planner =
            Planner::new(&acme(), Arc::new(rules.clone()), self.policy, as_of, xmin).unwrap();
        let mut after = None;
        while let Fed::More(place) =
            store::feed(&mut connection, &acme(), &mut planner, after).await.unwrap()
        {
            after = Some(place);
        }
        let plan = planner.finish(true);
        let new = NewRun {
            id: Uuid::new_v4(),
            tenant: acme(),
            basis: Basis::Policy { id: self.policy, version: 3, slot: None },
            requester: json!({"key_id": "system"}),
            then,
            archive: Some(json!({"codec": codec, "storage_class": "STANDARD", "keep": "P7Y"})),
            rules: None,
            as_of,
            notify: 2,
            correlation_id: "c-1".into(),
        };
        store::begin_run(&mut connection, &new).await.unwrap();
        let kept = Planned {
            rules: serde_json::to_value(&rules).unwrap(),
            plan: serde_json::to_value(&plan).unwrap(),
            fingerprint: [7; 32],
            snapshot_xmin: xmin,
        };
        store::keep_plan(&mut connection, &acme(), new.id, &kept).await.unwrap();
        let units: Vec<NewUnit> = (1..)
            .zip(&plan.units)
            .map(|(number, unit)| NewUnit {
                id: unit_id(new.id, number),
                number,
                work: match then {
                    Then::Delete => NewWork::Delete,
                    _ => NewWork::Archive(codec),
                },
                range: KeyRange {
                    class: unit.class,
                    first: (unit.first.recorded_at, unit.first.id.0),
                    last: (unit.last.recorded_at, unit.last.id.0),
                },
                planned: Tally { events: unit.tally.events, bytes: unit.tally.bytes },
            })
            .collect();
        store::add_units(&mut connection, &acme(), new.id, &units).await.unwrap();
        store::start_run(&mut connection, &acme(), new.id).await.unwrap();
        drop(connection);
        (self.state(new.id).await, plan)
    }

    fn rule(&self, then: Then) -> RulePolicy {
        RulePolicy {
            id: self.policy,
            version: 3,
            name: "old ones".into(),
            filter: Filter { actions: vec!["a.*".into()], ..Filter::default() },
            keep: Term::of_days(30),
            then,
            priority: 0,
            legal_minimum: None,
            legal_maximum: None,
        }
    }

    /// Begins a run on a request.
    pub(crate) async fn request(&self, then: Then, request: &Request) -> RunId {
        let rules = RuleSet::default();
        let new = NewRun {
            id: Uuid::new_v4(),
            tenant: acme(),
            basis: Basis::Request(serde_json::to_value(request).unwrap()),
            requester: json!({"key_id": "k1"}),
            then,
            archive: None,
            rules: Some(serde_json::to_value(rules).unwrap()),
            as_of: SystemClock.now(),
            notify: 0,
            correlation_id: "c-2".into(),
        };
        let mut connection = self.database.pool().acquire().await.unwrap();
        store::begin_run(&mut connection, &new).await.unwrap();
        new.id
    }

    pub(crate) async fn state(&self, run: RunId) -> Run {
        let mut connection = self.database.pool().acquire().await.unwrap();
        store::run(&mut connection, &acme(), run).await.unwrap().unwrap()
    }

    pub(crate) async fn units(&self, run: RunId) -> Vec<Unit> {
        let mut connection = self.database.pool().acquire().await.unwrap();
        store::units_of(&mut connection, &acme(), run, 0, 1_000).await.unwrap()
    }

    /// Handles the message of every unit of a policy's run.
    pub(crate) async fn archive(&self, run: &Run) -> Result<(), Failure> {
        for unit in self.units(run.new.id).await {
            self.archive_unit(run, unit.id).await?;
        }
        Ok(())
    }

    pub(crate) async fn archive_unit(&self, run: &Run, unit_id: Uuid) -> Result<(), Failure> {
        let (run_id, policy_id, policy_version) = (run.new.id, self.policy, 3);
        let message = ArchiveByPolicy { run_id, unit_id, policy_id, policy_version };
        self.handle(ArchiveMessage::ByPolicy(message)).await
    }

    pub(crate) async fn by_date(&self, run_id: RunId, then: Then) -> Result<(), Failure> {
        let (from, to) = (self.hour, self.hour + TimeDelta::hours(1));
        let requester = Requester { key_id: "k1".into(), ip: None };
        self.handle(ArchiveMessage::ByDate(ArchiveByDate { run_id, from, to, then, requester }))
            .await
    }

    pub(crate) async fn bulk(&self, run_id: RunId, ids: Vec<LogId>) -> Result<(), Failure> {
        let requester = Requester { key_id: "k1".into(), ip: None };
        let message = BulkArchive { run_id, log_ids: ids, then: Then::Archive, requester };
        self.handle(ArchiveMessage::Bulk(message)).await
    }

    pub(crate) async fn handle(&self, message: ArchiveMessage) -> Result<(), Failure> {
        let now = SystemClock.now();
        let delivery = Delivery::detached(header(&acme(), now), message, first_attempt(now));
        self.worker.handle(delivery).await
    }

    /// What an auditor says who has the files and the public key, once everything is sealed.
    pub(crate) async fn verify(&self) -> Report {
        let keys: Keys = [signer()].into_iter().collect();
        let sealer = Sealer::new(
            &self.database,
            keys,
            self.store.clone(),
            Arc::new(SystemClock),
            SealerConfig::default(),
        );
        // A pass bounds each of its calls; on a busy machine one may not be answered in time.
        eventually(PATIENCE, "everything is sealed", async || {
            matches!(sealer.pass().await, Ok(pass) if pass.unstored == 0).then_some(())
        })
        .await;
        eventually(PATIENCE, "a head", async || sealer.head_now(&acme()).await.ok()).await;
        let source = Directory::open(self.dir.path()).unwrap();
        let keys = [signer().key().clone()];
        verify(&source, &keys, &Options::default(), |_| ()).unwrap()
    }

    /// Nothing is wrong with the archive, it holds these events each once, and no upload is left.
    pub(crate) async fn holds(&self, expected: &[LogId]) {
        let report = self.verify().await;
        let findings: Vec<_> = report.tenants.iter().flat_map(|tenant| &tenant.findings).collect();
        assert!(findings.is_empty(), "{findings:?}");
        let held = self.held();
        let set: BTreeSet<_> = held.iter().copied().collect();
        assert_eq!(held.len(), set.len(), "each once");
        assert_eq!(set, expected.iter().map(|id| id.0).collect());
        let tomorrow = SystemClock.now() + TimeDelta::days(1);
        let (uploads, _) = self.store.list_uploads("archive/", tomorrow, None).await.unwrap();
        assert_eq!(uploads, [], "no orphan");
    }

    /// The events of all objects.
    pub(crate) fn held(&self) -> Vec<Uuid> {
        let source = Directory::open(self.dir.path()).unwrap();
        let mut held = Vec::new();
        for file in source.list("archive/").unwrap() {
            let codec =
                Codec::ALL.into_iter().find(|c| file.name.ends_with(c.extension())).unwrap();
            let bytes = source.open(&file.name).unwrap().unwrap();
            let observed = evidence::object::survey(bytes, codec, |entry| {
                if entry.line.key.revision == 0 {
                    held.push(entry.line.key.id);
                }
            });
            observed.unwrap().contents.unwrap();
        }
        held
    }

    pub(crate) async fn objects(&self) -> Vec<String> {
        let page = self.store.list("archive/", None, 100).await.unwrap();
        page.objects.iter().map(|object| object.key.to_string()).collect()
    }

    /// Messages of that type that wait in the outbox, as JSON.
    pub(crate) async fn outbox(&self, queue: &str) -> Vec<serde_json::Value> {
        let rows: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT envelope FROM outbox WHERE queue = $1 ORDER BY id")
                .bind(queue)
                .fetch_all(self.database.pool())
                .await
                .unwrap();
        rows.iter().map(|row| serde_json::from_slice(row).unwrap()).collect()
    }
}

pub(crate) async fn erase(database: &Database, id: LogId) {
    let mut connection = database.pool().acquire().await.unwrap();
    let erasure = NewErasure {
        tenant: acme(),
        id,
        reason: "asked for".into(),
        requester: json!({"key_id": "k1"}),
        operation_id: EnvelopeId(Uuid::new_v4()),
        recorded_at: SystemClock.now(),
    };
    let erased = store::erase(&mut connection, &erasure, &[]).await.unwrap();
    assert!(matches!(erased, audit::model::Erasure::Done(_)), "{erased:?}");
}

/// An id of that millisecond, unlike any other's.
pub(crate) fn v7(hour: DateTime<Utc>, at_millis: i64) -> Uuid {
    let random = Uuid::new_v4();
    let random = random.as_bytes()[..10].try_into().unwrap();
    contracts::ids::uuid_v7_at(hour + TimeDelta::milliseconds(at_millis), random)
}

/// Microseconds within the millisecond that have nothing to do with the order of the ids.
fn micros(id: LogId) -> TimeDelta {
    TimeDelta::microseconds(i64::from(id.0.as_bytes()[15]) * 3)
}

fn noise(id: LogId, chars: usize) -> String {
    use sha2::{Digest, Sha256};
    let mut text = String::with_capacity(chars + 64);
    let mut block = Sha256::digest(id.0.as_bytes());
    while text.len() < chars {
        text.push_str(&hex::encode(block));
        block = Sha256::digest(block);
    }
    text.truncate(chars);
    text
}
