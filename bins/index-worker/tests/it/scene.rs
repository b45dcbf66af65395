//! One fleet for one process under test: its database, queue and Redis, the messages that were
//! accepted, and what has to be true in the end.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::event::{self, EventLimits, Origin, Rules, Stamp};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::{BulkIndex, Delete, IndexMessage, LogItem, Requester, Update};
use contracts::{
    Envelope, EnvelopeId, Header, LogId, QueueSpec, RetentionClass, Tenant, catalogue,
};
use database::{Database, Role};
use queue_core::{Clock, Driver, Outgoing, SystemClock};
use queue_sqs::{Admin, AwsConfig, Deployment, Sqs};
use sinks::pubsub::{Feed, FeedConfig, Signal};
use sinks::search::{Query, SearchConfig, SharedSearch};
use sqs_emulator::Server;
use testkit::{TestDatabase, TestRedis, agrees, eventually};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Longer than a lease (30 s), a drain and a slow machine together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Everything around the process.
pub(crate) struct Scene {
    pub(crate) tenant: Tenant,
    database: Database,
    search: SharedSearch,
    sqs: Sqs,
    pub(crate) admin: Admin,
    pub(crate) queue: Arc<dyn Driver>,
    pub(crate) queue_url: String,
    dlq_url: String,
    /// Where the process finds its sinks; a test puts a proxy in between.
    pub(crate) endpoint: String,
    pub(crate) redis_url: String,
    pub(crate) database_url: String,
    /// More of its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    tailed: Arc<Mutex<BTreeSet<LogId>>>,
    logs: Vec<Given>,
    directory: tempfile::TempDir,
    pub(crate) tasks: TaskTracker,
    pub(crate) ended: CancellationToken,
    _database: TestDatabase,
}

/// A log on its way.
pub(crate) struct Given {
    id: LogId,
    pub(crate) item: LogItem,
    at: DateTime<Utc>,
}

impl Scene {
    pub(crate) async fn new(name: &str, redis: &TestRedis) -> Self {
        let cluster = TestDatabase::new().await;
        let database = cluster.connect(Role::Worker);
        let search = sinks::search::open(&SearchConfig::postgres(), &database).await.unwrap();
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await.unwrap();
        let endpoint = server.endpoint();
        tasks.spawn(server.run(ended.clone()));
        let sqs = Sqs::connect(&aws(&endpoint)).await.unwrap();
        let admin = sqs.admin();
        let made = admin.create(&catalogue::AUDIT_INDEX, Deployment::Dev).await.unwrap();
        let tenant: Tenant = name.parse().unwrap();
        let now = SystemClock.now();
        let logs = (0..3).map(|n| given(&tenant, now, n)).collect();
        let tailed = Arc::new(Mutex::new(BTreeSet::new()));
        let reader = Reader { database: database.clone(), tenant: tenant.clone() };
        tasks.spawn(reader.tail(redis.url().to_owned(), tailed.clone(), ended.clone()));
        Self {
            queue: sqs.queue(catalogue::AUDIT_INDEX.name, &made.url),
            sqs,
            environment: Vec::new(),
            queue_url: made.url,
            dlq_url: made.dlq_url,
            redis_url: redis.url().to_owned(),
            database_url: cluster.url().to_owned(),
            directory: tempfile::tempdir().unwrap(),
            _database: cluster,
            tenant,
            database,
            search,
            admin,
            endpoint,
            tailed,
            logs,
            tasks,
            ended,
        }
    }

    /// What the API accepted: three logs, a change of the first, the erasure of the last.
    pub(crate) async fn accept(&self) {
        let [first, second, last] = &self.logs[..] else { panic!("three logs") };
        let requester = || Requester { key_id: "k1".into(), ip: None };
        self.send(IndexMessage::Index(first.item.clone())).await;
        let items = vec![second.item.clone(), last.item.clone()];
        self.send(IndexMessage::BulkIndex(BulkIndex { items })).await;
        self.send(IndexMessage::Update(Update {
            log_id: first.id,
            tags: Some(vec!["seen".into()]),
            annotation: None,
            requester: requester(),
            recorded_at: first.at,
        }))
        .await;
        self.send(IndexMessage::Delete(Delete {
            log_id: last.id,
            reason: "asked for".into(),
            requester: requester(),
            recorded_at: last.at,
        }))
        .await;
    }

