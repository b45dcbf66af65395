//! Late, repeated, reordered and concurrent messages of all four types end in the state that the
//! accepted requests describe, whatever way they came.

use std::collections::BTreeMap;

use audit::workers::IndexWorker;
use contracts::audit::{BulkIndex, IndexMessage, Update};
use contracts::{Header, LogId, Tenant};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use queue_core::Failure;
use sinks::search::Query;

use crate::scene::{Given, Scene, delete, first_attempt, header, log, tagged, tenant, update};

/// Logs per case.
const LOGS: u8 = 3;
/// A change that comes before its log is looked at again; more rounds than this is a message that
/// never ends.
const ROUNDS_MAX: usize = 50;

/// What the API accepted for one log, besides the log itself.
#[derive(Clone, Debug)]
struct Plan {
    /// Each an `UPDATE`: tags or not, annotation or not.
    updates: Vec<(bool, bool)>,
    /// Number of `DELETE`s.
    deletes: usize,
}

/// One delivery: which of the case's messages. The list holds every message at least once.
type Order = Vec<prop::sample::Index>;

fn plan() -> impl Strategy<Value = Plan> {
    let updates = prop::collection::vec(any::<(bool, bool)>(), 0..4);
    (updates, prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2)])
        .prop_map(|(updates, deletes)| Plan { updates, deletes })
}

#[derive(Clone, Debug)]
struct Case {
    plans: Vec<Plan>,
    /// Whether the logs travel in one message, too.
    bulk: bool,
    /// Shuffles the messages.
    order: Order,
    /// More deliveries of some of them.
    again: Order,
    /// Deliveries at a time.
    at_once: usize,
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(plan(), usize::from(LOGS)),
        any::<bool>(),
        prop::collection::vec(any::<prop::sample::Index>(), 32),
        prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        1_usize..6,
    )
        .prop_map(|(plans, bulk, order, again, at_once)| Case {
            plans,
            bulk,
            order,
            again,
            at_once,
        })
}

type Message = (Header, IndexMessage);

struct Accepted {
    logs: Vec<Given>,
    messages: Vec<Message>,
    updates: BTreeMap<LogId, Vec<Update>>,
    deletes: BTreeMap<LogId, usize>,
}

fn accepted(case: &Case, tenant: &Tenant, now: chrono::DateTime<chrono::Utc>) -> Accepted {
    let logs: Vec<Given> = (0..LOGS).map(|n| log(tenant, now, n)).collect();
    let envelope = || header(tenant, now);
    let mut messages: Vec<Message> =
        logs.iter().map(|given| (envelope(), IndexMessage::Index(given.item.clone()))).collect();
    if case.bulk {
        let items = logs.iter().map(|given| given.item.clone()).collect();
        messages.push((envelope(), IndexMessage::BulkIndex(BulkIndex { items })));
    }
    let (mut updates, mut deletes) = (BTreeMap::new(), BTreeMap::new());
    for (given, plan) in logs.iter().zip(&case.plans) {
        let mut of_log = Vec::new();
        for (n, (tags, annotation)) in plan.updates.iter().enumerate() {
            let tag = format!("tag-{n}");
            let text = format!("note-{n}");
            let tags = tags.then_some([tag.as_str()]);
            let mut change =
                update(given, tags.as_ref().map(|t| &t[..]), annotation.then_some(&*text));
            change.recorded_at += chrono::TimeDelta::milliseconds(n.try_into().unwrap());
            messages.push((envelope(), IndexMessage::Update(change.clone())));
            of_log.push(change);
        }
        updates.insert(given.id, of_log);
        deletes.insert(given.id, plan.deletes);
        messages.extend((0..plan.deletes).map(|_| (envelope(), delete(given))));
    }
    Accepted { logs, messages, updates, deletes }
}

/// Every message, shuffled, with some of them more than once.
fn deliveries(case: &Case, messages: &[Message]) -> Vec<Message> {
    let mut left: Vec<Message> = messages.to_vec();
    let mut out = Vec::new();
    for pick in case.order.iter().cycle() {
        if left.is_empty() {
            break;
        }
        out.push(left.remove(pick.index(left.len())));
    }
    for pick in &case.again {
        let again = out[pick.index(out.len())].clone();
        out.insert(pick.index(out.len() + 1), again);
    }
    out
}

