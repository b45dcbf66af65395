//! The outbox: what commits is sent, what rolls back is not; nothing is lost to a queue that is down,
//! refuses or loses its answer; order per group holds, whatever the number of relays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use contracts::catalogue::{AUDIT_INDEX, QueueKind};
use contracts::{Body, Envelope, EnvelopeId, Header, QueueSpec};
use database::outbox::{self, Draft, Passed, PutError, Relay, RelayLimits};
use database::sqlx::PgPool;
use database::{Database, Role};
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest, Received};
use queue_core::{Driver, DriverError, EntryError, Sender};
use testkit::{QueueDouble, QueueMood, TestDatabase, eventually};
use tokio_util::sync::CancellationToken;

use crate::{now, tenant};

pub(crate) static FIFO: QueueSpec =
    QueueSpec { key: "ordered", name: "ordered.fifo", kind: QueueKind::Fifo, ..AUDIT_INDEX };

pub(crate) fn draft(spec: &'static QueueSpec, n: u32) -> Draft {
    Draft::of(spec, envelope(n))
}

fn envelope(n: u32) -> Envelope {
    let header = Header {
        v: 1,
        kind: "TEST".into(),
        id: EnvelopeId(uuid::Uuid::from_u128(u128::from(n))),
        tenant: tenant("acme"),
        recorded_at: now(),
        correlation_id: "c-1".into(),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    };
    let body = serde_json::value::to_raw_value(&serde_json::json!({ "n": n })).expect("a body");
    Envelope { header, body: Body::Inline(body) }
}

pub(crate) async fn put(pool: &PgPool, drafts: impl IntoIterator<Item = Draft>) {
    let mut transaction = pool.begin().await.expect("begins");
    for draft in drafts {
        outbox::put(&mut transaction, &draft).await.expect("puts");
    }
    transaction.commit().await.expect("commits");
}

/// The numbers of what was sent, in order.
pub(crate) fn numbers(sent: &[Outgoing]) -> Vec<u128> {
    let id = |text: &str| Envelope::from_json(text).expect("an envelope").header.id.0.as_u128();
    sent.iter().map(|outgoing| id(&outgoing.body)).collect()
}

pub(crate) fn relay(worker: &Database, spec: &'static QueueSpec, queue: Arc<dyn Driver>) -> Relay {
    // One attempt, at once: the double's mood is what is looked at.
    let limits = queue_core::SendLimits {
        attempts: 1,
        deadline: Duration::from_secs(30),
        batches_in_flight_max: 1,
        ..queue_core::SendLimits::default()
    };
    Relay::new(worker, vec![(spec, Sender::new(queue, limits))])
}

/// Waits until the queue may be asked again, and passes.
async fn pass_when_due(relay: &Relay) -> Passed {
    eventually(Duration::from_secs(60), "the queue is asked again", async || {
        let passed = relay.pass().await.expect("passes");
        (passed != Passed::default()).then_some(passed)
    })
    .await
}

#[tokio::test]
async fn what_commits_is_sent_in_order_and_what_rolls_back_is_not() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone());
    put(worker.pool(), (1..=25).map(|n| draft(&AUDIT_INDEX, n))).await;
    let mut undone = worker.pool().begin().await.expect("begins");
    outbox::put(&mut undone, &draft(&AUDIT_INDEX, 99)).await.expect("puts");
    undone.rollback().await.expect("rolls back");

    let figures = relay.figures().await.expect("counts");
    assert_eq!((figures[0].depth, figures[0].refused), (25, 0));
    assert!(figures[0].oldest_age_secs >= 0.0);
    let passed = relay.pass().await.expect("passes");
    assert_eq!(passed, Passed { sent: 25, left: 0, more: false });
    let sent = queue.sent();
    assert_eq!(numbers(&sent), (1..=25).collect::<Vec<_>>());
    assert_eq!(sent[0].group.as_deref(), Some("acme"));
    assert!(sent[0].attributes.contains(&("type".to_owned(), "TEST".to_owned())));
    assert_eq!(relay.pass().await.expect("passes"), Passed::default());
    assert_eq!(relay.figures().await.expect("counts")[0].depth, 0);
}

