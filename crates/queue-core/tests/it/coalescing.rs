//! Duty 11: many calls, few operations, each caller its own outcome, everything bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use queue_core::coalesce::{BisectError, bisect};
use queue_core::{CoalesceLimits, Coalescer, Full};
use tokio::sync::Semaphore;
use tokio::time::Instant;

fn limits() -> CoalesceLimits {
    CoalesceLimits {
        items_max: 10,
        bytes_max: 100,
        linger: Duration::from_millis(50),
        batches_in_flight_max: 2,
        batches_in_flight_per_key_max: usize::MAX,
        pending_bytes_max: 1_000,
        pending_bytes_per_key_max: 400,
    }
}

type Batches = Arc<Mutex<Vec<(u8, Vec<usize>)>>>;

/// A coalescer that notes its batches, takes a turn for each and answers every item with its double.
fn noting(
    limits: CoalesceLimits,
    turns: usize,
) -> (Coalescer<u8, usize, usize>, Batches, Arc<Semaphore>) {
    let (batches, turns) = (Batches::default(), Arc::new(Semaphore::new(turns)));
    let coalescer = Coalescer::new(limits, {
        let (batches, turns) = (Arc::clone(&batches), Arc::clone(&turns));
        move |key, items: Vec<usize>| {
            let (batches, turns) = (Arc::clone(&batches), Arc::clone(&turns));
            async move {
                batches.lock().unwrap().push((key, items.clone()));
                turns.acquire().await.unwrap().forget();
                items.into_iter().map(|item| item * 2).collect()
            }
        }
    });
    (coalescer, batches, turns)
}

