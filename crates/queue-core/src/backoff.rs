//! Intervals between attempts: the `backoff` crate computes them (randomization factor 0, no elapsed
//! limit), our own seeded full jitter goes on top, and the broker gets whole seconds, rounded up.
//! The only module that names that crate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::backoff::backoff::Backoff;
use ::backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use contracts::Schedule;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Doublings after which every schedule has reached its ceiling: 2^40 base intervals.
const DOUBLINGS_MAX: u32 = 40;

/// Backoff of what failed through no fault of the message, never less than half of the interval: see
/// [`infrastructure`].
///
/// By receives, since receives are what the queue's redrive counts (25), also those of a fleet whose
/// breakers are of no help: the sink answers its probe and takes nothing. Half an hour of that has to
/// stay below 25 for every message, however the dice fall. The pauses are at least 3, 5, 10, 20, 40
/// and 80 s and then 150 s each: the 17th receive comes after 1,658 s at the earliest, the 18th after
/// 1,808 s, so half an hour costs 17. With 240 s it would cost 20, with 120 s the 25 would not last.
/// Without the half (full jitter) even 600 s is no bound, only unlikely to be passed.
///
/// It is also how late a message comes back when the process that postponed it has died; one that
/// lives calls it back as soon as the cause is over: see [`crate::recall`].
pub const INFRASTRUCTURE: Schedule = Schedule {
    base: Duration::from_secs(5),
    ceiling: Duration::from_secs(300),
    failures_max: u32::MAX,
};

/// The shortest and the longest pause of that backoff after so many receives.
pub fn infrastructure(receives: u32) -> (Duration, Duration) {
    let longest = interval(&INFRASTRUCTURE, receives);
    (longest / 2, longest)
}

/// Backoff of what lost a race in a sink: by receives, since it is likely to win the next one.
pub const CONTENTION: Schedule = Schedule {
    base: Duration::from_secs(1),
    ceiling: Duration::from_secs(60),
    failures_max: u32::MAX,
};

/// The interval before attempt `nth + 1`, without jitter: `base` for 1, doubling up to `ceiling`.
pub fn interval(schedule: &Schedule, nth: u32) -> Duration {
    let mut intervals: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(schedule.base)
        .with_randomization_factor(0.0)
        .with_multiplier(2.0)
        .with_max_interval(schedule.ceiling)
        .with_max_elapsed_time(None)
        .build();
    let mut interval = schedule.base;
    for _ in 0..nth.clamp(1, DOUBLINGS_MAX) {
        interval = intervals.next_backoff().unwrap_or(schedule.ceiling);
    }
    interval.min(schedule.ceiling)
}

/// Rounds up to whole seconds, the unit of SQS.
pub fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

/// Full jitter from one seeded generator, so that a run can be repeated.
#[derive(Debug)]
pub struct Jitter {
    random: Mutex<StdRng>,
}

impl Jitter {
    /// With a seed, the same draws again; without, unlike any other process.
    pub fn new(seed: Option<u64>) -> Self {
        let random = seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        Self { random: Mutex::new(random) }
    }

    /// Anything from nothing to `interval`.
    pub fn full(&self, interval: Duration) -> Duration {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(random.random_range(0..=nanos))
    }

    /// A delay for the broker: anything from `at_least` to `interval`, or `at_least` where that is
    /// longer; whole seconds rounded up, at least one.
    pub fn delay(&self, interval: Duration, at_least: Duration) -> Duration {
        let over = self.full(interval.saturating_sub(at_least));
        whole_seconds(at_least + over).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_base_to_ceiling_without_randomness() {
        let schedule = Schedule::STANDARD;
        let seconds: Vec<f64> =
            (0..=11).map(|nth| interval(&schedule, nth).as_secs_f64()).collect();
        assert_eq!(
            seconds,
            [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0]
        );
        assert_eq!(interval(&schedule, u32::MAX), schedule.ceiling, "never ends");
        let low = Schedule { ceiling: Duration::from_millis(300), ..schedule };
        assert_eq!(interval(&low, 1), low.ceiling, "the first is not above it either");
    }

    #[test]
    fn rounds_up_to_whole_seconds() {
        for (given, expected) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(given)), Duration::from_secs(expected));
        }
    }

    #[test]
    fn jitter_is_full_seeded_and_floored() {
        let interval = Duration::from_secs(100);
        let draws = |seed| {
            let jitter = Jitter::new(Some(seed));
            (0..1_000).map(|_| jitter.delay(interval, Duration::ZERO).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7), "a seed repeats a run");
        assert_ne!(draws(7), draws(8));
        let (low, high) = (draws(7).into_iter().min(), draws(7).into_iter().max());
        assert!(low <= Some(3) && high >= Some(97), "over the whole interval: {low:?} to {high:?}");
        assert!(draws(7).iter().all(|delay| (1..=100).contains(delay)));
        let jitter = Jitter::new(Some(1));
        assert!(jitter.delay(interval, Duration::from_secs(200)) == Duration::from_secs(200));
        assert_eq!(jitter.delay(Duration::ZERO, Duration::ZERO), Duration::from_secs(1));
        let floored: Vec<_> = (0..1_000).map(|_| jitter.delay(interval, interval / 2)).collect();
        let at_floor = floored.iter().filter(|delay| **delay <= interval / 2).count();
        assert!(floored.iter().all(|delay| (interval / 2..=interval).contains(delay)));
        assert!(at_floor < 100, "spread, not heaped at the floor: {at_floor}");
    }

    #[test]
    fn half_an_hour_costs_seventeen_receives_at_most_however_the_dice_fall() {
        let (mut at, mut receives) = (Duration::ZERO, 1);
        while at <= Duration::from_secs(1_800) {
            at += whole_seconds(infrastructure(receives).0);
            receives += 1;
        }
        assert_eq!(receives - 1, 17, "the next comes after {at:?}");
    }
}
