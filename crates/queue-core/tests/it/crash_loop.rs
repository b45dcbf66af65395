//! A message that takes the process down each time is found out: alone once, then rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::rig::{Rig, Running, Seen, envelope};

/// Receives without an outcome, as a process that dies leaves them.
fn crashed(rig: &Rig, times: usize) {
    for _ in 0..times {
        let taken = rig.queue.take(1, Duration::from_secs(30));
        rig.queue.expose(&taken[0].receipt);
    }
}

#[tokio::test(start_paused = true)]
async fn the_eighth_receive_without_an_outcome_runs_alone() {
    let rig = Rig::new();
    rig.fill(0..1);
    crashed(&rig, 7);
    rig.fill(1..30);
    let (at_once, beside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(99)));
    let running = rig.start({
        let (at_once, beside) = (Arc::clone(&at_once), Arc::clone(&beside));
        move |delivery| {
            let (at_once, beside) = (Arc::clone(&at_once), Arc::clone(&beside));
            async move {
                let others = at_once.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(60)).await;
                if delivery.message.0 == 0 {
                    beside.store(others + at_once.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
                }
                at_once.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        }
    });
    rig.until_empty().await;
    assert_eq!(beside.load(Ordering::Relaxed), 0, "nothing else ran");
    let totals = running.status.snapshot().totals;
    assert_eq!((totals.settled, totals.leases_lost), (30, 0), "it kept its lease while it waited");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_crashes_alone_as_well_is_rejected() {
    let rig = Rig::new();
    rig.fill(0..1);
    crashed(&rig, 7);
    let seen = Seen::default();
    let start = |rig: &Rig| -> Running {
        let seen = seen.clone();
        rig.start(move |delivery| {
            seen.note(&delivery);
            std::future::pending()
        })
    };
    let running = start(&rig);
    rig.until("runs alone", || seen.count() == 1).await;
    running.crash().await;
    let running = start(&rig);
    rig.until("rejected", || rig.dlq.depth().visible == 1).await;
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    assert_eq!((letter.code.as_str(), letter.failures, letter.receives), ("crash-loop", 0, 9));
    assert_eq!(seen.count(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_drained_while_alone_is_not() {
    let rig = Rig::new();
    rig.fill(0..1);
    crashed(&rig, 7);
    let (running, seen) = rig.start_noting(|_| std::future::pending());
    rig.until("runs alone", || seen.count() == 1).await;
    running.stop().await;
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.dlq.depth().visible, 0);
    assert_eq!(running.status.snapshot().totals.settled, 1);
    running.stop().await;
}

/// A process that lives on is no crash: whatever took the lease, the message is not rejected for it.
#[tokio::test(start_paused = true)]
async fn one_that_loses_its_lease_while_alone_is_not() {
    let rig = Rig::new();
    rig.fill(0..1);
    crashed(&rig, 7);
    let (running, seen) = rig.start_noting(|_| std::future::pending());
    rig.until("runs alone", || seen.count() == 1).await;
    rig.queue.lose(&envelope(0));
    rig.until("lost", || running.status.snapshot().totals.leases_lost == 1).await;
    running.crash().await;
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}