    /// Makes one more queue, and says so to the process; gives its driver and its dead letters.
    pub(crate) async fn also(&mut self, spec: &'static QueueSpec) -> (Arc<dyn Driver>, String) {
        let made = self.admin.create(spec, Deployment::Dev).await.unwrap();
        let queue = self.sqs.queue(spec.name, &made.url);
        self.environment.push((spec.env, made.url));
        (queue, made.dlq_url)
    }

    async fn send(&self, message: IndexMessage) {
        send(&self.queue, self.envelope(&message)).await;
    }

    /// A message as the API would send it.
    pub(crate) fn envelope(&self, message: &IndexMessage) -> String {
        let header = Header {
            v: 1,
            kind: String::new(),
            id: EnvelopeId(Uuid::new_v4()),
            tenant: self.tenant.clone(),
            recorded_at: self.logs[0].at,
            correlation_id: "test".into(),
            causation_id: None,
            hops: 0,
            key: None,
            revision: None,
        };
        Envelope::wrap(header, message).unwrap().to_json().unwrap()
    }

    /// Starts the worker; `crash_at` arms a crash point.
    pub(crate) fn start(&self, crash_at: Option<&str>) -> Process {
        let output = self.directory.path().join(crash_at.unwrap_or("healthy"));
        let file = std::fs::File::create(&output).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_index-worker"));
        command
            .env_clear()
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", &self.redis_url)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env(catalogue::AUDIT_INDEX.env, &self.queue_url)
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("WORKER_WAIT_SECS", "1")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .kill_on_drop(true);
        if let Some(point) = crash_at {
            command.env("CRASH_POINT", point);
        }
        Process { child: command.spawn().unwrap(), output }
    }

    /// Waits until everything accepted is in exactly the place where it belongs.
    pub(crate) async fn converged(&self) {
        agrees(PATIENCE, "stored, found and settled", async || self.differs().await).await;
    }

    /// An error says what is not as it should be, or which part does not answer just now.
    pub(crate) async fn differs(&self) -> Result<(), String> {
        let [first, second, last] = &self.logs[..] else { panic!("three logs") };
        let kept = [first.id, second.id];
        let erased = Query { action: Some("flotilla.log.erased".into()), ..Query::default() };
        let (all, entries) = (self.found(&Query::default()).await?, self.found(&erased).await?);
        let tagged = Query { tags: vec!["seen".into()], ..Query::default() };
        let expected: BTreeSet<LogId> = kept.into_iter().chain(entries.iter().copied()).collect();
        let depth = async |url: &str| self.admin.attributes(url).await.unwrap().depth;
        let (queue, dlq) = (depth(&self.queue_url).await, depth(&self.dlq_url).await);
        let tailed = self.tailed.lock().unwrap().clone();
        let checks = [
            ("one audit entry", entries.len() == 1),
            ("the kept logs and the entry are found, no other", all == expected),
            ("they are stored, no other", self.stored(&self.tenant).await? == expected),
            ("the change is found", self.found(&tagged).await? == BTreeSet::from([first.id])),
            ("the system has one entry", self.stored(&Tenant::system()).await?.len() == 1),
            ("the erased log is nowhere", !all.contains(&last.id)),
            ("the kept logs were tailed", kept.iter().all(|id| tailed.contains(id))),
            ("the queue is empty", queue.visible + queue.in_flight + queue.delayed == 0),
            ("nothing is dead", dlq.visible + dlq.in_flight == 0),
        ];
        checks.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(what, _)| {
            Err(format!("not so: {what}; found {all:?}, expected {expected:?}, queue {queue:?}"))
        })
    }

    async fn found(&self, query: &Query) -> Result<BTreeSet<LogId>, String> {
        let page = self.search.search(&self.tenant, query, 100, None).await;
        let page = page.map_err(|error| error.to_string())?;
        Ok(page.hits.into_iter().map(|hit| hit.id).collect())
    }

    pub(crate) async fn stored(&self, tenant: &Tenant) -> Result<BTreeSet<LogId>, String> {
        stored(&self.database, tenant).await
    }

    pub(crate) async fn end(self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

pub(crate) async fn send(queue: &Arc<dyn Driver>, body: String) {
    let sent = queue.send(&[Outgoing { body, ..Outgoing::default() }]).await.unwrap();
    assert_eq!(sent, [Ok(())]);
}

/// The process under test.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end:\n{}", self.output()))
            .unwrap()
    }

    /// Asks it to drain.
    pub(crate) async fn drain(&mut self) -> ExitStatus {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.ended().await
    }

    /// Waits until its log holds all of these in one line.
    pub(crate) async fn says(&self, words: &[&str]) {
        eventually(PATIENCE, &format!("a line with {words:?}"), async || {
            let output = self.output();
            output.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        })
        .await;
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the process said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the process said:\n{}", self.output());
        }
    }
}

