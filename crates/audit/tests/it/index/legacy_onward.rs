//! Bare messages of the archive, cleanup and retention types: on the queue of their type, with the identity
//! that they had; a run only where nothing is deleted by it; and every message in the counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::lifecycle::{Basis, RunState};
use audit::store;
use audit::workers::LegacyIndexWorker;
use audit::workers::legacy::events::MESSAGES_TOTAL;
use chassis::Companion;
use contracts::Envelope;
use contracts::audit::lifecycle::Then;
use contracts::catalogue::AUDIT_LEGACY;
use contracts::envelope::Body;
use contracts::errors::{MALFORMED_MESSAGE, UNKNOWN_TYPE};
use contracts::legacy::legacy_id;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use queue_core::driver::ReceiveRequest;
use queue_core::{
    DeadLetter, Engine, EngineConfig, Failure, MemoryAttempts, Outgoing, Ports, SystemClock,
};
use serde_json::{Value, json};
use testkit::{TestSqs, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::legacy::{process, text};
use crate::scene::{Scene, tenant};

/// What the outbox holds: queue, envelope id, type and body, in order.
async fn outbox(scene: &Scene) -> Vec<(String, Uuid, String, Value)> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT queue, envelope FROM outbox ORDER BY id")
            .fetch_all(scene.database.pool())
            .await
            .unwrap();
    let read = |(queue, envelope): (String, Vec<u8>)| {
        let envelope = Envelope::from_json(std::str::from_utf8(&envelope).unwrap()).unwrap();
        let Body::Inline(body) = envelope.body else { panic!("inline") };
        let header = envelope.header;
        assert_eq!(header.tenant, tenant("legacy-shop"));
        let body = serde_json::from_str(body.get()).unwrap();
        (queue, header.id.0, header.kind, body)
    };
    rows.into_iter().map(read).collect()
}

#[tokio::test]
async fn what_is_not_about_logs_goes_to_the_queue_of_its_type() {
    let scene = Scene::new().await;
    let id = Uuid::from_u128(5);
    let unit = json!({"run_id": id, "unit_id": id, "policy_id": id, "policy_version": 2});
    let archived =
        json!({"run_id": id, "unit_id": id, "manifest_sequence": 7, "manifest_sha256": "ab"});
    let expired = json!({"run_id": id, "policy_id": id, "policy_version": 2, "manifest_sequence": 7,
                         "object": "archive/legacy-shop/part"});
    let told = json!({"run_id": id, "policy_id": id, "event": "done", "target": 0});
    let slot = json!({"policy_id": id, "slot": "2026-03-01T03:00:00Z"});
    for (kind, queue, data) in [
        ("ARCHIVE_BY_POLICY", "audit-archive", &unit),
        ("CLEANUP_BY_POLICY", "audit-cleanup", &unit),
        ("CLEANUP_ARCHIVED", "audit-cleanup", &archived),
        ("CLEANUP_EXPIRED", "audit-cleanup", &expired),
        ("SCHEDULE_RETENTION", "audit-retention", &slot),
        ("EVALUATE_POLICY", "audit-retention", &json!({"policy_id": id, "run_id": id})),
        ("POLICY_NOTIFICATION", "audit-retention", &told),
    ] {
        // Twice, as after a crash between the commit and the deletion of the old message.
        for _ in 0..2 {
            process(&scene, kind, &text(kind, &data.to_string())).await.unwrap();
        }
        let sent = outbox(&scene).await.split_off(outbox(&scene).await.len() - 2);
        assert_eq!(sent[0], sent[1], "one message twice");
        assert_eq!((&*sent[0].0, &*sent[0].2, &sent[0].3), (queue, kind, data));
    }
    assert_eq!(outbox(&scene).await.len(), 14, "nothing besides");
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM retention_runs")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    assert_eq!(runs, 0, "each names its own");
}

