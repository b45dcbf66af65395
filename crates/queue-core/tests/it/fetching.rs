//! Duties 1 and 2: permits before polling, several long polls, one when idle, a watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queue_core::{DriverError, EngineConfig};
use tokio::sync::Semaphore;

use crate::broker_driver::{Fault, Kind};
use crate::rig::{Rig, Seen, envelope};

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_that_cannot_start() {
    let mut rig = Rig::new();
    rig.config.concurrency = 3;
    rig.fill(0..20);
    let (turns, seen) = (Arc::new(Semaphore::new(0)), Seen::default());
    let running = rig.start({
        let (turns, seen) = (Arc::clone(&turns), seen.clone());
        move |delivery| {
            seen.note(&delivery);
            let turns = Arc::clone(&turns);
            async move {
                turns.acquire().await.unwrap().forget();
                Ok(())
            }
        }
    });
    rig.until("three started", || seen.count() == 3).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((seen.count(), rig.queue.depth().in_flight), (3, 3), "and no fourth is fetched");
    assert_eq!(running.status.snapshot().in_flight, 3);
    turns.add_permits(1);
    rig.until("one more started", || seen.count() == 4).await;
    assert_eq!(rig.queue.depth().in_flight, 3);
    turns.add_permits(100);
    rig.until_empty().await;
    // The polls that were begun with what was free end first.
    tokio::time::sleep(Duration::from_secs(90)).await;
    let sizes: Vec<usize> = rig.queue.calls(Kind::Receive).iter().map(|call| call.size).collect();
    assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
    assert_eq!(sizes.last(), Some(&3), "every permit has come back");
    let report = running.stop().await;
    assert!(report.within_budget && report.unsettled == 0, "{report:?}");
}

/// A message of that many bytes.
fn heavy(id: u64, bytes: usize) -> String {
    let plain = envelope(id);
    let pad = "x".repeat(bytes - plain.len() - r#""pad":"","#.len());
    plain.replacen('{', &format!(r#"{{"pad":"{pad}","#), 1)
}

#[tokio::test(start_paused = true)]
async fn bytes_in_hand_stay_inside_their_budget() {
    const WEIGHT: usize = 200_000;
    let mut rig = Rig::new();
    rig.config.bytes_in_hand_max = 3 << 20;
    (0..60).for_each(|id| rig.queue.put(&heavy(id, WEIGHT)));
    let (seen, most) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let running = rig.start({
        let (seen, most, queue) = (seen.clone(), Arc::clone(&most), Arc::clone(&rig.queue));
        move |delivery| {
            seen.note(&delivery);
            let leased = usize::try_from(queue.depth().in_flight).unwrap();
            most.fetch_max(leased, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            }
        }
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..60).collect::<Vec<_>>());
    let most = most.load(Ordering::Relaxed);
    assert!(most * WEIGHT <= rig.config.bytes_in_hand_max, "{most} messages in hand");
    // One more of the broker's limit has to fit, or nothing is asked for.
    assert!((most + 1) * WEIGHT + (1 << 20) > rig.config.bytes_in_hand_max, "only {most}");
    rig.until("all given back", || running.status.snapshot().bytes_in_hand == 0).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_on_top_of_a_message_larger_than_the_budget() {
    let mut rig = Rig::new();
    rig.config.bytes_in_hand_max = 64 << 10;
    let weights = [1_000, 1_000_000, 1_000, 70_000, 1_000];
    (0..).zip(weights).for_each(|(id, weight)| rig.queue.put(&heavy(id, weight)));
    let (seen, in_hand) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let on_top = Arc::new(AtomicUsize::new(0));
    let running = rig.start({
        let (seen, in_hand, on_top) = (seen.clone(), Arc::clone(&in_hand), Arc::clone(&on_top));
        move |delivery| {
            seen.note(&delivery);
            let is_heavy = usize::from(matches!(delivery.message.0, 1 | 3));
            on_top.fetch_add(in_hand.fetch_add(is_heavy, Ordering::SeqCst), Ordering::SeqCst);
            let in_hand = Arc::clone(&in_hand);
            async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                in_hand.fetch_sub(is_heavy, Ordering::SeqCst);
                Ok(())
            }
        }
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 2, 3, 4]);
    assert_eq!(on_top.load(Ordering::SeqCst), 0, "started while a heavy one was in hand");
    running.stop().await;
}

/// Running alone takes all capacity; so does a message as large as the budget.
#[tokio::test(start_paused = true)]
async fn a_crash_loop_larger_than_the_budget_runs_alone_all_the_same() {
    let mut rig = Rig::new();
    rig.config.bytes_in_hand_max = 1 << 20;
    rig.queue.put(&heavy(0, 1_000_000));
    for _ in 0..7 {
        let taken = rig.queue.take(1, Duration::from_secs(30));
        rig.queue.expose(&taken[0].receipt);
    }
    rig.fill(1..5);
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 2, 3, 4]);
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[test]
fn the_byte_budget_has_stated_bounds() {
    let with = |bytes| EngineConfig { bytes_in_hand_max: bytes, ..Rig::new().config }.validate();
    for (bytes, fits) in
        [(65_535, false), (65_536, true), (256 << 20, true), (1 + (256 << 20), false)]
    {
        assert_eq!(with(bytes).is_ok(), fits, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_long_poll_when_idle_and_several_under_load() {
    let rig = Rig::new();
    let running = rig.start(|_| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let idle = rig.queue.calls(Kind::Receive).len();
    assert!((29..=31).contains(&idle), "one call per 20 s, not {idle} in ten minutes");
    assert_eq!(running.status.snapshot().pollers, 1);
    rig.fill(0..300);
    rig.until("all pollers poll", || running.status.snapshot().pollers == 4).await;
    rig.until_empty().await;
    rig.until("one polls again", || running.status.snapshot().pollers == 1).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_without_answer_ends_at_its_attempt_timeout() {
    let rig = Rig::new();
    let mut first = true;
    rig.queue.script(move |call| match call.kind {
        Kind::Receive if std::mem::take(&mut first) => Fault::Hang,
        _ => Fault::None,
    });
    rig.fill(0..1);
    let running = rig.start(|_| async { Ok(()) });
    rig.until_within(Duration::from_secs(30), "handled", || rig.queue.depth().visible == 0).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_dies_is_replaced() {
    let rig = Rig::new();
    let mut left = 3;
    rig.queue.script(move |call| match call.kind {
        Kind::Receive if left > 0 => {
            left -= 1;
            Fault::Panic
        }
        _ => Fault::None,
    });
    rig.fill(0..1);
    let running = rig.start(|_| async { Ok(()) });
    rig.until_within(Duration::from_secs(10), "handled", || rig.queue.depth().visible == 0).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_polls_back_off_and_recover() {
    let rig = Rig::new();
    rig.queue.script(|call| match call.kind {
        Kind::Receive if call.at < Duration::from_secs(600) => {
            Fault::Refuse(DriverError::Unavailable("down".into()))
        }
        _ => Fault::None,
    });
    rig.fill(0..1);
    let running = rig.start(|_| async { Ok(()) });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let polls = rig.queue.calls(Kind::Receive).len();
    assert!((20..120).contains(&polls), "{polls} polls in ten minutes");
    rig.until_within(Duration::from_secs(60), "handled", || rig.queue.depth().visible == 0).await;
    running.stop().await;
}