/// Died by SIGKILL.
pub(crate) fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

fn aws(endpoint: &str) -> AwsConfig {
    let arguments = [
        "--aws-region=us-east-1".to_owned(),
        format!("--aws-endpoint-url={endpoint}"),
        "--aws-access-key-id=test".to_owned(),
        "--aws-secret-access-key=test".to_owned(),
    ];
    let none = chassis::Environment::empty();
    chassis::config::parse::<AwsConfig>("test", arguments, &none).unwrap()
}

/// Somebody who tails the tenant's logs, and reads the database where the feed has a gap.
struct Reader {
    database: Database,
    tenant: Tenant,
}

impl Reader {
    async fn tail(
        self,
        redis: String,
        seen: Arc<Mutex<BTreeSet<LogId>>>,
        ended: CancellationToken,
    ) {
        let feed = Feed::open(&FeedConfig::new(redis)).unwrap();
        let mut logs = feed.subscribe(&self.tenant).unwrap();
        while let Some(Some(signal)) = ended.run_until_cancelled(logs.recv()).await {
            let new = match signal {
                Signal::Item(event) => BTreeSet::from([event.id]),
                // Asked again while PostgreSQL is slow: each try waits for a connection.
                Signal::Gap => loop {
                    if let Ok(stored) = stored(&self.database, &self.tenant).await {
                        break stored;
                    }
                },
            };
            seen.lock().unwrap().extend(new);
        }
        feed.close().await;
    }
}

async fn stored(database: &Database, tenant: &Tenant) -> Result<BTreeSet<LogId>, String> {
    let rows: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM logs WHERE tenant = $1")
        .bind(tenant.as_str())
        .fetch_all(database.pool())
        .await
        .map_err(|error| error.to_string())?;
    assert_eq!(rows.len(), rows.iter().collect::<BTreeSet<_>>().len(), "each once");
    Ok(rows.into_iter().map(LogId).collect())
}

/// The log of that number.
pub(crate) fn given(tenant: &Tenant, now: DateTime<Utc>, n: u32) -> Given {
    let at = now.duration_trunc(TimeDelta::milliseconds(1)).unwrap();
    let at = at + TimeDelta::milliseconds(n.into());
    let salt: Vec<u8> = n.to_be_bytes().repeat(4);
    let id = LogId(contracts::ids::uuid_v7_at(at, salt[..10].try_into().unwrap()));
    let text = r#"{"actor":{"type":"user","id":"u"},"action":"thing.done"}"#;
    let rules = Rules::at(at, EventLimits::default(), false);
    let event = event::validate_text(text, &rules).unwrap();
    let class = RetentionClass::Days30;
    let stamp = Stamp { id, tenant: tenant.clone(), recorded_at: at, class };
    let source = Origin { key_id: "k1".into(), ip: None, user_agent: None };
    let record = event::record_bytes(&stamp, &source, &event).unwrap();
    Given { id, item: LogItem { salt: hex::encode(salt), record }, at }
}
