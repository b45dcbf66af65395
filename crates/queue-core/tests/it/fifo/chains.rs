//! Order, backoff, lost leases and drains of one chain.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::{DriverError, EntryError, Failure, Reason};

use super::rig::{FifoRig, envelope};
use crate::broker_driver::{Fault, Kind};
use crate::rig::{handling, infrastructure};

const SECOND: Duration = Duration::from_secs(1);

fn members(group: u64, count: u64) -> Vec<u64> {
    (0..count).map(|n| group * 1_000 + n).collect()
}

#[tokio::test(start_paused = true)]
async fn a_group_runs_in_order_and_groups_run_beside_each_other() {
    let rig = FifoRig::new();
    for group in 1..=4 {
        rig.fill(group, 10);
    }
    let running = rig.start(|_| async {
        tokio::time::sleep(SECOND).await;
        Ok(())
    });
    rig.until_empty().await;
    for group in 1..=4 {
        assert_eq!(rig.book.done_of(group), members(group, 10));
    }
    assert_eq!(rig.book.together(), 4, "one of each group");
    assert!(rig.world.elapsed() < 14 * SECOND, "beside each other: {:?}", rig.world.elapsed());
    assert!(rig.book.starts().iter().all(|(_, receives, _)| *receives == 1), "once each");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_holds_its_own_group_only_and_the_others_of_it_cost_no_attempt() {
    let rig = FifoRig::new();
    for group in 1..=3 {
        rig.fill(group, 3);
    }
    let failures = AtomicUsize::new(0);
    let running = rig.start(move |delivery| {
        let fails = delivery.message.0 == 1_000 && failures.fetch_add(1, Ordering::Relaxed) < 2;
        async move { if fails { Err(handling("not yet")) } else { Ok(()) } }
    });
    rig.until_empty().await;
    for group in 1..=3 {
        assert_eq!(rig.book.done_of(group), members(group, 3));
    }
    assert!(rig.book.done_at(2_002) < SECOND && rig.book.done_at(3_002) < SECOND);
    let starts = rig.book.starts();
    let of = |id| starts.iter().filter(|s| s.0 == id).copied().collect::<Vec<_>>();
    assert_eq!(of(1_000), [(1_000, 1, 0), (1_000, 2, 1), (1_000, 3, 2)]);
    assert_eq!(of(1_001), [(1_001, 3, 0)], "never started before, and no failure of its own");
    let backs = rig.queue.calls(Kind::Extend);
    assert_eq!(backs.len(), 2, "one call per failure: {backs:?}");
    for back in &backs {
        assert!(back.size == 3 && back.seconds.iter().all(|s| *s == back.seconds[0]), "{back:?}");
    }
    assert_eq!(running.status.snapshot().totals.retried, 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_starts_after_the_delete_is_confirmed_and_deletes_wait_for_no_company() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    rig.queue.script(|call| match call.kind {
        Kind::Settle => Fault::Slow(3 * SECOND),
        _ => Fault::None,
    });
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    for (before, after) in [(1_000, 1_001), (1_001, 1_002)] {
        let gap = rig.book.started_at(after)[0].saturating_sub(rig.book.done_at(before));
        assert!((3 * SECOND..3 * SECOND + SECOND / 10).contains(&gap), "{gap:?}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_an_unconfirmed_delete_nothing_of_the_group_runs_in_that_chain() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    let mut refused = 0;
    rig.queue.script(move |call| match call.kind {
        Kind::Settle if refused == 0 => {
            refused += 1;
            Fault::Entry(0, EntryError::Refused("no".into()))
        }
        _ => Fault::None,
    });
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 3), "the first is not done twice, and order holds");
    let starts = rig.book.starts();
    assert_eq!(starts[1..], [(1_001, 2, 0), (1_002, 2, 0)], "they were given back unstarted");
    assert_eq!(running.status.snapshot().totals.dropped, 1);
    running.stop().await;
}

/// The lease of the second is lost while the first runs.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_of_one_that_waits_cancels_it_and_what_follows() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    rig.fill(2, 1);
    rig.queue.lose(&envelope(1_001));
    let running = rig.start(|delivery| async move {
        if delivery.attempt.receives == 1 {
            tokio::time::sleep(40 * SECOND).await;
        }
        Ok(())
    });
    rig.until_empty().await;
    assert_eq!(rig.book.done_of(1), members(1, 3));
    let starts = rig.book.starts();
    let of_group: Vec<_> = starts.iter().filter(|s| s.0 / 1_000 == 1).copied().collect();
    assert_eq!(of_group.len(), 3, "each once: {of_group:?}");
    assert!(of_group[1..].iter().all(|(_, receives, _)| *receives > 1), "not in the first chain");
    assert_eq!(rig.book.started_at(2_000).len(), 1, "the other group does not notice");
    assert_eq!(running.status.snapshot().totals.leases_lost, 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_of_the_one_that_runs_cancels_what_follows() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    rig.queue.lose(&envelope(1_000));
    let running = rig.start(|delivery| async move {
        if delivery.attempt.receives == 1 {
            tokio::time::sleep(40 * SECOND).await;
        }
        Ok(())
    });
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 3));
    let firsts = rig.book.starts();
    assert_eq!(firsts[..2], [(1_000, 1, 0), (1_000, 2, 0)], "cancelled, then again from the first");
    assert!(firsts[2..].iter().all(|(_, receives, _)| *receives == 2), "{firsts:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_back_what_waits_and_lets_the_first_finish() {
    let rig = FifoRig::new();
    rig.fill(1, 4);
    let running = rig.start(|_| async {
        tokio::time::sleep(30 * SECOND).await;
        Ok(())
    });
    rig.until("the first runs", || rig.book.starts().len() == 1).await;
    running.drain.cancel();
    tokio::time::sleep(21 * SECOND).await;
    assert_eq!(rig.queue.depth().visible, 3, "for the next task, once our own polls are over");
    let report = running.stop().await;
    assert_eq!((report.in_hand, report.finished, report.released), (4, 1, 3), "{report:?}");
    assert!(report.within_budget && report.cancelled == 0, "{report:?}");
    assert_eq!(rig.book.done(), [1_000]);
    assert_eq!(rig.book.starts().len(), 1, "none was started in the drain");
    let next = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 4));
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn to_wait_behind_another_is_no_crash() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    let failures = AtomicUsize::new(0);
    let running = rig.start(move |delivery| {
        let fails = delivery.message.0 == 1_000 && failures.fetch_add(1, Ordering::Relaxed) < 20;
        async move { if fails { Err(infrastructure("sink is slow")) } else { Ok(()) } }
    });
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 3));
    let starts = rig.book.starts();
    assert!(starts.iter().all(|(_, _, failures)| *failures == 0));
    assert_eq!(starts.iter().filter(|(id, ..)| *id > 1_000).count(), 2, "one start each");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_runs_alone_does_not_wait_for_those_behind_it() {
    let rig = FifoRig::new();
    rig.fill(1, 3);
    for _ in 0..7 {
        let taken = rig.queue.take(1, 30 * SECOND);
        rig.queue.expose(&taken[0].receipt);
    }
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 3));
    assert_eq!(rig.book.starts()[0], (1_000, 8, 0));
    assert!(rig.world.elapsed() < 60 * SECOND, "{:?}", rig.world.elapsed());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_holds_groups_and_costs_nothing() {
    let mut rig = FifoRig::new();
    rig.probed = true;
    for group in 1..=3 {
        rig.fill(group, 3);
    }
    rig.sink.down.store(true, Ordering::Relaxed);
    let running = rig.start({
        let sink = Arc::clone(&rig.sink);
        move |delivery| {
            let down = sink.down.load(Ordering::Relaxed);
            async move {
                assert_eq!(delivery.attempt.failures, 0);
                if down { Err(infrastructure("connection refused")) } else { Ok(()) }
            }
        }
    });
    tokio::time::sleep(1_800 * SECOND).await;
    rig.sink.down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    for group in 1..=3 {
        assert_eq!(rig.book.done_of(group), members(group, 3));
    }
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

/// A group that is in hand and comes again with one more, as after a fault of the broker's.
#[tokio::test(start_paused = true)]
async fn one_chain_of_a_group_at_a_time_also_when_the_broker_hands_it_out_twice() {
    let rig = FifoRig::new();
    rig.fill(1, 2);
    let mut polls = 0;
    rig.queue.script(move |call| match call.kind {
        Kind::Receive => {
            polls += 1;
            if polls == 1 { Fault::Duplicate } else { Fault::None }
        }
        _ => Fault::None,
    });
    let running = rig.start(|_| async {
        tokio::time::sleep(5 * SECOND).await;
        Ok(())
    });
    rig.until("it runs", || !rig.book.starts().is_empty()).await;
    rig.put(1_002);
    rig.until_empty().await;
    assert_eq!(rig.book.done(), members(1, 3));
    running.stop().await;
}

/// Its lease ends at the broker while it is being given back: it comes again, with what follows it.
#[tokio::test(start_paused = true)]
async fn what_follows_one_that_is_being_given_back_does_not_overtake_it() {
    let rig = FifoRig::new();
    rig.put(1_000);
    rig.queue.script(|call| match call.kind {
        Kind::Extend if call.at < 20 * SECOND => {
            Fault::Refuse(DriverError::Unavailable("down".into()))
        }
        _ => Fault::None,
    });
    let running = rig.start(|delivery| {
        let fails = delivery.attempt.failures == 0 && delivery.message.0 == 1_000;
        async move { if fails { Err(handling("not yet")) } else { Ok(()) } }
    });
    rig.until("being given back", || !rig.queue.calls(Kind::Extend).is_empty()).await;
    rig.put(1_001);
    rig.queue.end_lease(&envelope(1_000));
    rig.until_empty().await;
    assert_eq!(rig.book.done_of(1), members(1, 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_keeps_its_group_on_a_fifo_queue() {
    let rig = FifoRig::new();
    rig.fill(1, 1);
    let sent = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&sent);
    // The answer is lost, so the letter is sent twice.
    rig.dlq.script(move |_| {
        let mut sent = counted.lock().unwrap();
        *sent += 1;
        let lost = queue_core::DriverError::Timeout("no answer".into());
        if *sent == 1 { Fault::LoseAnswer(lost) } else { Fault::None }
    });
    let running = rig.start(|_| async {
        Err(Failure::Reject(Reason { code: errors::REJECTED_BY_STORE, message: "never".into() }))
    });
    rig.until_empty().await;
    let letters = rig.letters();
    assert_eq!((letters.len(), *sent.lock().unwrap()), (1, 2), "and is one letter");
    assert_eq!(letters[0].group.as_deref(), Some("g1"));
    let taken = rig.dlq.take(1, SECOND);
    assert_eq!(taken[0].group.as_deref(), Some("g1"));
    running.stop().await;
}
