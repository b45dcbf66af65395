//! One archive for one process under test: its database, queue and directory, a policy's run, somebody's
//! request, and what has to be true in the end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::archive::{Keys, Sealer, SealerConfig};
use audit::lifecycle::request::{Request, unit_id};
use audit::lifecycle::unit::NewWork;
use audit::lifecycle::{Basis, KeyRange, NewUnit, RunState, Tally};
use audit::model::NewLog;
use audit::retention::Filter;
use audit::retention::plan::Planner;
use audit::retention::rules::RuleSet;
use audit::store::{self, Fed, Planned, signing_keys};
use base64::Engine as _;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::Requester;
use contracts::audit::lifecycle::{ArchiveByDate, ArchiveByPolicy, ArchiveMessage, RunId, Then};
use contracts::{Envelope, EnvelopeId, Header, Tenant, catalogue};
use database::{Database, Role, partitions};
use evidence::source::{Directory, Source};
use evidence::verify::{Options, verify};
use evidence::{Codec, MemorySigner, Signer};
use queue_core::{Clock, Driver, Outgoing, SystemClock};
use queue_sqs::{Admin, Deployment, Sqs};
use sinks::objects::{Files, Uploads};
use sqs_emulator::Server;
use testkit::{TestDatabase, agrees, eventually};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::logs::log;
use crate::process::{Process, aws};
use crate::runs::{new_run, rule};

/// Longer than a lease, a claim and a slow machine together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// A second object, packed, needs two parts: 16 MiB and some.
const LARGE_EVENTS: i64 = 90;

/// Everything around the process.
pub(crate) struct Scene {
    cluster: TestDatabase,
    database: Database,
    admin: Admin,
    queue: Arc<dyn Driver>,
    queue_url: String,
    dlq_url: String,
    endpoint: String,
    directory: tempfile::TempDir,
    hour: DateTime<Utc>,
    policy: Uuid,
    run: RunId,
    request: RunId,
    units: u32,
    /// Events of the policy's run and of the request.
    events: (Vec<Uuid>, Vec<Uuid>),
    tasks: TaskTracker,
    ended: CancellationToken,
    /// Where the process writes its archive.
    pub(crate) store: Vec<(&'static str, String)>,
}

pub(crate) fn acme() -> Tenant {
    "acme".parse().unwrap()
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap())
}

impl Scene {
    pub(crate) async fn new(large: bool) -> Self {
        let cluster = TestDatabase::new().await;
        let (owner, database) = (cluster.connect(Role::Owner), cluster.connect(Role::Worker));
        let hour = SystemClock.now().duration_trunc(TimeDelta::hours(1)).unwrap();
        let hour = hour - TimeDelta::days(40);
        let later = hour + TimeDelta::days(1);
        partitions::ensure_range(owner.pool(), hour, later).await.unwrap();
        let (mut connection, key) = (owner.pool().acquire().await.unwrap(), signer());
        let (id, text) = (key.key().id(), key.key().to_string());
        signing_keys::put_key(&mut connection, &id, &text, "first", "test").await.unwrap();
        drop(connection);

        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await.unwrap();
        let endpoint = server.endpoint();
        tasks.spawn(server.run(ended.clone()));
        let sqs = Sqs::connect(&aws(&endpoint)).await.unwrap();
        let admin = sqs.admin();
        // Every call to the queues may be late on a busy machine; each may be made twice.
        let made = eventually(PATIENCE, "the queue", async || {
            admin.create(&catalogue::AUDIT_ARCHIVE, Deployment::Dev).await.ok()
        })
        .await;
        let mut scene = Self {
            queue: sqs.queue(catalogue::AUDIT_ARCHIVE.name, &made.url),
            queue_url: made.url,
            dlq_url: made.dlq_url,
            admin,
            endpoint,
            directory: tempfile::tempdir().unwrap(),
            cluster,
            database,
            hour,
            policy: Uuid::new_v4(),
            run: Uuid::new_v4(),
            request: Uuid::new_v4(),
            units: 0,
            events: Default::default(),
            tasks,
            ended,
            store: Vec::new(),
        };
        let directory = scene.archive().to_string_lossy().into_owned();
        scene.store = vec![("ARCHIVE_DIR", directory)];
        scene.fill(large).await;
        scene.plan().await;
        scene
    }

