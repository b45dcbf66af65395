//! Parking: what comes after a rejected message waits, in order, whatever crashes, until an operator
//! decides.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::park::{Decision, EntryState, MemoryParking, ParkDesk, ParkFigures, ParkLimits};
use queue_core::{DriverError, EntryError, Failure, Reason};

use super::rig::{FifoRig, ORDERS};
use super::store::{self, Store};
use crate::broker_driver::{Fault, Kind};
use crate::rig::Running;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn never() -> Failure {
    Failure::Reject(Reason { code: errors::REJECTED_BY_STORE, message: "never".into() })
}

/// Messages that are rejected, until they are mended.
#[derive(Clone, Default)]
struct Bad(Arc<Mutex<BTreeSet<u64>>>);

impl Bad {
    fn of(ids: &[u64]) -> Self {
        Self(Arc::new(Mutex::new(ids.iter().copied().collect())))
    }

    fn mend(&self) {
        self.0.lock().unwrap().clear();
    }

    fn holds(&self, id: u64) -> bool {
        self.0.lock().unwrap().contains(&id)
    }
}

fn start(rig: &FifoRig, bad: &Bad) -> Running {
    let bad = bad.clone();
    rig.start(move |delivery| {
        let rejects = bad.holds(delivery.message.0);
        async move { if rejects { Err(never()) } else { Ok(()) } }
    })
}

impl FifoRig {
    async fn figures(&self) -> ParkFigures {
        queue_core::ParkStore::figures(&self.parking.memory, ORDERS.name).await.unwrap()
    }

    pub(super) async fn decide(&self, group: &str, decision: Decision) {
        assert!(self.parking.memory.decide(ORDERS.name, group, decision).await.unwrap());
    }

    /// Ids and states of a group's line.
    async fn line(&self, group: &str) -> Vec<(i64, EntryState)> {
        let line = self.parking.memory.line(ORDERS.name, group, 100).await.unwrap();
        line.into_iter().map(|entry| (entry.id, entry.state)).collect()
    }