#[tokio::test]
async fn an_api_puts_for_its_own_tenant_alone() {
    let database = TestDatabase::new().await;
    let api = database.connect(Role::Api);
    let mut own = api.tenant(&tenant("acme")).await.expect("begins");
    outbox::put(&mut own, &draft(&AUDIT_INDEX, 1)).await.expect("puts");
    let mut foreign = api.tenant(&tenant("globex")).await.expect("begins");
    let refused = outbox::put(&mut foreign, &draft(&AUDIT_INDEX, 2)).await;
    assert!(matches!(refused, Err(PutError::Database(_))), "{refused:?}");
}

#[tokio::test]
async fn a_lost_answer_sends_again_with_the_same_id() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone());
    put(worker.pool(), [draft(&AUDIT_INDEX, 7)]).await;
    for mood in [QueueMood::Refuses, QueueMood::TakesAndLosesTheAnswer] {
        queue.mood(mood);
        assert_eq!(pass_when_due(&relay).await, Passed { sent: 0, left: 1, more: false });
        assert_eq!(relay.figures().await.expect("counts")[0].depth, 1, "{mood:?}");
    }
    queue.mood(QueueMood::Takes);
    assert_eq!(pass_when_due(&relay).await.sent, 1);
    assert_eq!(numbers(&queue.sent()), [7, 7]);
    assert_eq!(relay.figures().await.expect("counts")[0].depth, 0);
}

/// A relay that dies between the send and the mark: another has the queue when its time is over.
#[tokio::test]
async fn a_death_between_send_and_mark_sends_again() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let other = relay(&worker, &AUDIT_INDEX, queue.clone());
    assert_eq!(other.pass().await.expect("passes"), Passed::default());
    put(worker.pool(), [draft(&AUDIT_INDEX, 1), draft(&AUDIT_INDEX, 2)]).await;
    queue.mood(QueueMood::Hangs);
    let limits = RelayLimits { lease: Duration::from_secs(4), ..RelayLimits::default() };
    let dying = relay(&worker, &AUDIT_INDEX, queue.clone()).limited(limits);
    // Again and again: our own look below may be what it meets first.
    let task = tokio::spawn(async move { while dying.pass().await.is_ok() {} });
    // It holds the queue while it sends: the other has nothing to do, and does not wait for it.
    eventually(Duration::from_secs(60), "the first has the queue", async || {
        let held = "SELECT coalesce(not_before > clock_timestamp(), false) FROM outbox_queues";
        let held: bool =
            database::sqlx::query_scalar(held).fetch_one(worker.pool()).await.expect("asks");
        held.then_some(())
    })
    .await;
    assert_eq!(other.pass().await.expect("passes"), Passed::default());
    task.abort();
    assert!(task.await.is_err());
    queue.mood(QueueMood::Takes);
    assert_eq!(pass_when_due(&other).await.sent, 2);
    let sent = numbers(&queue.sent());
    assert_eq!(sent[sent.len() - 2..], [1, 2], "{sent:?}");
}

/// Refuses what it was told to, in whatever batch it is.
#[derive(Debug, Default)]
struct Picky {
    refuses: Mutex<Vec<u128>>,
    sent: Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl Driver for Picky {
    fn queue(&self) -> &'static str {
        "picky"
    }
    async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }
    async fn settle(&self, _: &[String]) -> Result<EntryResults, DriverError> {
        Ok(Vec::new())
    }
    async fn extend(&self, _: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        Ok(Vec::new())
    }
    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let refuses = self.refuses.lock().expect("a lock");
        let mut sent = self.sent.lock().expect("a lock");
        let take = |entry: &Outgoing| {
            if refuses.contains(&numbers(std::slice::from_ref(entry))[0]) {
                return Err(EntryError::Refused("not this one".into()));
            }
            sent.push(entry.clone());
            Ok(())
        };
        Ok(entries.iter().map(take).collect())
    }
    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

