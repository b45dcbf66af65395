//! The engine against the broker under virtual time, by seed. A seed is a world of a few messages and
//! processes and a plan of faults: duplicates and reordering, ghost receives, throttles, lost and late
//! answers, failed entries, hung calls, slow, hung, failing and panicking handlers, leases taken away,
//! crashes, drains, sink outages, clock jumps. What must hold whatever happens stands in `invariants`.
//!
//! `SIM_SEED=7` repeats one seed and prints what happened, `SIM_SEEDS=10000` tries more from
//! `SIM_FROM` on, `SIM_UNTIL=effect-once` goes on until that invariant breaks.

mod effects;
mod faults;
mod invariants;
mod known;
mod parking;
mod plan;
mod port;
mod process;
mod run;
mod sink;
mod stores;
mod time;
mod trace;
mod worker;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plan::Plan;
use run::{Outcome, run};

/// Seeds that every test run tries.
const SEEDS: u64 = 300;

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

fn number(name: &str) -> Option<u64> {
    variable(name)?.parse().ok()
}

/// What a seed broke: each invariant's name and how.
fn broken(seed: u64) -> Vec<(&'static str, String)> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| run(Plan::of(seed)))) {
        Ok(outcome) => told(&outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            vec![("panic", text.unwrap_or_else(|| "without text".into()))]
        }
    }
}

fn told(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let violations = outcome.violations.iter();
    violations.map(|broken| (broken.invariant.name(), broken.text.clone())).collect()
}

#[test]
fn whatever_happens_every_promise_holds() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = run(Plan::of(seed));
        outcome.trace.iter().for_each(|event| println!("{event}"));
        assert_eq!(told(&outcome), [], "seed {seed}");
        return;
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let to = from + number("SIM_SEEDS").unwrap_or(SEEDS);
    let (until, progress) = (variable("SIM_UNTIL"), variable("SIM_PROGRESS").is_some());
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        return;
                    }
                    if progress && (seed - from).is_multiple_of(50) {
                        println!("tried {}", seed - from);
                    }
                    let broken = broken(seed);
                    let ends = until.as_ref().map_or(!broken.is_empty(), |wanted| {
                        broken.iter().any(|(name, _)| name == wanted)
                    });
                    stop.fetch_or(ends, Ordering::Relaxed);
                    failed.lock().unwrap().extend(broken.into_iter().map(|what| (seed, what)));
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for (seed, (name, text)) in &failed {
        println!("seed {seed} breaks `{name}`: {text}");
    }
    let tried = next.load(Ordering::Relaxed).min(to) - from;
    println!("{tried} seeds tried from {from} on");
    let Some((seed, (name, _))) = failed.first() else { return };
    panic!(
        "seed {seed} breaks `{name}`; to see how:\n  SIM_SEED={seed} cargo test -p queue-core \
         --test it whatever_happens_every_promise_holds -- --nocapture"
    );
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 0..20 {
        let (first, second) = (run(Plan::of(seed)), run(Plan::of(seed)));
        let differs = first.trace.iter().zip(&second.trace).find(|(one, other)| one != other);
        assert!(differs.is_none(), "seed {seed}: {differs:?}");
        assert_eq!(first, second);
    }
}

#[test]
fn a_process_that_dies_at_any_await_loses_and_doubles_nothing() {
    for seed in 0..3 {
        let healthy = run(Plan::quiet(seed));
        assert_eq!(told(&healthy), [], "seed {seed}");
        assert!(healthy.steps > 50, "seed {seed}: {} awaits", healthy.steps);
        for at in 0..healthy.steps {
            let outcome = run(Plan { crash_at: vec![at], ..Plan::quiet(seed) });
            if !outcome.violations.is_empty() {
                outcome.trace.iter().for_each(|event| println!("{event}"));
            }
            assert_eq!(told(&outcome), [], "seed {seed}, await {at}");
        }
    }
}