fn sizes(batches: &Batches) -> Vec<usize> {
    batches.lock().unwrap().iter().map(|(_, items)| items.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn batches_fill_by_count_by_bytes_and_by_time() {
    let (coalescer, batches, _) = noting(limits(), 1_000);
    let started = Instant::now();
    let outcomes = join_all((0..25).map(|at| coalescer.call(1, at, 1))).await;
    let expected: Vec<_> = (0..25).map(|at| Ok(at * 2)).collect();
    assert_eq!(outcomes, expected, "each its own outcome");
    assert_eq!(sizes(&batches), [10, 10, 5]);
    assert_eq!(started.elapsed(), Duration::from_millis(50), "the last five waited for company");
    batches.lock().unwrap().clear();
    join_all((0..4).map(|at| coalescer.call(1, at, 40))).await;
    assert_eq!(sizes(&batches), [2, 2], "40 bytes each, 100 per batch");
    batches.lock().unwrap().clear();
    join_all([30, 150, 30].map(|bytes| coalescer.call(1, bytes, bytes))).await;
    assert_eq!(sizes(&batches), [1, 1, 1], "one that is too large travels alone");
}

#[tokio::test(start_paused = true)]
async fn without_linger_what_arrives_during_a_flush_forms_the_next_batch() {
    let limits = CoalesceLimits { linger: Duration::ZERO, batches_in_flight_max: 1, ..limits() };
    let (coalescer, batches, turns) = noting(limits, 0);
    let calls: Vec<_> = (0..7)
        .map(|at| {
            let coalescer = coalescer.clone();
            tokio::spawn(async move { coalescer.call(1, at, 1).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let first = sizes(&batches);
    assert_eq!(first.len(), 1, "one at a time");
    let more: Vec<_> = (7..12)
        .map(|at| {
            let coalescer = coalescer.clone();
            tokio::spawn(async move { coalescer.call(1, at, 1).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    turns.add_permits(10);
    for (at, call) in calls.into_iter().chain(more).enumerate() {
        assert_eq!(call.await.unwrap(), Ok(at * 2));
    }
    assert!(sizes(&batches).len() <= 3, "{:?}", sizes(&batches));
}

#[tokio::test(start_paused = true)]
async fn a_key_gathers_while_its_batches_are_under_way_and_leaves_slots_to_others() {
    let limits = CoalesceLimits {
        linger: Duration::ZERO,
        batches_in_flight_max: 4,
        batches_in_flight_per_key_max: 1,
        ..limits()
    };
    let (coalescer, batches, turns) = noting(limits, 0);
    let call = |key: u8, at: usize| {
        let coalescer = coalescer.clone();
        tokio::spawn(async move { coalescer.call(key, at, 1).await })
    };
    let mut calls = vec![call(1, 0)];
    tokio::time::sleep(Duration::from_millis(1)).await;
    calls.extend((1..5).map(|at| call(1, at)));
    calls.push(call(2, 5));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(sizes(&batches), [1, 1], "one of each key");
    calls.extend((6..13).map(|at| call(1, at)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(sizes(&batches), [1, 1, 10], "a full one does not wait");
    turns.add_permits(10);
    for (at, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(at * 2));
    }
    assert_eq!(sizes(&batches), [1, 1, 10, 1], "what came meanwhile travelled together");
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_apart_and_take_turns() {
    let limits = CoalesceLimits { batches_in_flight_max: 1, ..limits() };
    let (coalescer, batches, _) = noting(limits, 1_000);
    let loud = coalescer.call_many(1, (0..40).map(|at| (at, 1)).collect());
    let quiet = coalescer.call(2, 99, 1);
    let (loud, quiet) = tokio::join!(loud, quiet);
    assert_eq!(loud.unwrap(), (0..40).map(|at| at * 2).collect::<Vec<_>>());
    assert_eq!(quiet, Ok(198));
    assert!(batches.lock().unwrap().iter().all(|(key, items)| (*key == 2) == (items == &[99])));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_at_once_and_all_of_it() {
    let (coalescer, batches, turns) = noting(limits(), 0);
    let fill = |key: u8, bytes: usize| {
        let coalescer = coalescer.clone();
        tokio::spawn(async move { coalescer.call(key, 1, bytes).await })
    };
    let mut calls = vec![fill(1, 400)];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(coalescer.call(1, 1, 1).await, Err(Full::Key), "in flight counts");
    calls.extend([fill(2, 300), fill(3, 299)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(coalescer.call(2, 1, 2).await, Err(Full::Process));
    assert_eq!(coalescer.call_many(4, vec![(1, 1), (1, 1)]).await, Err(Full::Process));
    calls.push(fill(4, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(coalescer.pending_bytes(), 1_000, "just at the limit");
    turns.add_permits(10);
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(2));
    }
    assert_eq!(coalescer.pending_bytes(), 0);
    assert_eq!(sizes(&batches).iter().sum::<usize>(), 4, "nothing refused was flushed");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_take_its_item_back() {
    let (coalescer, batches, _) = noting(limits(), 1_000);
    let gone = tokio::time::timeout(Duration::from_millis(10), coalescer.call(1, 7, 1)).await;
    assert!(gone.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*batches.lock().unwrap(), [(1, vec![7])]);
    assert_eq!(coalescer.pending_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_flushes_to_empty_and_refuses_the_rest() {
    let limits = CoalesceLimits { linger: Duration::from_secs(3_600), ..limits() };
    let (coalescer, batches, _) = noting(limits, 1_000);
    let calls: Vec<_> = [1, 2, 3, 1, 3]
        .repeat(7)
        .into_iter()
        .enumerate()
        .map(|(at, key)| {
            let coalescer = coalescer.clone();
            tokio::spawn(async move { coalescer.call(key, at, 1).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    coalescer.close().await;
    assert_eq!(started.elapsed(), Duration::ZERO, "without waiting for company");
    assert_eq!(sizes(&batches).iter().sum::<usize>(), 35);
    for (at, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(at * 2));
    }
    assert_eq!(coalescer.call(1, 1, 1).await, Err(Full::Closed));
    coalescer.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_breaks_off_answers_its_callers_and_no_others() {
    let coalescer = Coalescer::new(limits(), |(), items: Vec<usize>| async move {
        assert!(!items.contains(&13), "poison");
        if items.contains(&14) { Vec::new() } else { items }
    });
    assert_eq!(coalescer.call((), 13, 1).await, Err(Full::Broken));
    assert_eq!(coalescer.call((), 14, 1).await, Err(Full::Broken));
    assert_eq!(coalescer.call((), 15, 1).await, Ok(15));
    assert_eq!(coalescer.pending_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the limits and the sizes: every admitted item is flushed exactly once, in a batch
    /// within the limits, and its caller gets its outcome.
    #[test]
    fn nothing_is_lost_or_doubled(
        items_max in 1usize..12, bytes_max in 1usize..50, linger in 0u64..20, slots in 1usize..4,
        key_slots in 1usize..4,
        sizes in prop::collection::vec((0u8..3, 0usize..30, 0u64..30), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let of_keys: Arc<[AtomicUsize; 3]> = Arc::default();
            let flushed = Arc::new(Mutex::new(Vec::new()));
            let largest = sizes.iter().map(|(_, bytes, _)| *bytes).max().unwrap_or(0);
            let limits = CoalesceLimits {
                items_max, bytes_max, linger: Duration::from_millis(linger),
                batches_in_flight_max: slots, batches_in_flight_per_key_max: key_slots,
                pending_bytes_max: usize::MAX,
                pending_bytes_per_key_max: usize::MAX,
            };
            let coalescer = Coalescer::new(limits, {
                let (running, most, flushed) =
                    (Arc::clone(&running), Arc::clone(&most), Arc::clone(&flushed));
                move |key: u8, items: Vec<(usize, usize)>| {
                    let (running, most, flushed, of_keys) =
                        (Arc::clone(&running), Arc::clone(&most), Arc::clone(&flushed), Arc::clone(&of_keys));
                    async move {
                        let of_key = &of_keys[usize::from(key)];
                        let beside = of_key.fetch_add(1, Ordering::Relaxed);
                        let weight: usize = items.iter().map(|(_, bytes)| bytes).sum();
                        // The next one may not have fitted beside these.
                        let next = weight + largest > bytes_max;
                        assert!(beside < key_slots || items.len() == items_max || next);
                        most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                        let bytes: usize = items.iter().map(|(_, bytes)| bytes).sum();
                        assert!(items.len() <= items_max && (bytes <= bytes_max || items.len() == 1));
                        tokio::time::sleep(Duration::from_millis(7)).await;
                        running.fetch_sub(1, Ordering::Relaxed);
                        of_key.fetch_sub(1, Ordering::Relaxed);
                        flushed.lock().unwrap().extend(items.iter().map(|(at, _)| *at));
                        items.into_iter().map(|(at, _)| at).collect()
                    }
                }
            });
            let calls = sizes.iter().enumerate().map(|(at, (key, bytes, after))| {
                let coalescer = coalescer.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(*after)).await;
                    coalescer.call(*key, (at, *bytes), *bytes).await
                }
            });
            let outcomes = join_all(calls).await;
            assert!(outcomes.iter().enumerate().all(|(at, outcome)| *outcome == Ok(at)));
            let mut flushed = flushed.lock().unwrap().clone();
            flushed.sort_unstable();
            assert_eq!(flushed, (0..sizes.len()).collect::<Vec<_>>());
            assert!(most.load(Ordering::Relaxed) <= slots);
            coalescer.close().await;
        });
    }

    /// Every good item succeeds, every poisoned one fails alone, in few runs.
    #[test]
    fn bisecting_finds_exactly_the_poison(poison in prop::collection::vec(any::<bool>(), 0..64)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runs = AtomicUsize::new(0);
        let items: Vec<usize> = (0..poison.len()).collect();
        let results = runtime.block_on(bisect(items, |items| {
            runs.fetch_add(1, Ordering::Relaxed);
            let bad = items.iter().any(|at| poison[*at]);
            async move { if bad { Err(BisectError::Data("bad")) } else { Ok(items) } }
        })).unwrap();
        let expected: Vec<_> =
            poison.iter().enumerate().map(|(at, bad)| if *bad { Err("bad") } else { Ok(at) }).collect();
        prop_assert_eq!(results, expected);
        let bad = poison.iter().filter(|bad| **bad).count();
        prop_assert!(runs.load(Ordering::Relaxed) <= 1 + bad * 2 * 7);
    }
}

#[tokio::test]
async fn bisecting_stops_at_an_error_of_the_whole() {
    let result = bisect(vec![1, 2, 3], |items: Vec<i32>| async move {
        if items.len() > 1 {
            Err(BisectError::Data("bad"))
        } else {
            Err(BisectError::<&str>::Whole("down"))
        }
    });
    let result: Result<Vec<Result<(), &str>>, &str> = result.await;
    assert_eq!(result, Err("down"));
}
