//! Duty 3: leases from the moment of receipt, extended in batches, never beyond the ceiling; a lost
//! lease cancels the handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use queue_core::{DriverError, EntryError, Failure};

use crate::broker_driver::{Fault, Kind};
use crate::rig::{Rig, Seen};

/// Works for `minutes`, saying so every half minute.
async fn work(delivery: queue_core::Delivery<crate::rig::Job>, minutes: u32) {
    for _ in 0..minutes * 2 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        delivery.progress();
    }
}

#[tokio::test(start_paused = true)]
async fn long_handlers_keep_their_leases_in_batches() {
    let rig = Rig::new();
    rig.fill(0..20);
    let (running, seen) = rig.start_noting(|delivery| async move {
        work(delivery, 10).await;
        Ok(())
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..20).collect::<Vec<_>>(), "each handled once");
    let extends = rig.queue.calls(Kind::Extend);
    assert!(extends.iter().all(|call| call.size == 10), "in batches of ten: {extends:?}");
    // Every 15 s for 600 s, two batches.
    assert!((70..=90).contains(&extends.len()), "{}", extends.len());
    assert_eq!(running.status.snapshot().totals.leases_lost, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn throttled_extensions_are_tried_again() {
    let rig = Rig::new();
    rig.fill(0..3);
    let mut refused = 0;
    rig.queue.script(move |call| match call.kind {
        Kind::Extend if refused < 8 => {
            refused += 1;
            match refused % 2 {
                0 => Fault::Refuse(DriverError::Throttled("slow down".into())),
                _ => Fault::Entry(0, EntryError::Transient("internal error".into())),
            }
        }
        _ => Fault::None,
    });
    let (running, seen) = rig.start_noting(|delivery| async move {
        work(delivery, 2).await;
        Ok(())
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 2]);
    assert_eq!(running.status.snapshot().totals.leases_lost, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_handler_and_counts_for_nothing() {
    let rig = Rig::new();
    rig.fill(0..1);
    let mut polls = 0;
    rig.queue.script(move |call| {
        polls += usize::from(call.kind == Kind::Receive);
        match call.kind {
            Kind::Receive if polls == 1 => Fault::Duplicate,
            Kind::Receive if call.at < Duration::from_secs(600) => {
                Fault::Refuse(DriverError::Unavailable("down".into()))
            }
            _ => Fault::None,
        }
    });
    let (seen, stopped) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let running = rig.start({
        let (seen, stopped) = (seen.clone(), Arc::clone(&stopped));
        move |delivery| {
            seen.note(&delivery);
            let stopped = OnDrop(Arc::clone(&stopped));
            let first = seen.count() == 1;
            async move {
                if first {
                    work(delivery, 60).await;
                    drop(stopped);
                }
                Ok(())
            }
        }
    });
    rig.until("started", || seen.count() == 1).await;
    let stolen = rig.queue.take(1, Duration::from_secs(700));
    assert_eq!(stolen.len(), 1);
    // A standard queue extends by any handle, so that the other lease alone is not noticed.
    rig.queue.lose(&crate::rig::envelope(0));
    rig.until_within(Duration::from_secs(30), "cancelled", || stopped.load(Ordering::Relaxed))
        .await;
    assert_eq!(running.status.snapshot().totals.leases_lost, 1);
    let id = crate::rig::header(0).id.to_string();
    let history = rig.attempts.load(crate::rig::QUEUE.name, &[id]).await.unwrap();
    assert!(history[0].attempts.is_empty(), "{history:?}");
    rig.until_empty().await;
    assert_eq!(seen.count(), 2, "when it comes back it is handled");
    running.stop().await;
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_extended_is_lost_before_it_ends() {
    let rig = Rig::new();
    rig.fill(0..1);
    rig.queue.script(|call| match call.kind {
        Kind::Extend => Fault::Refuse(DriverError::Throttled("slow down".into())),
        _ => Fault::None,
    });
    let stopped_at = Arc::new(std::sync::Mutex::new(None));
    let running = rig.start({
        let (stopped_at, world) = (Arc::clone(&stopped_at), Arc::clone(&rig.world));
        move |delivery| {
            let (stopped_at, world) = (Arc::clone(&stopped_at), Arc::clone(&world));
            async move {
                let cancelled = delivery.cancelled.clone();
                let note = scopeguard(move || {
                    stopped_at.lock().unwrap().get_or_insert(world.elapsed());
                    assert!(cancelled.is_cancelled());
                });
                work(delivery, 60).await;
                drop(note);
                Ok(())
            }
        }
    });
    rig.until("cancelled", || stopped_at.lock().unwrap().is_some()).await;
    let at = stopped_at.lock().unwrap().unwrap();
    let bounds = Duration::from_secs(27)..Duration::from_secs(30);
    assert!(bounds.contains(&at), "before anybody else can have it: {at:?}");
    running.stop().await;
}

fn scopeguard<F: FnMut()>(run: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(run)
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_progress_is_cancelled_and_counts() {
    let rig = Rig::new();
    rig.fill(0..1);
    let started = Arc::new(AtomicUsize::new(0));
    let running = rig.start({
        let started = Arc::clone(&started);
        move |_delivery| {
            started.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        }
    });
    rig.until("dead-lettered", || rig.dlq.depth().visible == 1).await;
    assert_eq!(started.load(Ordering::Relaxed), 3);
    let letter = rig.letters().remove(0);
    assert_eq!(letter.code, "failures-exhausted");
    assert!(letter.attempts.iter().all(|a| a.code == "handler-timeout" && a.counts), "{letter:?}");
    let took = rig.world.elapsed();
    assert!(took > Duration::from_secs(360) && took < Duration::from_secs(380), "{took:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leases_stop_at_the_brokers_ceiling() {
    let mut rig = Rig::new();
    rig.config.lease = Duration::from_secs(600);
    rig.fill(0..1);
    let (running, seen) = rig.start_noting(|delivery| async move {
        work(delivery, 24 * 60).await;
        Ok(())
    });
    let ceiling = Duration::from_secs(43_200);
    rig.until("tried again", || seen.count() == 2).await;
    let at = rig.world.elapsed();
    assert!(at + Duration::from_secs(65) > ceiling && at < ceiling, "{at:?}");
    let id = crate::rig::header(0).id.to_string();
    let history = rig.attempts.load(crate::rig::QUEUE.name, &[id]).await.unwrap().remove(0);
    assert_eq!(history.attempts[0].code, "handler-timeout");
    assert_eq!(running.status.snapshot().totals.leases_lost, 0);
    running.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_message_in_hand_is_not_handled_beside_it() {
    let rig = Rig::new();
    rig.fill(0..10);
    let mut polls = 0;
    rig.queue.script(move |call| {
        polls += usize::from(call.kind == Kind::Receive);
        if call.kind == Kind::Receive && polls <= 2 { Fault::Duplicate } else { Fault::None }
    });
    let (running, seen) = rig.start_noting(|_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..10).collect::<Vec<_>>());
    let status = running.status.snapshot();
    assert_eq!((status.totals.received, status.in_flight), (30, 0), "{status:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_snooze_after_long_work_ends_below_the_brokers_ceiling() {
    const HOUR: u64 = 3_600;
    let rig = Rig::new();
    rig.fill(0..1);
    let running = rig.start(|delivery| async {
        work(delivery, 120).await;
        Err(Failure::Snooze(Duration::from_secs(11 * HOUR)))
    });
    let given_back = || rig.queue.calls(Kind::Extend).into_iter().find(|c| c.seconds[0] > HOUR);
    rig.until("given back", || given_back().is_some()).await;
    let seconds = given_back().unwrap().seconds[0];
    let most = 10 * HOUR;
    assert!((most - 60..=most).contains(&seconds), "{seconds} s after two hours of twelve");
    running.stop().await;
}
