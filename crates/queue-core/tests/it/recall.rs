//! Calling back: what an outage has postponed by minutes is worked off as soon as the outage is over,
//! and nothing else is: not during it, not in a drain, not before a sink's own time, not again and
//! again for a message that is itself to blame.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::attempts::RecordedFailure;
use queue_core::recall::{QUIET, RECEIVES_MAX};
use queue_core::{DriverError, EntryError, Error, Failure};

use crate::broker_driver::{BrokerQueue, Fault, Kind};
use crate::fifo::rig::FifoRig;
use crate::rig::{Rig, Running, Seen, header, infrastructure};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Messages that others had in their hands so often, in outages that are on record: from the seventh
/// receive on an outage postpones by 150 to 300 s.
async fn season(rig: &Rig, ids: std::ops::Range<u64>, receives: u32) {
    rig.fill(ids.clone());
    hand_round(&rig.queue, receives);
    for id in ids {
        let failure = RecordedFailure {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            code: "database-unavailable".into(),
            error: "an earlier outage".into(),
            worker: "test-worker".into(),
            counts: false,
            receives,
        };
        let key = header(id).id.to_string();
        rig.attempts.record(crate::rig::QUEUE.name, &key, failure).await.unwrap();
    }
}

fn hand_round(queue: &BrokerQueue, times: u32) {
    for _ in 0..times {
        queue.bodies();
    }
}

/// Takes a second for each message, and fails while the sink is down.
fn start(rig: &Rig, seen: &Seen) -> Running {
    let (seen, sink) = (seen.clone(), Arc::clone(&rig.sink));
    rig.start(move |delivery| {
        let (seen, sink) = (seen.clone(), Arc::clone(&sink));
        async move {
            tokio::time::sleep(SECOND).await;
            if sink.down.load(Ordering::Relaxed) {
                return Err(infrastructure("connection refused"));
            }
            seen.note(&delivery);
            Ok(())
        }
    })
}

/// Eighty messages in an outage that postpones each by 150 s at least.
async fn outage() -> (Rig, Seen, Running) {
    let mut rig = Rig::new();
    rig.probed = true;
    rig.config.concurrency = 100;
    season(&rig, 0..80, 7).await;
    rig.sink.down.store(true, Ordering::Relaxed);
    let seen = Seen::default();
    let running = start(&rig, &seen);
    (rig, seen, running)
}

