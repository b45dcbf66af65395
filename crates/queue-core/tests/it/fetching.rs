//! Duties 1 and 2: permits before polling, several long polls, one when idle, a watchdog.

use std::sync::Arc;
use std::time::Duration;

use queue_core::DriverError;
use tokio::sync::Semaphore;

use crate::broker_driver::{Fault, Kind};
use crate::rig::{Rig, Seen};

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