/// Delivers until every message is handled; what is snoozed comes again at the end.
async fn deliver(worker: &IndexWorker, mut queue: Vec<Message>, at_once: usize) {
    for _ in 0..ROUNDS_MAX {
        let mut snoozed = Vec::new();
        while !queue.is_empty() {
            let now: Vec<Message> = queue.drain(..at_once.min(queue.len())).collect();
            let runs = now.iter().map(|(header, message)| {
                worker.process(header, message.clone(), first_attempt(header.recorded_at))
            });
            let results = futures_util::future::join_all(runs).await;
            for (message, result) in now.into_iter().zip(results) {
                match result {
                    Ok(parts) => assert!(parts.is_empty(), "{parts:?}"),
                    Err(Failure::Snooze(_)) => snoozed.push(message),
                    Err(failure) => panic!("{failure:?}"),
                }
            }
        }
        if snoozed.is_empty() {
            return;
        }
        queue = snoozed;
    }
    panic!("messages that are snoozed for ever: {queue:?}");
}

async fn check(scene: &Scene, tenant: &Tenant, accepted: &Accepted) {
    let mut connection = scene.database.pool().acquire().await.unwrap();
    let mut searchable = scene.found(tenant, &Query::default()).await;
    for given in &accepted.logs {
        let stored = audit::store::find(&mut connection, tenant, given.id).await.unwrap();
        let deletes = accepted.deletes[&given.id];
        let place = searchable.iter().position(|id| *id == given.id);
        if deletes > 0 {
            assert_eq!(stored, None, "an erased log is gone");
            assert_eq!(place, None, "an erased log is not found");
            let revisions: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM log_revisions WHERE log_id = $1 AND tenant = $2",
            )
            .bind(given.id.0)
            .bind(tenant.as_str())
            .fetch_one(&mut *connection)
            .await
            .unwrap();
            assert_eq!(revisions, 0, "its annotations are gone, too");
            continue;
        }
        searchable.remove(place.expect("a log that was not erased is found"));
        let stored = stored.expect("a log that was not erased is stored");
        let updates = &accepted.updates[&given.id];
        assert_eq!(stored.record, given.item.record.get().as_bytes());
        assert_eq!(stored.revision, i64::try_from(updates.len()).unwrap());
        let tags = updates.iter().rev().find_map(|update| update.tags.clone());
        let annotation = updates.iter().rev().find_map(|update| update.annotation.clone());
        assert_eq!(stored.tags, tags, "the newest by acceptance");
        assert_eq!(stored.annotation, annotation, "the newest by acceptance");
        if let Some(tags) = tags {
            assert!(scene.found(tenant, &tagged(&tags[0])).await.contains(&given.id));
        }
        if let Some(text) = annotation {
            let words = Query::parse_q(&format!("\"{text}\"")).unwrap();
            let query = Query { words, ..Query::default() };
            assert!(scene.found(tenant, &query).await.contains(&given.id));
        }
    }
    let asked: usize = accepted.deletes.values().sum();
    let entries = Query { action: Some("flotilla.log.erased".into()), ..Query::default() };
    assert_eq!(scene.found(tenant, &entries).await.len(), asked, "one entry per request");
    assert_eq!(searchable.len(), asked, "nothing is found but logs and entries");
    let of_system: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM logs WHERE tenant = 'system' AND convert_from(record, 'UTF8') LIKE $1",
    )
    .bind(format!("%\"tenant\":\"{tenant}\"%"))
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert_eq!(usize::try_from(of_system).unwrap(), asked, "the system knows of each");
}

#[test]
fn messages_in_any_order_and_number_end_in_the_same_state() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scene = runtime.block_on(Scene::new());
    let cases = std::sync::atomic::AtomicU32::new(0);
    let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
    runner
        .run(&case(), |case| {
            let count = cases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let tenant = tenant(&format!("case-{count}"));
            runtime.block_on(async {
                let accepted = accepted(&case, &tenant, scene.now);
                let queue = deliveries(&case, &accepted.messages);
                deliver(&scene.worker, queue, case.at_once).await;
                check(&scene, &tenant, &accepted).await;
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(async { drop(scene) });
}