#[tokio::test(start_paused = true)]
async fn when_the_sink_is_back_what_was_postponed_is_worked_off_at_once() {
    let (rig, seen, running) = outage().await;
    tokio::time::sleep(MINUTE).await;
    let before = running.status.snapshot();
    assert_eq!((before.postponed, before.totals.recalled, before.in_flight), (80, 0, 0));
    rig.sink.down.store(false, Ordering::Relaxed);
    let up = rig.world.elapsed();
    rig.until_empty().await;
    let took = rig.world.elapsed().saturating_sub(up);
    // A probe's interval, one message to try, then the rest within the spread.
    assert!(took < Duration::from_secs(32 + 10), "the pauses were 150 s and more: {took:?}");
    assert_eq!(seen.sorted(), (0..80).collect::<Vec<_>>());
    let after = running.status.snapshot();
    assert_eq!((after.postponed, after.totals.recalled), (0, 80));
    assert_eq!(rig.dlq.depth().visible, 0);
    let called_back: Vec<_> =
        rig.queue.calls(Kind::Extend).into_iter().filter(|call| call.at > up).collect();
    assert_eq!(called_back[0].size, 1, "one to try");
    assert!(called_back.len() <= 10, "in batches: {called_back:?}");
    assert!(called_back.iter().flat_map(|call| &call.seconds).all(|seconds| *seconds <= 2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_back_while_the_sink_is_down() {
    let (rig, _, running) = outage().await;
    tokio::time::sleep(MINUTE).await;
    let calls = rig.queue.calls(Kind::Extend).len();
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(rig.queue.calls(Kind::Extend).len(), calls, "the sink is down");
    rig.sink.down.store(false, Ordering::Relaxed);
    let status = Arc::clone(&running.status);
    running.stop().await;
    assert_eq!(
        (rig.queue.calls(Kind::Extend).len(), status.snapshot().totals.recalled),
        (calls, 0)
    );
}

/// A drain that lasts long after the outage, since a message takes its time: a worker that goes on calls
/// back meanwhile, one that drains does not.
#[tokio::test(start_paused = true)]
async fn nothing_is_called_back_in_a_drain() {
    for (drains, recalled) in [(true, 0), (false, 8)] {
        let mut rig = Rig::new();
        rig.config.concurrency = 100;
        season(&rig, 0..9, 7).await;
        let seen = Seen::default();
        let running = rig.start({
            let seen = seen.clone();
            move |delivery| {
                let seen = seen.clone();
                async move {
                    if delivery.message.0 == 8 {
                        tokio::time::sleep(MINUTE / 2).await;
                    } else if delivery.attempt.receives <= 8 {
                        return Err(infrastructure("connection refused"));
                    }
                    seen.note(&delivery);
                    Ok(())
                }
            }
        });
        rig.until("all but one postponed", || running.status.snapshot().postponed == 8).await;
        let status = Arc::clone(&running.status);
        if drains {
            running.stop().await;
            assert_eq!(seen.sorted(), [8], "it went on for half a minute");
        } else {
            rig.until_empty().await;
            running.stop().await;
        }
        assert_eq!(status.snapshot().totals.recalled, recalled, "drains: {drains}");
    }
}

/// A worker that was killed calls nothing back; its successor waits for what comes by itself.
#[tokio::test(start_paused = true)]
async fn when_the_process_has_died_the_pause_itself_is_the_bound() {
    let (rig, seen, running) = outage().await;
    tokio::time::sleep(MINUTE).await;
    running.crash().await;
    rig.sink.down.store(false, Ordering::Relaxed);
    let running = start(&rig, &seen);
    rig.until_empty().await;
    assert!(rig.world.elapsed() < Duration::from_secs(310), "{:?}", rig.world.elapsed());
    assert_eq!(running.status.snapshot().totals.recalled, 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_back_that_fails_is_not_repeated_and_holds_nobody_up() {
    let (rig, seen, running) = outage().await;
    tokio::time::sleep(MINUTE).await;
    let mut calls = 0;
    rig.queue.script(move |call| {
        calls += u32::from(call.kind == Kind::Extend);
        match (call.kind, calls) {
            // The first tries, the second and third are of ten.
            (Kind::Extend, 2) => Fault::LoseAnswer(DriverError::Timeout("no answer".into())),
            (Kind::Extend, 3) => Fault::Entry(4, EntryError::LeaseLost("it is old".into())),
            _ => Fault::None,
        }
    });
    rig.sink.down.store(false, Ordering::Relaxed);
    let up = rig.world.elapsed();
    rig.until("all but one", || seen.count() == 79).await;
    assert!(rig.world.elapsed().saturating_sub(up) < MINUTE, "{:?}", rig.world.elapsed());
    let tried: usize = rig
        .queue
        .calls(Kind::Extend)
        .iter()
        .filter(|call| call.at > up)
        .map(|call| call.size)
        .sum();
    assert_eq!(tried, 80, "each once");
    assert_eq!(running.status.snapshot().totals.recalled, 69, "as far as anybody has told");
    rig.until_empty().await;
    assert!(rig.world.elapsed() < Duration::from_secs(310), "the last one comes by itself");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sinks_own_time_and_a_messages_own_wish_are_kept() {
    let rig = Rig::new();
    season(&rig, 0..2, 7).await;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let (starts, world) = (Arc::clone(&starts), Arc::clone(&rig.world));
        move |delivery| {
            let id = delivery.message.0;
            let mut starts = starts.lock().unwrap();
            let nth = starts.iter().filter(|(other, _)| *other == id).count();
            starts.push((id, world.elapsed()));
            async move {
                match (id, nth) {
                    (0, 0) => Err(Failure::RetryAfter(
                        Error::infrastructure(errors::DATABASE_UNAVAILABLE, "quota"),
                        Duration::from_secs(100),
                    )),
                    (1, 0) => Err(Failure::Snooze(Duration::from_secs(600))),
                    _ => Ok(()),
                }
            }
        }
    });
    rig.until("started", || starts.lock().unwrap().len() == 2).await;
    // Something is handled: the trouble is over.
    rig.fill(2..3);
    rig.until_empty().await;
    let second = |id| {
        let starts = starts.lock().unwrap();
        let of: Vec<_> =
            starts.iter().filter(|(other, _)| *other == id).map(|(_, at)| *at).collect();
        of[1].saturating_sub(of[0])
    };
    let (named, snoozed) = (second(0), second(1));
    assert!((100 * SECOND..105 * SECOND).contains(&named), "called back, not before: {named:?}");
    assert!((600 * SECOND..605 * SECOND).contains(&snoozed), "not called back: {snoozed:?}");
    assert_eq!(running.status.snapshot().totals.recalled, 1);
    running.stop().await;
}

/// Its errors look like an outage, and everybody else's messages say that there is none.
#[tokio::test(start_paused = true)]
async fn one_that_is_itself_to_blame_stays_below_the_redrive_count_for_half_an_hour() {
    let rig = Rig::new();
    rig.fill(0..1);
    let (running, seen) = rig.start_noting(|delivery| async move {
        if delivery.message.0 == 0 { Err(infrastructure("no answer")) } else { Ok(()) }
    });
    for id in 1..=1_800 {
        tokio::time::sleep(SECOND).await;
        rig.fill(id..id + 1);
    }
    let tries = seen.all().iter().filter(|id| **id == 0).count();
    let most = usize::try_from(RECEIVES_MAX).unwrap() + 13;
    assert!(tries > 10 && tries < most, "{tries} tries in half an hour");
    let recalled = running.status.snapshot().totals.recalled;
    assert!(recalled > 0 && recalled < u64::from(RECEIVES_MAX), "{recalled} calls back");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

/// Trouble that opens no breaker: it is over when nothing has failed for a while and something was
/// handled since.
#[tokio::test(start_paused = true)]
async fn a_few_errors_are_over_when_it_was_quiet() {
    let rig = Rig::new();
    season(&rig, 0..1, 7).await;
    let failed = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let (failed, world) = (Arc::clone(&failed), Arc::clone(&rig.world));
        move |_| {
            let fails = world.elapsed() < 20 * SECOND;
            if fails {
                failed.lock().unwrap().push(world.elapsed());
            }
            async move { if fails { Err(infrastructure("timeout")) } else { Ok(()) } }
        }
    });
    // Every few seconds one more fails, then one is handled.
    for id in 1..8 {
        tokio::time::sleep(3 * SECOND).await;
        rig.fill(id..id + 1);
    }
    let last = *failed.lock().unwrap().last().unwrap();
    rig.until("called back", || running.status.snapshot().totals.recalled > 0).await;
    let quiet = rig.world.elapsed().saturating_sub(last);
    assert!(quiet >= QUIET && quiet < QUIET + 4 * SECOND, "{quiet:?}");
    rig.until_empty().await;
    assert!(rig.world.elapsed() < 35 * SECOND, "{:?}", rig.world.elapsed());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_called_back_in_one_call_and_keeps_its_order() {
    let mut rig = FifoRig::new();
    rig.probed = true;
    for group in 1..=4 {
        rig.fill(group, 5);
    }
    // As often as is not yet taken for a crash loop; the pauses are 80 to 160 s.
    hand_round(&rig.queue, 5);
    rig.sink.down.store(true, Ordering::Relaxed);
    let sink = Arc::clone(&rig.sink);
    let running = rig.start(move |_| {
        let sink = Arc::clone(&sink);
        async move {
            tokio::time::sleep(SECOND).await;
            if sink.down.load(Ordering::Relaxed) { Err(infrastructure("down")) } else { Ok(()) }
        }
    });
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(running.status.snapshot().postponed, 20);
    rig.sink.down.store(false, Ordering::Relaxed);
    let up = rig.world.elapsed();
    rig.until_empty().await;
    assert!(rig.world.elapsed().saturating_sub(up) < MINUTE, "{:?}", rig.world.elapsed());
    for group in 1..=4 {
        let expected: Vec<u64> = (0..5).map(|n| group * 1_000 + n).collect();
        assert_eq!(rig.book.done_of(group), expected);
    }
    let back: Vec<_> = rig.queue.calls(Kind::Extend).into_iter().filter(|c| c.at > up).collect();
    assert!(back.iter().all(|call| call.size % 5 == 0), "whole groups: {back:?}");
    let same = |five: &[u64]| five.iter().all(|seconds| *seconds == five[0]);
    assert!(back.iter().all(|call| call.seconds.chunks(5).all(same)), "for one time: {back:?}");
    assert_eq!(running.status.snapshot().totals.recalled, 20);
    running.stop().await;
}
