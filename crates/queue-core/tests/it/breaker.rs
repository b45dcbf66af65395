//! Duty 10: while a sink is down the worker polls nothing and holds nothing, asks the sink, and comes
//! back by one message at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker_driver::Kind;
use crate::rig::{Rig, Running, Seen, infrastructure};

fn probed() -> Rig {
    let mut rig = Rig::new();
    rig.probed = true;
    rig
}

fn start(rig: &Rig, seen: &Seen) -> Running {
    let (seen, sink) = (seen.clone(), Arc::clone(&rig.sink));
    rig.start(move |delivery| {
        let down = sink.down.load(Ordering::Relaxed);
        if !down {
            seen.note(&delivery);
        }
        async move { if down { Err(infrastructure("connection refused")) } else { Ok(()) } }
    })
}

fn state(running: &Running) -> String {
    running.status.snapshot().breakers.first().map(|b| b.state.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_half_an_hour_costs_each_message_a_receive_or_two() {
    let rig = probed();
    rig.sink.down.store(true, Ordering::Relaxed);
    rig.fill(0..200);
    let seen = Seen::default();
    let running = start(&rig, &seen);
    rig.until("open", || state(&running) == "open").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let polls = rig.queue.calls(Kind::Receive).len();
    let snapshot = running.status.snapshot();
    assert_eq!((snapshot.pollers, snapshot.in_flight), (0, 0), "{snapshot:?}");
    assert_eq!(snapshot.breakers[0].reason.as_deref(), Some("switched off"));
    tokio::time::sleep(Duration::from_secs(1_770)).await;
    assert_eq!(rig.queue.calls(Kind::Receive).len(), polls, "nothing is polled");
    let probes = rig.sink.probed.load(Ordering::Relaxed);
    assert!((60..80).contains(&probes), "{probes} probes in half an hour");
    rig.sink.down.store(false, Ordering::Relaxed);
    rig.until("closed", || state(&running) == "closed").await;
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..200).collect::<Vec<_>>());
    assert_eq!(rig.dlq.depth().visible, 0);
    let back = rig.world.elapsed();
    assert!(back < Duration::from_secs(1_800 + 45), "back within a probe's interval: {back:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trial_lets_one_message_through() {
    let rig = probed();
    rig.sink.down.store(true, Ordering::Relaxed);
    rig.fill(0..100);
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let running = rig.start({
        let (sink, at_once, most) =
            (Arc::clone(&rig.sink), Arc::clone(&at_once), Arc::clone(&most));
        move |_| {
            let (sink, at_once, most) =
                (Arc::clone(&sink), Arc::clone(&at_once), Arc::clone(&most));
            async move {
                if sink.down.load(Ordering::Relaxed) {
                    return Err(infrastructure("connection refused"));
                }
                // The sink answers the probe and yet takes nothing.
                let now = at_once.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(2)).await;
                at_once.fetch_sub(1, Ordering::Relaxed);
                Err(infrastructure("read only"))
            }
        }
    });
    rig.until("open", || state(&running) == "open").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.sink.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(most.load(Ordering::Relaxed), 1, "one message at a time");
    assert_ne!(state(&running), "closed");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn handlers_that_hang_on_a_dead_sink_are_released() {
    let rig = probed();
    rig.fill(0..10);
    let running = rig.start({
        let sink = Arc::clone(&rig.sink);
        move |delivery| {
            let down = sink.down.load(Ordering::Relaxed);
            async move {
                match (down, delivery.message.0) {
                    (true, 0) => Err(infrastructure("connection refused")),
                    (true, _) => std::future::pending().await,
                    (false, _) => Ok(()),
                }
            }
        }
    });
    rig.sink.down.store(true, Ordering::Relaxed);
    rig.until("open", || state(&running) == "open").await;
    rig.until_within(Duration::from_secs(10), "released", || {
        running.status.snapshot().in_flight == 0
    })
    .await;
    rig.sink.down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    assert_eq!(running.status.snapshot().totals.settled, 10);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn errors_that_no_probe_explains_stop_the_polling_too() {
    let rig = probed();
    rig.fill(0..500);
    let handled = Arc::new(AtomicUsize::new(0));
    let running = rig.start({
        let handled = Arc::clone(&handled);
        move |_| {
            handled.fetch_add(1, Ordering::Relaxed);
            async { Err(infrastructure("permission denied")) }
        }
    });
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    let breakers = running.status.snapshot().breakers;
    assert_eq!((breakers[0].state.as_str(), breakers[1].sink.as_str()), ("closed", "handler"));
    let handled = handled.load(Ordering::Relaxed);
    assert!(handled < 200, "{handled} tries for 500 messages in half an hour");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}
