//! Bare messages of the legacy queue: believed for listed tenants only, the same log each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::workers::{IndexWorker, LegacyIndexWorker};
use chassis::Companion;
use contracts::catalogue::AUDIT_LEGACY;
use contracts::envelope::Body;
use contracts::errors::{FORBIDDEN, MALFORMED_MESSAGE};
use contracts::legacy::{BareMessage, legacy_id};
use contracts::message::{Bare, Message};
use contracts::{Envelope, Header, LogId};
use queue_core::{
    DeadLetter, Delivery, Engine, EngineConfig, Failure, MemoryAttempts, Outgoing, Ports, Reason,
    RejectedPart, SystemClock, Worker,
};
use sinks::search::Query;
use testkit::{TestSqs, eventually};
use tokio_util::sync::CancellationToken;

use crate::scene::{Scene, first_attempt, tagged, tenant};

const EVENT: &str = r#"{"actor":{"type":"user","id":"u1"},"action":"order.paid"}"#;

fn bare(scene: &Scene, id: &str, text: &str) -> (Header, BareMessage) {
    let from = Bare { message_id: id, sent_at: scene.now };
    BareMessage::decode_bare(text, &from).unwrap().unwrap()
}

pub(super) async fn process(
    scene: &Scene,
    id: &str,
    text: &str,
) -> Result<Vec<RejectedPart>, Failure> {
    let worker = LegacyIndexWorker::beside(&scene.worker);
    let (header, message) = bare(scene, id, text);
    worker.process(&header, &message, first_attempt(scene.now)).await
}

pub(super) fn text(kind: &str, data: &str) -> String {
    format!(r#"{{"type":"{kind}","tenant_id":"legacy-shop","data":{data}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_bare_message_is_one_log() {
    let scene = Scene::new().await;
    let shop = tenant("legacy-shop");
    for _ in 0..2 {
        assert!(process(&scene, "m-1", &text("INDEX", EVENT)).await.unwrap().is_empty());
    }
    assert_eq!(scene.stored(&shop).await, [LogId(legacy_id("m-1"))]);
    assert_eq!(scene.found(&shop, &Query::default()).await.len(), 1);
}

/// Stores the first message and rejects it all the same, as a search engine may.
struct StoresAndRejects {
    inner: LegacyIndexWorker,
    rejected: AtomicBool,
}

impl Worker for StoresAndRejects {
    const NAME: &'static str = "index-worker";
    type Message = BareMessage;

    async fn handle(&self, delivery: Delivery<BareMessage>) -> Result<(), Failure> {
        self.inner.handle(delivery).await?;
        if self.rejected.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let message = "as told".to_owned();
        Err(Failure::Reject(Reason { code: MALFORMED_MESSAGE, message }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_message_stored_rejected_and_redriven_is_one_log() {
    const SOON: Duration = Duration::from_secs(60);
    let (scene, sqs) = (Scene::new().await, TestSqs::start().await);
    sqs.create(&AUDIT_LEGACY).await;
    let (queue, dlq) = (sqs.queue(AUDIT_LEGACY.name), sqs.queue(AUDIT_LEGACY.dlq));
    let inner = LegacyIndexWorker::beside(&scene.worker);
    let worker = Arc::new(StoresAndRejects { inner, rejected: AtomicBool::new(false) });
    let ports = Ports {
        queue: Arc::clone(&queue),
        dead_letters: Arc::clone(&dlq),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let wait = Duration::from_secs(1);
    let config = EngineConfig { wait, ..EngineConfig::for_worker::<StoresAndRejects>() };
    let engine = Engine::new(worker, ports, config).unwrap();
    let (status, drain) = (engine.status(), CancellationToken::new());
    let running = tokio::spawn(engine.run(drain.clone()));
    let send = async |body: String| {
        queue.send(&[Outgoing { body, ..Outgoing::default() }]).await.unwrap().remove(0).unwrap();
    };

    send(text("INDEX", EVENT)).await;
    let receive = queue_core::driver::ReceiveRequest { max: 1, wait, lease: SOON };
    let letter = eventually(SOON, "dead-lettered", async || {
        dlq.receive(receive).await.unwrap().pop().map(|received| received.body)
    })
    .await;
    let shop = tenant("legacy-shop");
    let stored = scene.stored(&shop).await;
    assert_eq!(stored.len(), 1, "it had been stored");

    send(DeadLetter::from_json(&letter).unwrap().body).await;
    eventually(SOON, "handled", async || (status.snapshot().totals.settled == 1).then_some(()))
        .await;
    assert_eq!(scene.stored(&shop).await, stored, "one row");
    assert_eq!(scene.found(&shop, &Query::default()).await, stored);
    drain.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_not_listed_is_rejected() {
    let scene = Scene::new().await;
    let text = text("INDEX", EVENT).replace("legacy-shop", "acme");
    let failure = process(&scene, "m-1", &text).await.unwrap_err();
    let Failure::Reject(reason) = failure else { panic!("{failure:?}") };
    assert_eq!(reason.code, FORBIDDEN);
    assert!(reason.message.contains("LEGACY_TENANTS"), "{}", reason.message);
    assert!(scene.stored(&tenant("acme")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_of_a_legacy_bulk_can_be_redriven_alone() {
    let scene = Scene::new().await;
    let shop = tenant("legacy-shop");
    let data = format!(r#"[{EVENT},{{"actor":7}},{EVENT}]"#);
    let parts = process(&scene, "m-2", &text("BULK_INDEX", &data)).await.unwrap();
    assert_eq!(scene.stored(&shop).await.len(), 2);
    assert_eq!(parts.len(), 1);
    assert_eq!((parts[0].index, parts[0].reason.code), (1, MALFORMED_MESSAGE));
    assert!(parts[0].reason.message.contains("/actor"), "{}", parts[0].reason.message);

    let envelope = Envelope::from_json(&parts[0].envelope_json).unwrap();
    let Body::Inline(body) = envelope.body else { panic!("inline") };
    let message = BareMessage::decode(&envelope.header, &body).unwrap();
    assert_eq!(message.data.get(), r#"{"actor":7}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_changes_reach_logs_whose_ids_carry_no_time() {
    let scene = Scene::new().await;
    let shop = tenant("legacy-shop");
    process(&scene, "m-3", &text("INDEX", EVENT)).await.unwrap();
    let id = LogId(legacy_id("m-3"));
    let with_id = |text: String| text.replacen('{', &format!(r#"{{"log_id":"{id}","#), 1);
    let update = with_id(text("UPDATE", r#"{"tags":["seen"]}"#));
    process(&scene, "m-4", &update).await.unwrap();
    assert_eq!(scene.found(&shop, &tagged("seen")).await, [id]);
    process(&scene, "m-5", &with_id(text("DELETE", "{}"))).await.unwrap();
    assert!(!scene.stored(&shop).await.contains(&id));
    assert!(scene.found(&shop, &tagged("seen")).await.is_empty());

    let without = process(&scene, "m-6", &text("UPDATE", "{}")).await.unwrap_err();
    assert!(matches!(without, Failure::Reject(_)), "{without:?}");
}

#[test]
fn the_legacy_lane_stands_beside_the_index_worker() {
    fn companion<C: Companion<Lead = IndexWorker>>() {}
    companion::<LegacyIndexWorker>();
    assert_eq!(<BareMessage as Message>::QUEUE.env, "AWS_SQS_QUEUE_URL");
}
