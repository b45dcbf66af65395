//! Duty 4: the decision table in action. Failures are recorded and count; receives, infrastructure
//! errors, snoozes and restarts do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::attempts::History;
use queue_core::{Error, Failure};

use crate::broker_driver::Kind;
use crate::rig::{Rig, Seen, handling, header, infrastructure};

#[tokio::test(start_paused = true)]
async fn three_failures_with_growing_jittered_pauses_and_then_the_dead_letter_queue() {
    let rig = Rig::new();
    rig.fill(0..40);
    let starts = Arc::new(Mutex::new(std::collections::BTreeMap::<u64, Vec<Duration>>::new()));
    let running = rig.start({
        let (starts, world) = (Arc::clone(&starts), Arc::clone(&rig.world));
        move |delivery| {
            let mut starts = starts.lock().unwrap();
            let at = starts.entry(delivery.message.0).or_default();
            assert_eq!(usize::try_from(delivery.attempt.failures).unwrap(), at.len());
            at.push(world.elapsed());
            async { Err(handling("broken")) }
        }
    });
    rig.until("dead-lettered", || rig.dlq.depth().visible == 40).await;
    rig.until_empty().await;
    let starts = starts.lock().unwrap().clone();
    let mut seconds = std::collections::BTreeSet::new();
    for at in starts.values() {
        assert_eq!(at.len(), 3);
        // Full jitter over 1 s and 2 s, rounded up; and the next poll of a busy engine.
        let (first, second) = (at[1].abs_diff(at[0]), at[2].abs_diff(at[1]));
        let second_long = Duration::from_secs(1);
        assert!(first >= second_long && first <= 2 * second_long, "{at:?}");
        assert!(second >= second_long && second <= 3 * second_long, "{at:?}");
        seconds.insert(second.as_secs());
    }
    assert!(seconds.len() > 1, "jittered: {seconds:?}");
    let backoffs = rig.queue.calls(Kind::Extend);
    assert!(backoffs.iter().all(|call| call.seconds.iter().all(|s| (1..=2).contains(s))));
    for letter in rig.letters() {
        assert_eq!((letter.code.as_str(), letter.failures), ("failures-exhausted", 3));
        assert_eq!(letter.attempts.len(), 3);
        assert!(letter.attempts.iter().all(|a| a.error == "broken" && a.counts));
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn half_an_hour_of_infrastructure_errors_dead_letters_nothing() {
    let rig = Rig::new();
    rig.fill(0..30);
    let (seen, most) = (Seen::default(), Arc::new(Mutex::new(0)));
    let running = rig.start({
        let (seen, most, world) = (seen.clone(), Arc::clone(&most), Arc::clone(&rig.world));
        move |delivery| {
            let down = world.elapsed() < Duration::from_secs(1_800);
            let mut most = most.lock().unwrap();
            *most = (*most).max(delivery.attempt.receives);
            if !down {
                seen.note(&delivery);
            }
            async move { if down { Err(infrastructure("connection refused")) } else { Ok(()) } }
        }
    });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), (0..30).collect::<Vec<_>>());
    assert_eq!(rig.dlq.depth().visible, 0);
    let most = *most.lock().unwrap();
    assert!(most < 20, "{most} receives, the queue's redrive count is 25");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn receives_are_not_failures() {
    let rig = Rig::new();
    rig.fill(0..1);
    for _ in 0..6 {
        let taken = rig.queue.take(1, Duration::from_secs(30));
        rig.queue.expose(&taken[0].receipt);
    }
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let attempts = Arc::clone(&attempts);
        move |delivery| {
            let first = attempts.lock().unwrap().is_empty();
            attempts.lock().unwrap().push(delivery.attempt);
            async move { if first { Err(handling("once")) } else { Ok(()) } }
        }
    });
    rig.until_empty().await;
    let attempts = attempts.lock().unwrap().clone();
    let figures: Vec<_> = attempts.iter().map(|a| (a.failures, a.receives)).collect();
    assert_eq!(figures, [(0, 7), (1, 8)]);
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_sinks_own_time_is_kept_and_a_snooze_uses_no_attempt() {
    let rig = Rig::new();
    rig.fill(0..1);
    let starts = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let (starts, world) = (Arc::clone(&starts), Arc::clone(&rig.world));
        move |delivery| {
            let mut starts = starts.lock().unwrap();
            starts.push((world.elapsed(), delivery.attempt.failures));
            let nth = starts.len();
            async move {
                match nth {
                    1 => Err(Failure::RetryAfter(
                        Error::handling(errors::INTERNAL, "quota"),
                        Duration::from_millis(89_500),
                    )),
                    2..=12 => Err(Failure::Snooze(Duration::from_secs(600))),
                    _ => Ok(()),
                }
            }
        }
    });
    rig.until_empty().await;
    let starts = starts.lock().unwrap().clone();
    assert_eq!(starts.len(), 13);
    let pause = starts[1].0.abs_diff(starts[0].0);
    assert!(pause >= Duration::from_secs(90) && pause < Duration::from_secs(92), "{pause:?}");
    assert!(starts[1..].iter().all(|(_, failures)| *failures == 1), "{starts:?}");
    let pause = starts[5].0.abs_diff(starts[4].0);
    assert!(pause >= Duration::from_secs(600) && pause < Duration::from_secs(602), "{pause:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn panics_are_caught_and_count() {
    let rig = Rig::new();
    rig.fill(0..2);
    let seen = Seen::default();
    let running = rig.start({
        let seen = seen.clone();
        move |delivery| {
            let poison = delivery.message.0 == 0;
            seen.note(&delivery);
            async move {
                assert!(!poison, "message {} is poison", 0);
                Ok(())
            }
        }
    });
    rig.until("dead-lettered", || rig.dlq.depth().visible == 1).await;
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    assert!(letter.attempts.iter().all(|a| a.code == "handler-panic"), "{letter:?}");
    assert_eq!(letter.attempts[0].error, "message 0 is poison");
    assert_eq!(seen.sorted(), [0, 0, 0, 1]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failures_survive_a_crash_and_success_forgets_them() {
    let rig = Rig::new();
    rig.fill(0..2);
    let seen = Seen::default();
    let fail = |seen: &Seen| {
        let seen = seen.clone();
        move |delivery: queue_core::Delivery<crate::rig::Job>| {
            seen.note(&delivery);
            let ok = delivery.message.0 == 1 && delivery.attempt.failures == 1;
            async move { if ok { Ok(()) } else { Err(handling("broken")) } }
        }
    };
    let running = rig.start(fail(&seen));
    rig.until("two failures of the first", || {
        seen.all().iter().filter(|id| **id == 0).count() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.crash().await;
    let running = rig.start(fail(&seen));
    rig.until("dead-lettered", || rig.dlq.depth().visible == 1).await;
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 0, 0, 1, 1]);
    let ids = [0, 1].map(|id| header(id).id.to_string());
    let histories = rig.attempts.load(crate::rig::QUEUE.name, &ids).await.unwrap();
    assert!(histories.iter().all(|history| *history == History::default()), "{histories:?}");
    running.stop().await;
}
