//! Duty 6: settles are batched and positional, failed entries are tried again until the lease ends,
//! and what is done is not done twice.

use std::time::Duration;

use queue_core::{DriverError, EntryError};

use crate::broker_driver::{Fault, Kind};
use crate::rig::Rig;

#[tokio::test(start_paused = true)]
async fn a_message_costs_a_fifth_of_a_call() {
    let rig = Rig::new();
    rig.fill(0..1_000);
    let running = rig.start(|_| async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        Ok(())
    });
    rig.until_empty().await;
    let calls = running.status.snapshot().totals.broker_calls;
    assert!(calls <= 210, "{calls} calls for 1,000 messages");
    assert_eq!(running.status.snapshot().totals.settled, 1_000);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_success() {
    let rig = Rig::new();
    rig.fill(0..10);
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let running = rig.start({
        let go = std::sync::Arc::clone(&go);
        move |delivery| {
            let go = std::sync::Arc::clone(&go);
            async move {
                if delivery.message.0 == 7 {
                    go.notified().await;
                }
                Ok(())
            }
        }
    });
    rig.until("the others are settled", || rig.queue.depth().in_flight == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.queue.depth().in_flight, 1, "this one has not been handled");
    go.notify_one();
    rig.until_empty().await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_entries_and_lost_answers_are_tried_again() {
    let rig = Rig::new();
    rig.fill(0..50);
    let mut settles = 0;
    rig.queue.script(move |call| {
        settles += usize::from(call.kind == Kind::Settle);
        match call.kind {
            Kind::Settle if settles % 3 == 0 => {
                Fault::Entry(settles % 10, EntryError::Transient("internal error".into()))
            }
            Kind::Settle if settles % 3 == 1 && settles < 12 => {
                Fault::LoseAnswer(DriverError::Timeout("no answer".into()))
            }
            Kind::Settle if settles % 3 == 2 && settles < 12 => {
                Fault::Refuse(DriverError::Throttled("slow down".into()))
            }
            _ => Fault::None,
        }
    });
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..50).collect::<Vec<_>>(), "each handled once");
    assert!(rig.world.elapsed() < Duration::from_secs(30), "inside the first lease");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_of_what_is_done_costs_one_delete() {
    let rig = Rig::new();
    rig.fill(0..3);
    rig.queue.script(|call| match call.kind {
        // Longer than a lease: the messages come back.
        Kind::Settle if call.at < Duration::from_secs(45) => {
            Fault::Refuse(DriverError::Unavailable("down".into()))
        }
        _ => Fault::None,
    });
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 2], "the handler has not seen them again");
    let totals = running.status.snapshot().totals;
    assert_eq!(totals.dropped, 3, "{totals:?}");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

/// Until its lease ends a message is hidden because of us: it is in hand, and a drain says so.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_settled_is_in_hand_until_its_lease_ends() {
    let mut rig = Rig::new();
    rig.config.lease = Duration::from_secs(30);
    rig.fill(0..1);
    rig.queue.script(|call| match call.kind {
        Kind::Settle => Fault::Refuse(DriverError::Unavailable("down".into())),
        _ => Fault::None,
    });
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until("handled", || seen.count() == 1).await;
    let handled = rig.world.elapsed();
    rig.until("given up", || running.status.snapshot().in_flight == 0).await;
    let held = rig.world.elapsed().abs_diff(handled);
    assert!(held >= Duration::from_millis(29_900), "{held:?}");
    running.stop().await;
}