    pub(super) async fn until_open(&self) {
        let started = tokio::time::Instant::now();
        while self.figures().await.groups > 0 {
            assert!(
                started.elapsed() < crate::rig::DAY,
                "never opened: {:?}",
                self.line("g1").await
            );
            tokio::time::sleep(SECOND).await;
        }
        self.until_empty().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_rejected_message_is_parked_and_other_groups_go_on() {
    let rig = FifoRig::new();
    rig.fill(1, 15);
    rig.fill(2, 15);
    let running = start(&rig, &Bad::of(&[1_002]));
    rig.until_empty().await;
    assert_eq!(rig.book.done_of(1), [1_000, 1_001]);
    assert_eq!(rig.book.done_of(2), (2_000..2_015).collect::<Vec<_>>());
    assert_eq!(rig.letters().len(), 1);
    assert_eq!(rig.figures().await, ParkFigures { groups: 1, messages: 13 });
    let groups = rig.parking.memory.groups(ORDERS.name, 10).await.unwrap();
    assert_eq!((groups[0].waiting, groups[0].rejected, groups[0].releasing), (12, 1, false));
    assert_eq!(groups[0].reason.code, "rejected-by-store");
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(running.status.snapshot().parked, ParkFigures { groups: 1, messages: 13 });
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_on_behind_what_was_rejected_and_new_messages_overtake_nothing() {
    let rig = FifoRig::new();
    rig.fill(1, 5);
    let running = start(&rig, &Bad::of(&[1_001]));
    rig.until_empty().await;
    rig.put(1_005);
    rig.until_empty().await;
    rig.decide("g1", Decision::Release).await;
    rig.put(1_006);
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_000, 1_002, 1_003, 1_004, 1_005, 1_006]);
    rig.put(1_007);
    rig.until_empty().await;
    assert_eq!(rig.book.done().last(), Some(&1_007), "the group is open");
    assert_eq!(rig.letters().len(), 1);
    running.stop().await;
}

/// Between the rejection and its letter an operator decides: the letter is sent all the same.
#[tokio::test(start_paused = true)]
async fn a_release_leaves_no_rejected_message_without_its_letter() {
    let rig = FifoRig::new();
    rig.put(1_000);
    let running = start(&rig, &Bad::of(&[1_000]));
    rig.until_empty().await;
    rig.dlq.script(|call| match call.at {
        at if at < 300 * SECOND => Fault::Refuse(DriverError::Unavailable("down".into())),
        _ => Fault::None,
    });
    rig.decide("g1", Decision::Replay).await;
    rig.until("rejected again", || rig.book.starts().len() == 2).await;
    tokio::time::sleep(20 * SECOND).await;
    rig.decide("g1", Decision::Release).await;
    assert_eq!((rig.letters().len(), rig.line("g1").await.len()), (1, 1), "not before its letter");
    rig.until_open().await;
    assert_eq!(rig.letters().len(), 2, "one for each time");
    assert_eq!(rig.book.starts().len(), 2, "and no more handling");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_begins_with_what_was_rejected() {
    let rig = FifoRig::new();
    rig.fill(1, 4);
    let bad = Bad::of(&[1_001]);
    let running = start(&rig, &bad);
    rig.until_empty().await;
    bad.mend();
    rig.decide("g1", Decision::Replay).await;
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_000, 1_001, 1_002, 1_003]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_rejected_again_parks_again_and_the_rest_keeps_its_place() {
    let rig = FifoRig::new();
    rig.fill(1, 5);
    let bad = Bad::of(&[1_001, 1_003]);
    let running = start(&rig, &bad);
    rig.until_empty().await;
    rig.decide("g1", Decision::Release).await;
    rig.until("the second is rejected", || rig.letters().len() == 2).await;
    rig.until_empty().await;
    assert_eq!(rig.book.done(), [1_000, 1_002]);
    assert_eq!(rig.figures().await.groups, 1);
    bad.mend();
    rig.decide("g1", Decision::Replay).await;
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_000, 1_002, 1_003, 1_004]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_parks_sends_no_dead_letter_and_its_message_is_the_first_released() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    let parks = AtomicUsize::new(0);
    let running = rig.start(move |delivery| {
        let first = delivery.message.0 == 1_000 && parks.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let message = "its order is not here yet".into();
            if first {
                Err(Failure::Park(Reason { code: errors::LOG_MISSING, message }))
            } else {
                Ok(())
            }
        }
    });
    rig.until_empty().await;
    assert!(rig.book.done().is_empty() && rig.letters().is_empty());
    assert_eq!(rig.figures().await.messages, 3);
    rig.decide("g1", Decision::Release).await;
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_000, 1_001, 1_002]);
    assert!(rig.letters().is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_skipped_message_goes_to_the_dead_letter_queue_and_its_group_stays_parked() {
    let rig = FifoRig::new();
    rig.fill(1, 4);
    let running = start(&rig, &Bad::of(&[1_000]));
    rig.until_empty().await;
    let line = rig.line("g1").await;
    assert!(rig.parking.memory.skip(ORDERS.name, line[2].0, "cancelled").await.unwrap());
    rig.until("its letter is sent", || rig.letters().len() == 2).await;
    let letters = rig.letters();
    let skipped = letters.iter().find(|letter| letter.code == "skipped").unwrap();
    assert_eq!((skipped.message.as_str(), skipped.group.as_deref()), ("cancelled", Some("g1")));
    assert_eq!(skipped.envelope.as_ref().unwrap().tenant, "acme");
    assert!(rig.book.done().is_empty());
    rig.decide("g1", Decision::Release).await;
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_001, 1_003]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_holds_groups_and_costs_no_attempt() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    rig.parking.down.store(true, Ordering::Relaxed);
    let running = start(&rig, &Bad::default());
    tokio::time::sleep(1_800 * SECOND).await;
    assert!(rig.book.starts().is_empty(), "nothing runs while nobody knows what is parked");
    let breakers = running.status.snapshot().breakers;
    assert!(breakers.iter().any(|b| b.sink == "parking" && b.state == "open"), "{breakers:?}");
    rig.parking.down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    assert_eq!(rig.book.done(), [1_000, 1_001, 1_002]);
    assert!(rig.book.starts().iter().all(|(_, _, failures)| *failures == 0));
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_a_group_stays_in_the_queue_and_comes_in_when_there_is_room() {
    let mut rig = FifoRig::new();
    let limits = ParkLimits { group_max: 3, queue_max: 100 };
    rig.parking = Arc::new(Store::over(MemoryParking::with_limits(limits)));
    rig.fill(1, 6);
    let running = start(&rig, &Bad::of(&[1_000]));
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(rig.figures().await.messages, 3);
    let depth = rig.queue.depth();
    assert_eq!(depth.visible + depth.in_flight, 3, "the rest waits where it is: {depth:?}");
    rig.decide("g1", Decision::Release).await;
    rig.until_open().await;
    assert_eq!(rig.book.done(), [1_001, 1_002, 1_003, 1_004, 1_005]);
    running.stop().await;
}

/// Every call of the store fails once: before its effect, and after it. Every call of the broker's
/// that writes: the same.
#[tokio::test(start_paused = true)]
async fn a_fault_at_any_step_reorders_loses_and_doubles_nothing() {
    let calls = ["parked", "admit", "park", "lettered", "handled", "due", "sent"];
    let ways = [store::Fault::Refuse, store::Fault::LoseAnswer];
    for (call, way) in calls.iter().flat_map(|call| ways.map(|way| (*call, way))) {
        for nth in 0..4 {
            let rig = FifoRig::new();
            let mut seen = 0;
            rig.parking.script(move |name| {
                seen += usize::from(name == call);
                if name == call && seen == nth + 1 { way } else { store::Fault::None }
            });
            story(&rig, &format!("store {call} {way:?} {nth}")).await;
        }
    }
    for kind in [Kind::Settle, Kind::Send, Kind::Extend] {
        for lost in [false, true] {
            for nth in 0..8 {
                let rig = FifoRig::new();
                for queue in [&rig.queue, &rig.dlq] {
                    let mut seen = 0;
                    queue.script(move |asked| {
                        seen += usize::from(asked.kind == kind);
                        let error = DriverError::Timeout("no answer".into());
                        match (asked.kind == kind && seen == nth + 1, lost) {
                            (false, _) => Fault::None,
                            (true, false) => Fault::Refuse(error),
                            (true, true) => Fault::LoseAnswer(error),
                        }
                    });
                }
                story(&rig, &format!("broker {kind:?} lost {lost} {nth}")).await;
            }
        }
    }
}

/// A delete that never goes through: the lease ends, and the message comes again.
#[tokio::test(start_paused = true)]
async fn an_unconfirmed_delete_anywhere_reorders_and_doubles_nothing() {
    for nth in 0..12 {
        let rig = FifoRig::new();
        let mut seen = 0;
        rig.queue.script(move |asked| {
            seen += usize::from(asked.kind == Kind::Settle);
            if asked.kind == Kind::Settle && seen == nth + 1 {
                Fault::Entry(0, EntryError::Refused("no".into()))
            } else {
                Fault::None
            }
        });
        story(&rig, &format!("delete {nth}")).await;
    }
}

/// Group 1 is parked by its second message, which is replayed after a fix; group 2 by its first,
/// which stays where it is; group 3 never.
async fn story(rig: &FifoRig, what: &str) {
    for group in 1..=3 {
        rig.fill(group, 4);
    }
    let bad = Bad::of(&[1_001, 2_000]);
    let running = [start(rig, &bad), start(rig, &bad)];
    rig.until_empty().await;
    bad.0.lock().unwrap().remove(&1_001);
    rig.decide("g1", Decision::Replay).await;
    rig.decide("g2", Decision::Release).await;
    rig.put(1_004);
    rig.put(2_004);
    rig.until_open().await;
    assert_eq!(rig.book.done_of(1), (1_000..1_005).collect::<Vec<_>>(), "{what}");
    assert_eq!(rig.book.done_of(2), (2_001..2_005).collect::<Vec<_>>(), "{what}");
    assert_eq!(rig.book.done_of(3), (3_000..3_004).collect::<Vec<_>>(), "{what}");
    let letters: BTreeSet<String> =
        rig.letters().iter().map(|l| l.envelope.as_ref().unwrap().id.clone()).collect();
    assert_eq!(letters.len(), 2, "{what}");
    for running in running {
        running.stop().await;
    }
}

/// A worker dies at a random moment, again and again; others go on.
#[tokio::test(start_paused = true)]
async fn workers_that_die_at_any_moment_reorder_and_lose_nothing() {
    for at in 0..60 {
        let rig = FifoRig::seeded(at);
        for group in 1..=3 {
            rig.fill(group, 6);
        }
        let bad = Bad::of(&[1_001, 2_000, 2_003]);
        let slow = |rig: &FifoRig| {
            let bad = bad.clone();
            rig.start(move |delivery| {
                let rejects = bad.holds(delivery.message.0);
                async move {
                    tokio::time::sleep(Duration::from_millis(70)).await;
                    if rejects { Err(never()) } else { Ok(()) }
                }
            })
        };
        for (queue, delay) in [(&rig.queue, 11), (&rig.dlq, 23)] {
            queue.script(move |asked| match asked.kind {
                Kind::Receive => Fault::None,
                _ => Fault::Slow(Duration::from_millis(delay)),
            });
        }
        let victim = slow(&rig);
        tokio::time::sleep(Duration::from_millis(at * 17)).await;
        victim.crash().await;
        let heir = slow(&rig);
        rig.until_empty().await;
        rig.decide("g1", Decision::Release).await;
        rig.decide("g2", Decision::Release).await;
        tokio::time::sleep(Duration::from_millis(at * 29)).await;
        heir.crash().await;
        let last = slow(&rig);
        rig.until("the other is rejected", || rig.letters().len() >= 3).await;
        rig.until_empty().await;
        rig.parking.memory.decide(ORDERS.name, "g2", Decision::Release).await.unwrap();
        rig.until_open().await;
        for (group, missing) in [(1, vec![1_001]), (2, vec![2_000, 2_003]), (3, vec![])] {
            let mut done = rig.book.done_of(group);
            // One that died between effect and delete did its work twice, in its place.
            done.dedup();
            let all: Vec<u64> = (0..6).map(|n| group * 1_000 + n).collect();
            let wanted: Vec<u64> = all.into_iter().filter(|id| !missing.contains(id)).collect();
            assert_eq!(done, wanted, "death at {at}");
        }
        last.stop().await;
    }
}
