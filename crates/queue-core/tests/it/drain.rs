//! Duty 9: polls finish, handlers finish, acknowledgements flush, the rest is given back, in budget.

use std::time::Duration;

use crate::broker_driver::{Fault, Kind};
use crate::rig::{Rig, Seen, envelope};

#[tokio::test(start_paused = true)]
async fn a_poll_that_runs_is_awaited_and_what_it_brings_is_given_back_at_once() {
    let rig = Rig::new();
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.drain.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(running.status.snapshot().draining);
    assert_eq!(running.status.snapshot().pollers, 1, "it still waits");
    rig.queue.put(&envelope(1));
    let report = running.stop().await;
    assert!(report.within_budget, "{report:?}");
    assert_eq!((report.released, report.finished, report.unsettled), (1, 0, 0));
    assert!(report.took < Duration::from_secs(6), "{report:?}");
    assert_eq!(seen.count(), 0);
    assert_eq!(rig.queue.depth().visible, 1, "for the next task, now");
    assert_eq!(rig.queue.calls(Kind::Receive).len(), 1, "and no poll has been started since");
}

#[tokio::test(start_paused = true)]
async fn handlers_finish_and_their_acknowledgements_are_flushed() {
    let rig = Rig::new();
    rig.fill(0..35);
    let (running, seen) = rig.start_noting(|_| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(())
    });
    rig.until("all started", || seen.count() == 35).await;
    let report = running.stop().await;
    assert_eq!((report.in_hand, report.finished, report.cancelled), (35, 35, 0), "{report:?}");
    assert!(report.within_budget && report.unsettled == 0, "{report:?}");
    assert_eq!(rig.queue.depth(), queue_core::driver::Depth::default());
}

#[tokio::test(start_paused = true)]
async fn at_the_budgets_end_handlers_are_cancelled_and_their_messages_given_back() {
    let rig = Rig::new();
    rig.fill(0..12);
    let (running, seen) = rig.start_noting(|delivery| async move {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            delivery.progress();
        }
    });
    rig.until("all started", || seen.count() == 12).await;
    let report = running.stop().await;
    assert_eq!((report.cancelled, report.unsettled, report.within_budget), (12, 0, false));
    assert!(report.took <= rig.config.drain_budget, "{report:?}");
    assert_eq!(rig.queue.depth().visible, 12, "at once, not when their leases end");
    assert!(rig.queue.calls(Kind::Settle).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_cannot_hold_a_drain_beyond_its_budget() {
    let rig = Rig::new();
    rig.fill(0..12);
    rig.queue.script(|call| match call.kind {
        Kind::Settle | Kind::Extend => Fault::Hang,
        _ => Fault::None,
    });
    let running = rig.start(|_| async { Ok(()) });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let report = running.stop().await;
    assert_eq!((report.unsettled, report.within_budget), (12, false), "{report:?}");
    assert!(report.took <= rig.config.drain_budget, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn many_drains_are_no_failures() {
    let rig = Rig::new();
    rig.fill(0..4);
    for _ in 0..20 {
        let running = rig.start(|_| std::future::pending());
        rig.until("in hand", || running.status.snapshot().in_flight == 4).await;
        running.stop().await;
    }
    let seen = Seen::default();
    let running = rig.start({
        let seen = seen.clone();
        move |delivery| {
            assert_eq!(delivery.attempt.failures, 0);
            seen.note(&delivery);
            async { Ok(()) }
        }
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 2, 3]);
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}