#[tokio::test]
async fn a_request_without_a_run_gets_one_that_only_archives() {
    let scene = Scene::new().await;
    let (shop, log) = (tenant("legacy-shop"), Uuid::from_u128(9));
    let time = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"});
    for (id, kind, data) in [
        ("m-1", "ARCHIVE_BY_DATE", time),
        ("m-2", "BULK_ARCHIVE", json!({"log_ids": [log], "then": "archive"})),
    ] {
        for _ in 0..2 {
            process(&scene, id, &text(kind, &data.to_string())).await.unwrap();
        }
        let mut connection = scene.database.pool().acquire().await.unwrap();
        let run = store::run(&mut connection, &shop, legacy_id(id)).await.unwrap().unwrap();
        assert_eq!((run.state, run.new.then), (RunState::Planning, Then::Archive));
        assert!(matches!(run.new.basis, Basis::Request(_)));
        assert_eq!(run.new.requester, json!({"key_id": "legacy"}));
        let (queue, _, of, body) = outbox(&scene).await.pop().unwrap();
        assert_eq!((&*queue, &*of, &body["run_id"]), ("audit-archive", kind, &json!(run.new.id)));
    }
    // A policy is evaluated as at a time of its schedule, so that its brake and its version count.
    let policy = json!({"policy_id": Uuid::from_u128(5)});
    process(&scene, "m-3", &text("EVALUATE_POLICY", &policy.to_string())).await.unwrap();
    let (queue, _, kind, body) = outbox(&scene).await.pop().unwrap();
    assert_eq!((&*queue, &*kind), ("audit-retention", "SCHEDULE_RETENTION"));
    assert_eq!(body["slot"], json!(scene.now));

    let deletes = json!({"log_ids": [log], "then": "archive_and_delete"}).to_string();
    let refused = process(&scene, "m-4", &text("BULK_ARCHIVE", &deletes)).await.unwrap_err();
    let Failure::Reject(reason) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.code, MALFORMED_MESSAGE);
    assert_eq!(outbox(&scene).await.len(), 5, "nothing came of it");
}

#[tokio::test]
async fn an_unknown_type_is_a_dead_letter_at_once_with_its_reason() {
    const SOON: Duration = Duration::from_secs(60);
    let (scene, sqs) = (Scene::new().await, TestSqs::start().await);
    sqs.create(&AUDIT_LEGACY).await;
    let (queue, dlq) = (sqs.queue(AUDIT_LEGACY.name), sqs.queue(AUDIT_LEGACY.dlq));
    let ports = Ports {
        queue: Arc::clone(&queue),
        dead_letters: Arc::clone(&dlq),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let wait = Duration::from_secs(1);
    let config = EngineConfig { wait, ..EngineConfig::for_worker::<LegacyIndexWorker>() };
    let worker = Arc::new(LegacyIndexWorker::beside(&scene.worker));
    let drain = CancellationToken::new();
    let running = tokio::spawn(Engine::new(worker, ports, config).unwrap().run(drain.clone()));
    let body = text("SHRED", "{}");
    queue.send(&[Outgoing { body, ..Outgoing::default() }]).await.unwrap().remove(0).unwrap();

    let receive = ReceiveRequest { max: 1, wait, lease: SOON };
    let letter = eventually(SOON, "dead-lettered", async || {
        dlq.receive(receive).await.unwrap().pop().map(|received| received.body)
    })
    .await;
    let letter = DeadLetter::from_json(&letter).unwrap();
    assert_eq!(letter.code, UNKNOWN_TYPE.code);
    assert!(letter.message.contains("SHRED"), "{}", letter.message);
    assert!(letter.body.contains("SHRED"), "{}", letter.body);
    drain.cancel();
    running.await.unwrap();
}

/// Counters by name and labels.
#[derive(Default)]
struct Counted(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn every_legacy_message_is_counted_by_type_and_outcome() {
    let scene = Scene::new().await;
    let counted = Counted::default();
    let _here = metrics::set_default_local_recorder(&counted);
    let event = r#"{"actor":{"type":"user","id":"u1"},"action":"order.paid"}"#;
    let policy = json!({"policy_id": Uuid::from_u128(5)}).to_string();
    for (id, kind, data) in [
        ("m-1", "INDEX", event),
        ("m-2", "INDEX", "{}"),
        ("m-3", "EVALUATE_POLICY", &*policy),
        ("m-4", "SHRED", "{}"),
        ("m-5", "shred/../", "{}"),
    ] {
        process(&scene, id, &text(kind, data)).await.ok();
    }
    sqlx::raw_sql("DROP TABLE outbox CASCADE").execute(scene.owner().pool()).await.unwrap();
    let later = process(&scene, "m-6", &text("EVALUATE_POLICY", &policy)).await;
    assert!(!matches!(later, Ok(_) | Err(Failure::Reject(_))), "it is not lost: {later:?}");
    let counted = counted.0.lock().unwrap();
    let legacy: BTreeMap<&str, u64> = counted
        .iter()
        .filter_map(|(name, count)| {
            Some((name.strip_prefix(MESSAGES_TOTAL)?.trim(), count.load(Ordering::Relaxed)))
        })
        .collect();
    let expected = [
        ("EVALUATE_POLICY forwarded", 1),
        ("EVALUATE_POLICY later", 1),
        ("INDEX handled", 1),
        ("INDEX rejected", 1),
        ("UNKNOWN rejected", 2),
    ];
    assert_eq!(legacy, BTreeMap::from(expected));
}