    /// Events of the policy in two hours, and some that only the request asks for.
    async fn fill(&mut self, large: bool) {
        let mut ours = Vec::new();
        for at in 0..20 {
            ours.push(self.log(at, "a.b", 30));
            ours.push(self.log(3_600_000 + at, "a.b", 30));
        }
        if large {
            ours.extend((0..LARGE_EVENTS).map(|at| self.log(7_200_000 + at, "a.b", 200_000)));
        }
        let asked: Vec<NewLog> = (0..5).map(|at| self.log(at * 7, "b.c", 30)).collect();
        let ids = |logs: &[NewLog]| logs.iter().map(|log| log.key.id.0).collect();
        self.events = (ids(&ours), ids(&asked));
        let mut all = ours;
        all.extend(asked);
        all.sort_by(|a, b| a.key.cmp(&b.key));
        let mut connection = self.database.pool().acquire().await.unwrap();
        for logs in all.chunks(50) {
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
    }

    fn log(&self, at_millis: i64, action: &str, chars: usize) -> NewLog {
        log(self.hour + TimeDelta::milliseconds(at_millis), action, chars)
    }

    /// A started run of a policy, as the retention worker leaves it, and a request's that is only begun.
    async fn plan(&mut self) {
        let then = Then::ArchiveAndDelete;
        let rule = rule(self.policy, then);
        let rules = RuleSet::new(vec![rule], Vec::new());
        let (as_of, mut connection) =
            (SystemClock.now(), self.database.pool().acquire().await.unwrap());
        let snapshot_xmin = store::snapshot_xmin(&mut connection).await.unwrap();
        let shared = Arc::new(rules.clone());
        let mut planner = Planner::new(&acme(), shared, self.policy, as_of, snapshot_xmin).unwrap();
        let fed = store::feed(&mut connection, &acme(), &mut planner, None).await.unwrap();
        assert_eq!(fed, Fed::End);
        let plan = planner.finish(true);
        let basis = Basis::Policy { id: self.policy, version: 1, slot: None };
        let new = new_run(self.run, basis, as_of);
        store::begin_run(&mut connection, &new).await.unwrap();
        let kept = Planned {
            rules: serde_json::to_value(&rules).unwrap(),
            plan: serde_json::to_value(&plan).unwrap(),
            fingerprint: [7; 32],
            snapshot_xmin,
        };
        store::keep_plan(&mut connection, &acme(), self.run, &kept).await.unwrap();
        let units: Vec<NewUnit> = (1..)
            .zip(&plan.units)
            .map(|(number, unit)| NewUnit {
                id: unit_id(self.run, number),
                number,
                work: NewWork::Archive(Codec::Lz4),
                range: KeyRange {
                    class: unit.class,
                    first: (unit.first.recorded_at, unit.first.id.0),
                    last: (unit.last.recorded_at, unit.last.id.0),
                },
                planned: Tally { events: unit.tally.events, bytes: unit.tally.bytes },
            })
            .collect();
        self.units = u32::try_from(units.len()).unwrap();
        store::add_units(&mut connection, &acme(), self.run, &units).await.unwrap();
        store::start_run(&mut connection, &acme(), self.run).await.unwrap();

        let filter = Filter { actions: vec!["b.*".into()], ..Filter::default() };
        let (from, to) = (self.hour, self.hour + TimeDelta::hours(3));
        let request =
            serde_json::to_value(Request::Time { from, to, filter, snapshot_xmin: None }).unwrap();
        let mut request = new_run(self.request, Basis::Request(request), as_of);
        request.then = Then::Archive;
        store::begin_run(&mut connection, &request).await.unwrap();
    }

    /// A message per unit, and the request's.
    pub(crate) async fn accept(&self) {
        for number in 1..=self.units {
            self.send(&ArchiveMessage::ByPolicy(ArchiveByPolicy {
                run_id: self.run,
                unit_id: unit_id(self.run, number),
                policy_id: self.policy,
                policy_version: 1,
            }))
            .await;
        }
        self.send(&ArchiveMessage::ByDate(ArchiveByDate {
            run_id: self.request,
            from: self.hour,
            to: self.hour + TimeDelta::hours(3),
            then: Then::Archive,
            requester: Requester { key_id: "k1".into(), ip: None },
        }))
        .await;
    }

    async fn send(&self, message: &ArchiveMessage) {
        let header = Header {
            v: 1,
            kind: String::new(),
            id: EnvelopeId(Uuid::new_v4()),
            tenant: acme(),
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
        let mut variables = vec![
            ("DATABASE_URL", self.cluster.url().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            (catalogue::AUDIT_ARCHIVE.env, self.queue_url.clone()),
            ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
            ("WORKER_WAIT_SECS", "1".to_owned()),
        ];
        variables.extend(self.store.iter().cloned());
        variables.extend(crash_at.map(|point| ("CRASH_POINT", point.to_owned())));
        Process::start(output, &variables)
    }

    /// The signing key's private half, as `openssl genpkey` writes one.
    pub(crate) fn private_key() -> String {
        let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
        der.extend([1; 32]);
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    /// Waits until everything is where it belongs.
    pub(crate) async fn converged(&self) {
        agrees(PATIENCE, "archived and settled", async || self.differs().await).await;
    }

    /// An error says what is not as it should be, or what does not answer just now.
    pub(crate) async fn differs(&self) -> Result<(), String> {
        let error = |error: sqlx::Error| error.to_string();
        let mut connection = self.database.pool().acquire().await.map_err(error)?;
        let run = store::run(&mut connection, &acme(), self.run).await.map_err(error)?.unwrap();
        let request =
            store::run(&mut connection, &acme(), self.request).await.map_err(error)?.unwrap();
        let cleanups: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox WHERE queue = 'audit-cleanup'")
                .fetch_one(&mut *connection)
                .await
                .map_err(error)?;
        let marks: i64 = sqlx::query_scalar("SELECT count(*) FROM archived_logs")
            .fetch_one(&mut *connection)
            .await
            .map_err(error)?;
        let depth = async |url: &str| {
            let attributes = self.admin.attributes(url).await;
            attributes.map(|found| found.depth).map_err(|error| error.to_string())
        };
        let (queue, dlq) = (depth(&self.queue_url).await?, depth(&self.dlq_url).await?);
        let (ours, asked) = (self.events.0.len() as u64, self.events.1.len() as u64);
        let counters = run.counters;
        let all = counters.planned;
        let checks = [
            ("every event is verified", counters.verified == all && counters.archived == all),
            ("they are all of them", all.events == ours),
            ("one cleanup per unit", cleanups == i64::from(self.units)),
            ("the request is done", request.state == RunState::Done),
            ("its counters add up", request.counters.adds_up(Then::Archive)),
            ("its events are marked, no others", marks.cast_unsigned() == asked),
            ("the queue is empty", queue.visible + queue.in_flight + queue.delayed == 0),
            ("nothing is dead", dlq.visible + dlq.in_flight == 0),
        ];
        checks.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(what, _)| {
            Err(format!("not so: {what}; {counters:?}, {request:?}, queue {queue:?}, dlq {dlq:?}"))
        })
    }

    /// The objects' names, and the events of the policy's run.
    pub(crate) async fn objects(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT object FROM archive_objects ORDER BY object")
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }

    /// All events, each once.
    pub(crate) fn expected(&self) -> BTreeMap<Uuid, u32> {
        self.events.0.iter().chain(&self.events.1).map(|id| (*id, 1)).collect()
    }

    /// An auditor finds nothing wrong, each event is in one object, and no upload is left.
    pub(crate) async fn audited(&self) {
        let files = Files::new(self.archive());
        let keys: Keys = [signer()].into_iter().collect();
        let sealer = Sealer::new(
            &self.database,
            keys,
            Arc::new(files.clone()),
            Arc::new(SystemClock),
            SealerConfig::default(),
        );
        // A pass bounds each of its calls; on a busy machine one may not be answered in time.
        eventually(PATIENCE, "everything is sealed", async || {
            matches!(sealer.pass().await, Ok(pass) if pass.unstored == 0).then_some(())
        })
        .await;
        eventually(PATIENCE, "a head", async || sealer.head_now(&acme()).await.ok()).await;
        let source = Directory::open(&self.archive()).unwrap();
        let report = verify(&source, &[signer().key().clone()], &Options::default(), |_| ());
        let report = report.unwrap();
        let findings: Vec<_> = report.tenants.iter().flat_map(|tenant| &tenant.findings).collect();
        assert!(findings.is_empty(), "{findings:?}");

        let mut held: BTreeMap<Uuid, u32> = BTreeMap::new();
        for file in source.list("archive/").unwrap() {
            let codec =
                Codec::ALL.into_iter().find(|c| file.name.ends_with(c.extension())).unwrap();
            let bytes = source.open(&file.name).unwrap().unwrap();
            let observed = evidence::object::survey(bytes, codec, |entry| {
                *held.entry(entry.line.key.id).or_default() += 1;
            });
            observed.unwrap().contents.unwrap();
        }
        assert_eq!(held, self.expected(), "each event in one object");
        let tomorrow = SystemClock.now() + TimeDelta::days(1);
        let (uploads, _) = files.list_uploads("archive/", tomorrow, None).await.unwrap();
        // A directory's drafts of single calls have no name; they go by age.
        let orphans: Vec<_> = uploads.iter().filter(|upload| upload.key.is_some()).collect();
        assert!(orphans.is_empty(), "no orphan upload: {orphans:?}");
    }

    pub(crate) async fn end(self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
