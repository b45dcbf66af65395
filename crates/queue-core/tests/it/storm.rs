//! Everything at once, by seed: duplicates, lost answers, throttles, lost leases, slow and hung
//! handlers, panics, sink outages, drains and crashes at random times. What must hold whatever the
//! order: no message is lost, none is acknowledged before success, permits come back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::{DriverError, EntryError, Failure, Reason};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::broker_driver::{Call, Fault, Kind};
use crate::rig::{Rig, Running, handling, infrastructure};

const MESSAGES: u64 = 60;
/// A storm rages this long; then the sky is clear.
const STORM: Duration = Duration::from_secs(1_800);

#[derive(Default)]
struct Ledger {
    succeeded: Mutex<BTreeSet<u64>>,
    clear: AtomicBool,
}

fn fault(random: &mut StdRng, call: &Call) -> Fault {
    let error = || match call.size % 3 {
        0 => DriverError::Throttled("slow down".into()),
        1 => DriverError::Timeout("no answer".into()),
        _ => DriverError::Unavailable("down".into()),
    };
    match (call.kind, random.random_range(0..100)) {
        (Kind::Receive, 0..8) => Fault::Duplicate,
        (_, 12..20) => Fault::Refuse(error()),
        (_, 20..26) => Fault::Slow(Duration::from_millis(random.random_range(1..4_000))),
        (_, 26..32) => Fault::LoseAnswer(error()),
        (Kind::Settle | Kind::Extend | Kind::Send, 32..40) => {
            Fault::Entry(random.random_range(0..call.size), EntryError::Transient("again".into()))
        }
        (_, 40) => Fault::Hang,
        (Kind::Receive, 41) => Fault::Panic,
        _ => Fault::None,
    }
}

fn script(rig: &Rig, seed: u64, ledger: &Arc<Ledger>) {
    for (queue, salt) in [(&rig.queue, 1), (&rig.dlq, 2)] {
        let mut random = StdRng::seed_from_u64(seed ^ (salt << 32));
        let ledger = Arc::clone(ledger);
        queue.script(move |call| {
            if ledger.clear.load(Ordering::Relaxed) {
                Fault::None
            } else {
                fault(&mut random, call)
            }
        });
    }
}

fn start(rig: &Rig, random: &Arc<Mutex<StdRng>>, ledger: &Arc<Ledger>) -> Running {
    let (random, ledger, sink) = (Arc::clone(random), Arc::clone(ledger), Arc::clone(&rig.sink));
    rig.start(move |delivery| {
        let clear = ledger.clear.load(Ordering::Relaxed);
        let (dice, slow) = {
            let mut random = random.lock().unwrap();
            (random.random_range(0..100), random.random_range(0..60_000))
        };
        let (ledger, sink) = (Arc::clone(&ledger), Arc::clone(&sink));
        async move {
            let id = delivery.message.0;
            if id % 20 == 19 {
                let message = "never".into();
                return Err(Failure::Reject(Reason { code: errors::REJECTED_BY_STORE, message }));
            }
            if !clear {
                tokio::time::sleep(Duration::from_millis(slow / (1 + dice))).await;
                if sink.down.load(Ordering::Relaxed) {
                    return Err(infrastructure("connection refused"));
                }
                match dice {
                    0..4 => return Err(handling("bad luck")),
                    4..8 => return Err(infrastructure("timeout")),
                    8..10 => return Err(Failure::Snooze(Duration::from_secs(slow / 1_000))),
                    10 => panic!("bad luck"),
                    11 => std::future::pending().await,
                    _ => {}
                }
            }
            ledger.succeeded.lock().unwrap().insert(id);
            Ok(())
        }
    })
}

async fn rage(seed: u64) {
    let mut rig = Rig::seeded(seed);
    rig.probed = true;
    rig.config.concurrency = 1 + usize::try_from(seed % 37).unwrap();
    rig.config.progress_timeout = Duration::from_secs(90);
    // From one message at a time to more than all of them.
    rig.config.bytes_in_hand_max = 1 << (16 + seed % 9);
    let ledger = Arc::new(Ledger::default());
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    script(&rig, seed, &ledger);
    rig.fill(0..MESSAGES);
    let mut running = start(&rig, &random, &ledger);
    while rig.world.elapsed() < STORM {
        let (pause, dice) = {
            let mut random = random.lock().unwrap();
            (random.random_range(1..90), random.random_range(0..10))
        };
        tokio::time::sleep(Duration::from_secs(pause)).await;
        match dice {
            0 => {
                let report = running.stop().await;
                assert!(report.took <= rig.config.drain_budget, "seed {seed}: {report:?}");
                running = start(&rig, &random, &ledger);
            }
            1 => {
                running.crash().await;
                running = start(&rig, &random, &ledger);
            }
            2 | 3 => rig.sink.down.store(dice == 2, Ordering::Relaxed),
            4 => {
                // Another consumer takes a message and dies.
                rig.queue.take(1, Duration::from_secs(5));
            }
            _ => {}
        }
    }
    ledger.clear.store(true, Ordering::Relaxed);
    rig.sink.down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    settled(&rig, &running, &ledger, seed).await;
    running.stop().await;
}

/// What must hold at the end.
async fn settled(rig: &Rig, running: &Running, ledger: &Ledger, seed: u64) {
    let mut ended = ledger.succeeded.lock().unwrap().clone();
    for letter in rig.letters() {
        assert!(!letter.message.is_empty(), "seed {seed}: a dead letter without a reason");
        let id: u64 = serde_json::from_str::<serde_json::Value>(&letter.body).unwrap()["body"]
            .as_u64()
            .unwrap();
        match letter.code.as_str() {
            "rejected-by-store" => assert_eq!(id % 20, 19, "seed {seed}"),
            "failures-exhausted" => assert_eq!(letter.failures, 3, "seed {seed}: {letter:?}"),
            "crash-loop" => {}
            other => panic!("seed {seed}: {other}"),
        }
        ended.insert(id);
    }
    assert_eq!(ended, (0..MESSAGES).collect(), "seed {seed}: each was handled or dead-lettered");
    // All permits are back: an idle engine asks for a full batch.
    rig.until("nothing in hand", || running.status.snapshot().in_flight == 0).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = rig.queue.calls(Kind::Receive).last().unwrap().size;
    let fit = (rig.config.bytes_in_hand_max >> 20).max(1);
    assert_eq!(asked, rig.config.concurrency.min(10).min(fit), "seed {seed}: a permit leaked");
    assert_eq!(running.status.snapshot().leases, 0, "seed {seed}");
}

#[test]
fn whatever_happens_no_message_is_lost() {
    // `STORM_SEED=7` repeats one, `STORM_SEEDS=500` tries more.
    let number = |name: &str| -> Option<u64> { std::env::var_os(name)?.to_str()?.parse().ok() };
    let seeds = match number("STORM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STORM_SEEDS").unwrap_or(24),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        eprintln!("seed {seed}");
        runtime.block_on(rage(seed));
    }
}
