//! `--backends aws`: the same process on backends that are somewhere else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use contracts::catalogue::AUDIT_INDEX;
use contracts::{RetentionClass, Tenant};
use database::api_keys::{self, NewKey};
use database::{Role, tenants};
use edge::Scope;
use rustix::process::Signal;
use serde_json::json;
use testkit::{Mood, Proxy, TestDatabase, TestRedis, TestSqs, eventually};
use tokio::process::Command;

use crate::process::Place;

const LIMIT: Duration = Duration::from_secs(90);

/// Backends that no fleet has started.
struct Backends {
    database: TestDatabase,
    redis: TestRedis,
    sqs: TestSqs,
}

impl Backends {
    async fn new() -> Self {
        let sqs = TestSqs::start().await;
        sqs.create(&AUDIT_INDEX).await;
        Self { database: TestDatabase::new().await, redis: TestRedis::new().await, sqs }
    }

    /// `fleet up` on them, the queues at `endpoint`.
    fn command(&self, place: &Place, endpoint: &str) -> Command {
        let mut command = place.command();
        command
            .args(["--backends", "aws"])
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env("WORKER_WAIT_SECS", "1")
            .env(AUDIT_INDEX.env, self.sqs.url(AUDIT_INDEX.name))
            .envs(self.sqs.environment_at(endpoint));
        command
    }

    async fn key(&self) -> String {
        let owner = self.database.connect(Role::Owner);
        let tenant: Tenant = "acme".parse().unwrap();
        tenants::create(owner.pool(), &tenant, RetentionClass::Days30, false).await.unwrap();
        let made = edge::generate("test");
        let scopes = [Scope::LogsWrite, Scope::LogsRead].map(|scope| scope.as_str().to_owned());
        let key = NewKey {
            key_id: &made.key_id,
            tenant: &tenant,
            env: "test",
            secret_sha256: made.secret_sha256,
            scopes: &scopes,
            name: "test",
            expires_at: None,
        };
        api_keys::create(owner.pool(), key).await.unwrap();
        made.text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_from_post_to_search_on_backends_of_others() {
    let (backends, place) = (Backends::new().await, Place::new());
    let key = backends.key().await;
    let begun = Instant::now();
    let fleet = place.spawn(backends.command(&place, &backends.sqs.endpoint())).ready().await;
    let took = begun.elapsed().as_millis();
    let ready_ms = fleet.ready["ready_ms"].as_u64().unwrap();
    assert!(ready_ms > 0 && u128::from(ready_ms) <= took, "{ready_ms} of {took}");
    assert_eq!(fleet.ready["services"], json!(["ingest-api", "index-worker", "scheduler"]));
    for laptops in ["sqs", "state_dir", "env_file", "tenant", "api_key"] {
        assert!(fleet.ready[laptops].is_null(), "{laptops}: {}", fleet.ready);
    }
    assert!(!place.state_dir().exists(), "nothing is kept here");

    let sent = fleet.post(&key, "from.afar").await;
    let found = eventually(LIMIT, "the event", async || {
        let found = fleet.find(&key, "from.afar").await;
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.await, [sent]);
    assert_eq!(fleet.end(Signal::TERM).await, Some(0), "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_every_service_is_and_not_before() {
    let (backends, place) = (Backends::new().await, Place::new());
    let queues = Proxy::before(&backends.sqs.endpoint()).await;
    queues.mood(Mood::Down);
    let endpoint = queues.instead_in(&backends.sqs.endpoint());
    let mut command = backends.command(&place, &endpoint);
    command.env(AUDIT_INDEX.env, queues.instead_in(&backends.sqs.url(AUDIT_INDEX.name)));
    let mut starting = place.spawn(command);
    eventually(LIMIT, "all but the queue is there", async || {
        let checks = place.checks().await?;
        let bad = checks.iter().filter(|check| check["ok"] != true);
        let bad: BTreeSet<&str> = bad.filter_map(|check| check["name"].as_str()).collect();
        // What the API says of it, and what the worker says.
        (bad == BTreeSet::from(["audit-index", "sqs"])).then_some(())
    })
    .await;
    assert!(!starting.speaks().await, "the queue does not answer");
    queues.mood(Mood::Pass);
    let fleet = starting.ready().await;
    let checks = place.checks().await.unwrap();
    assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
    assert_eq!(fleet.end(Signal::TERM).await, Some(0));
}