#[tokio::test]
async fn a_refused_message_stays_holds_its_group_and_nobody_else() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(Picky::default());
    queue.refuses.lock().expect("a lock").push(2);
    let group = |n: u32| if n.is_multiple_of(2) { "even" } else { "odd" };
    put(worker.pool(), (1..=6).map(|n| draft(&FIFO, n).in_group(group(n)))).await;
    let relay = relay(&worker, &FIFO, queue.clone());
    assert_eq!(relay.pass().await.expect("passes").sent, 3);
    let mut sent = numbers(&queue.sent.lock().expect("a lock"));
    sent.sort_unstable();
    assert_eq!(sent, [1, 3, 5]);
    // Also not in a later pass: those behind it wait with it, and another group does not.
    put(worker.pool(), [draft(&FIFO, 7).in_group("odd"), draft(&FIFO, 8).in_group("even")]).await;
    assert_eq!(relay.pass().await.expect("passes").sent, 1);
    let figures = relay.figures().await.expect("counts");
    assert_eq!((figures[0].depth, figures[0].refused), (4, 1));
    // The queue takes it after all.
    queue.refuses.lock().expect("a lock").clear();
    database::sqlx::query("UPDATE outbox SET not_before = clock_timestamp()")
        .execute(worker.pool())
        .await
        .expect("comes due");
    assert_eq!(relay.pass().await.expect("passes").sent, 4);
    let sent = queue.sent.lock().expect("a lock").clone();
    assert_eq!(numbers(&sent)[4..], [2, 4, 6, 8]);
    assert!(sent.iter().all(|one| one.deduplication.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_relays_each_message_leaves_once_and_each_group_in_order() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let limits = RelayLimits { page_rows: 7, ..RelayLimits::default() };
    let mut relays = tokio::task::JoinSet::new();
    let drain = CancellationToken::new();
    for _ in 0..3 {
        let relay = relay(&worker, &FIFO, queue.clone()).limited(limits);
        relays.spawn({
            let drain = drain.clone();
            async move { relay.run(drain).await }
        });
    }
    let group = |n: u32| format!("g{}", n % 5);
    for n in 0..20 {
        let ten = n * 10..(n + 1) * 10;
        put(worker.pool(), ten.map(|n| draft(&FIFO, n).in_group(group(n)))).await;
    }
    eventually(Duration::from_secs(90), "all are sent", async || {
        (queue.sent().len() >= 200).then_some(())
    })
    .await;
    drain.cancel();
    relays.join_all().await;
    let mut groups: BTreeMap<u128, Vec<u128>> = BTreeMap::new();
    for n in numbers(&queue.sent()) {
        groups.entry(n % 5).or_default().push(n);
    }
    for (group, sent) in groups {
        assert_eq!(sent, (0..40).map(|n| n * 5 + group).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_drain_sends_what_is_left() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let never = RelayLimits { sweep: Duration::from_secs(3_600), ..RelayLimits::default() };
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone()).limited(never);
    let drain = CancellationToken::new();
    put(worker.pool(), [draft(&AUDIT_INDEX, 1)]).await;
    let running = tokio::spawn({
        let drain = drain.clone();
        async move { relay.run(drain).await }
    });
    eventually(Duration::from_secs(60), "it is sent", async || {
        (numbers(&queue.sent()) == [1]).then_some(())
    })
    .await;
    // It looks no more before the drain.
    put(worker.pool(), [draft(&AUDIT_INDEX, 2)]).await;
    drain.cancel();
    running.await.expect("drains");
    assert_eq!(numbers(&queue.sent()), [1, 2]);
}

#[tokio::test]
async fn a_page_is_bounded_by_bytes_and_what_no_reader_takes_is_not_put() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let small = RelayLimits { page_bytes: 1, ..RelayLimits::default() };
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone()).limited(small);
    put(worker.pool(), [draft(&AUDIT_INDEX, 1), draft(&AUDIT_INDEX, 2)]).await;
    assert_eq!(relay.pass().await.expect("passes"), Passed { sent: 1, left: 0, more: true });
    relay.flush().await;
    assert_eq!(numbers(&queue.sent()), [1, 2]);

    let mut transaction = worker.pool().begin().await.expect("begins");
    let text = format!("\"{}\"", "x".repeat(outbox::ENVELOPE_BYTES_MAX));
    let body = serde_json::value::RawValue::from_string(text).expect("a body");
    let Envelope { header, .. } = envelope(3);
    let large = Draft::of(&AUDIT_INDEX, Envelope { header, body: Body::Inline(body) });
    let refused = outbox::put(&mut transaction, &large).await;
    assert!(matches!(refused, Err(PutError::TooLarge(_))), "{refused:?}");
    // The transaction is as it was.
    outbox::put(&mut transaction, &draft(&AUDIT_INDEX, 4)).await.expect("puts");
}
