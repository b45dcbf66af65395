//! The outbox between many: groups take turns, and a relay that sends holds no connection.

use std::sync::Arc;
use std::time::Duration;

use contracts::QueueSpec;
use contracts::catalogue::{AUDIT_ARCHIVE, AUDIT_CLEANUP, AUDIT_INDEX};
use database::outbox::{Passed, Relay, RelayLimits};
use database::sqlx::{self, PgPool};
use database::{Database, Role};
use queue_core::{Outgoing, SendLimits, Sender};
use testkit::{QueueDouble, QueueMood, TestDatabase, eventually};

use crate::outbox::{FIFO, draft, numbers, put, relay};

fn of(sent: &[Outgoing], group: &str) -> usize {
    sent.iter().filter(|outgoing| outgoing.group.as_deref() == Some(group)).count()
}

/// As many more messages of the group as there are already, times `times`.
async fn more(pool: &PgPool, times: i32) {
    let copy = "INSERT INTO outbox (queue, tenant, grp, envelope, frame)
                SELECT queue, tenant, grp, envelope, frame FROM outbox, generate_series(1, $1)";
    sqlx::query(copy).bind(times).execute(pool).await.expect("copies");
}

#[tokio::test]
async fn five_thousand_messages_of_one_tenant_keep_none_of_another_waiting() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone());
    put(worker.pool(), [draft(&AUDIT_INDEX, 1).in_group("large")]).await;
    more(worker.pool(), 4_999).await;
    put(worker.pool(), (11..=15).map(|n| draft(&AUDIT_INDEX, n).in_group("small"))).await;
    let first = relay.pass().await.expect("passes");
    assert_eq!(first, Passed { sent: 100, left: 0, more: true });
    let sent = queue.sent();
    assert_eq!((of(&sent, "small"), of(&sent, "large")), (5, 95));
    let small: Vec<u128> = numbers(&sent).into_iter().filter(|n| *n > 10).collect();
    assert_eq!(small, [11, 12, 13, 14, 15], "in their order");
    relay.flush().await;
    assert_eq!(queue.sent().len(), 5_005);
}

/// More groups than a page has room for, and groups of several pages, on both kinds of queue.
#[tokio::test]
async fn every_group_has_its_turn_before_any_has_a_second() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    for spec in [&AUDIT_INDEX, &FIFO] {
        let queue = Arc::new(QueueDouble::default());
        let limits = RelayLimits { page_rows: 2, ..RelayLimits::default() };
        let relay = relay(&worker, spec, queue.clone()).limited(limits);
        // 10 to 14 in a, then one each in b to e.
        let group = |n: u32| if n < 15 { "a" } else { ["b", "c", "d", "e"][n as usize - 15] };
        put(worker.pool(), (10..19).map(|n| draft(spec, n).in_group(group(n)))).await;
        let mut pages = Vec::new();
        for _ in 0..10 {
            let before = queue.sent().len();
            let passed = relay.pass().await.expect("passes");
            let mut page = numbers(&queue.sent()[before..]);
            page.sort_unstable();
            pages.extend((!page.is_empty()).then_some(page));
            if !passed.more {
                break;
            }
        }
        let expected: [&[u128]; 5] = [&[10, 15], &[16, 17], &[18], &[11, 12], &[13, 14]];
        assert_eq!(pages, expected, "{}", spec.key);
    }
}

/// A relay of three queues that do not answer.
fn three(worker: &Database, queue: &Arc<QueueDouble>) -> Relay {
    let route = |spec: &'static QueueSpec| {
        let deadline = Duration::from_secs(30);
        let limits = SendLimits { attempts: 1, deadline, ..SendLimits::default() };
        (spec, Sender::new(queue.clone(), limits))
    };
    Relay::new(worker, vec![route(&AUDIT_INDEX), route(&AUDIT_ARCHIVE), route(&AUDIT_CLEANUP)])
}

#[tokio::test]
async fn a_relay_that_sends_holds_no_connection() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let owner = database.connect(Role::Owner);
    let queue = Arc::new(QueueDouble::default());
    queue.mood(QueueMood::Hangs);
    let all = [&AUDIT_INDEX, &AUDIT_ARCHIVE, &AUDIT_CLEANUP];
    put(worker.pool(), (1..).zip(all).map(|(n, spec)| draft(spec, n))).await;
    let relay = three(&worker, &queue);
    let sending = tokio::spawn(async move { relay.pass().await });
    let held = "SELECT count(*) FROM outbox_queues WHERE not_before > clock_timestamp()";
    eventually(Duration::from_secs(60), "it has the three queues, and no connection", async || {
        let held: i64 = sqlx::query_scalar(held).fetch_one(owner.pool()).await.expect("asks");
        let pool = worker.pool();
        (held == 3 && pool.size() as usize == pool.num_idle()).then_some(())
    })
    .await;
    queue.mood(QueueMood::Takes);
    let passed = sending.await.expect("it goes on").expect("passes");
    assert_eq!(passed, Passed { sent: 3, left: 0, more: false });
}

/// Who was too long in sending has lost the queue: it takes out what it sent and nothing else.
#[tokio::test]
async fn a_send_ends_before_the_queue_is_anothers() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let queue = Arc::new(QueueDouble::default());
    queue.mood(QueueMood::Hangs);
    put(worker.pool(), [draft(&AUDIT_INDEX, 1)]).await;
    let limits = RelayLimits { lease: Duration::from_secs(2), ..RelayLimits::default() };
    let relay = relay(&worker, &AUDIT_INDEX, queue.clone()).limited(limits);
    let passed = relay.pass().await.expect("passes");
    assert_eq!(passed, Passed { sent: 0, left: 1, more: false });
    let state = "SELECT failures, (SELECT count(*) FROM outbox) FROM outbox_queues";
    let state: (i32, i64) = sqlx::query_as(state).fetch_one(worker.pool()).await.expect("asks");
    assert_eq!(state, (1, 1), "it counts as a queue that does not answer");
}
