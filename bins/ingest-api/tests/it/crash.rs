//! SIGKILL of the real process at every enumerated step of the API: what it answered is true, and
//! a repeat under the same key is one event.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use audit::crash::CrashPoint;
use contracts::audit::IndexMessage;
use contracts::{Body, Envelope, Message, catalogue};
use database::Role;
use edge::Scope;
use reqwest::Client;
use serde_json::{Value, json};
use testkit::{TestDatabase, TestRedis, TestSqs, eventually};
use tokio::process::{Child, Command};

use crate::scene::{PATIENCE, event, make_key, told};

struct World {
    database: TestDatabase,
    redis: TestRedis,
    sqs: TestSqs,
    queue_url: String,
    key: String,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let owner = database.connect(Role::Owner);
        let key = make_key(&owner, "acme", Scope::ALL).await;
        owner.close().await;
        let sqs = TestSqs::start().await;
        let queue_url = sqs.create(&catalogue::AUDIT_INDEX).await.url;
        Self { redis: TestRedis::new().await, database, sqs, queue_url, key }
    }

    /// Starts the API on a free port; `point` is where it dies.
    async fn start(&self, point: Option<CrashPoint>) -> (Child, String) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingest-api"));
        command
            .env_clear()
            .envs(self.sqs.environment())
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env(catalogue::AUDIT_INDEX.env, &self.queue_url)
            .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        if let Some(point) = point {
            command.env("CRASH_POINT", point.as_str());
        }
        let child = command.spawn().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        eventually(PATIENCE, "the API answers", async || {
            Client::new().get(format!("{base}/healthz")).send().await.ok()
        })
        .await;
        (child, base)
    }

    /// Everything on the queue, as often as it is there.
    async fn sent(&self) -> Vec<IndexMessage> {
        let driver = self.sqs.queue(catalogue::AUDIT_INDEX.name);
        let mut all = Vec::new();
        loop {
            let request = queue_core::driver::ReceiveRequest {
                max: 10,
                wait: std::time::Duration::ZERO,
                lease: std::time::Duration::from_secs(600),
            };
            let received = driver.receive(request).await.unwrap();
            if received.is_empty() {
                return all;
            }
            all.extend(received.iter().map(|one| {
                let envelope = Envelope::from_json(&one.body).unwrap();
                let Body::Inline(body) = envelope.body else { panic!("a claim") };
                IndexMessage::decode(&envelope.header, &body).unwrap()
            }));
        }
    }
}

async fn post(base: &str, key: &str, idempotency: &str, body: &Value) -> Option<(u16, Value)> {
    let request = Client::new().post(format!("{base}/logs/bulk")).bearer_auth(key);
    let request = request.header("idempotency-key", idempotency).json(body);
    Some(told(request.send().await.ok()?).await)
}

#[tokio::test]
async fn a_repeat_after_a_kill_at_any_step_is_one_event() {
    let world = World::new().await;
    for point in [CrashPoint::AfterReserve, CrashPoint::AfterPublish, CrashPoint::AfterMark] {
        let body = json!([event(1), event(2)]);
        let (mut child, base) = world.start(Some(point)).await;
        let answer = post(&base, &world.key, point.as_str(), &body).await;
        assert!(answer.is_none(), "{point:?} was not reached: {answer:?}");
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(9), "{point:?}");

        let (mut child, base) = world.start(None).await;
        let (status, told) = post(&base, &world.key, point.as_str(), &body).await.unwrap();
        assert_eq!(status, 202, "{told}");
        let results = told["results"].as_array().unwrap();
        let accepted: BTreeSet<String> =
            results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect();
        let mut records = BTreeSet::new();
        for message in world.sent().await {
            let IndexMessage::BulkIndex(bulk) = message else { panic!("{message:?}") };
            records.extend(bulk.items.iter().map(|item| item.record.get().to_owned()));
        }
        let sent: BTreeSet<String> = records
            .iter()
            .map(|record| {
                serde_json::from_str::<Value>(record).unwrap()["id"].as_str().unwrap().into()
            })
            .collect();
        assert_eq!(sent, accepted, "{point:?}: accepted and sent differ");
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn an_erasure_whose_answer_is_lost_is_on_the_queue() {
    let world = World::new().await;
    let point = CrashPoint::AfterChangePublish;
    let (mut child, base) = world.start(Some(point)).await;
    let (status, told) = post(&base, &world.key, "k", &json!([event(1)])).await.unwrap();
    assert_eq!(status, 202, "{told}");
    let Some(IndexMessage::Index(item)) = world.sent().await.pop() else { panic!("no log") };
    let record = bytes::Bytes::from(item.record.get().to_owned());
    let log = audit::rules::admit(&"acme".parse().unwrap(), record, &item.salt).unwrap();
    let stores = audit::store::PostgresLogs::new(world.database.connect(Role::Worker));
    audit::store::LogStore::insert(&stores, std::slice::from_ref(&log)).await.unwrap();
    let erase = Client::new().delete(format!("{base}/logs/{}?reason=asked", log.key.id));
    let answer = erase.bearer_auth(&world.key).send().await;
    assert!(answer.is_err(), "the point was not reached: {answer:?}");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.signal(), Some(9));
    let Some(IndexMessage::Delete(delete)) = world.sent().await.pop() else { panic!("no erasure") };
    assert_eq!((delete.log_id, delete.reason.as_str()), (log.key.id, "asked"));
}

/// The list in `audit::crash` and the steps tried here are the same.
#[test]
fn every_step_of_the_api_is_tried() {
    let tried = [
        CrashPoint::AfterReserve,
        CrashPoint::AfterPublish,
        CrashPoint::AfterMark,
        CrashPoint::AfterChangePublish,
    ];
    assert_eq!(CrashPoint::API, tried);
}
