//! Which of a schedule's times has come: after a pause only the latest one, since one run does what all
//! would have done. Pure; it never names a time twice, whatever the clock does.

use chrono::{DateTime, TimeDelta, Utc};

use super::policy::Schedule;

/// How far back a time is looked for, step by step: the nearer steps spare the walk through the others.
const BACK: [TimeDelta; 5] = [
    TimeDelta::hours(1),
    TimeDelta::days(1),
    TimeDelta::days(32),
    TimeDelta::days(366),
    // The 29th of February, around a year like 1900 or 2100.
    TimeDelta::days(366 * 8),
];

/// What a schedule says at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The latest slot that has come since the last one.
    pub slot: Option<DateTime<Utc>>,
    /// When the next one comes; `None`: never.
    pub next: Option<DateTime<Utc>>,
}

/// Looks at a schedule. `since`: slots up to it are done.
pub fn look(schedule: &Schedule, since: DateTime<Utc>, now: DateTime<Utc>) -> Looked {
    // Where the clock has gone back, what lies behind `since` is still to come.
    let Some(next) = schedule.next(now.max(since)) else {
        // A schedule names no year: what never comes never came.
        return Looked { slot: None, next: None };
    };
    let slot = BACK.into_iter().find_map(|back| latest(schedule, since.max(now - back), now));
    Looked { slot, next: Some(next) }
}

fn latest(schedule: &Schedule, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut latest = None;
    let mut at = after;
    while let Some(slot) = schedule.next(at).filter(|slot| *slot <= now && *slot > at) {
        latest = Some(slot);
        at = slot;
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule { cron: cron.into(), time_zone: zone.into() }
    }

    /// Every slot between two times, as a scheduler that never sleeps would name them.
    fn all(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let mut slots = Vec::new();
        let mut at = from;
        while let Some(slot) = schedule.next(at).filter(|slot| *slot <= to) {
            assert!(slot > at, "{slot} does not come after {at}");
            slots.push(slot);
            at = slot;
        }
        slots
    }

    #[test]
    fn after_a_pause_only_the_latest_slot_is_named() {
        let nightly = schedule("0 3 * * *", "UTC");
        let looked = look(&nightly, at("2026-01-01T03:00:00Z"), at("2026-01-20T12:00:00Z"));
        let next = Some(at("2026-01-21T03:00:00Z"));
        assert_eq!(looked, Looked { slot: Some(at("2026-01-20T03:00:00Z")), next });
        let looked = look(&nightly, at("2026-01-20T03:00:00Z"), at("2026-01-20T12:00:00Z"));
        assert_eq!(looked, Looked { slot: None, next });
    }

    #[test]
    fn a_schedule_that_never_fires_ends() {
        for cron in ["0 3 31 2 *", "0 3 30 2 *", "0 0 31 4,6,9,11 *"] {
            let never = schedule(cron, "UTC");
            let looked = look(&never, at("2020-01-01T00:00:00Z"), at("2026-01-20T12:00:00Z"));
            assert_eq!(looked, Looked { slot: None, next: None }, "{cron}");
        }
        let leap = schedule("0 3 29 2 *", "UTC");
        let looked = look(&leap, at("2020-03-01T00:00:00Z"), at("2026-01-20T12:00:00Z"));
        assert_eq!(looked.slot, Some(at("2024-02-29T03:00:00Z")));
        assert_eq!(looked.next, Some(at("2028-02-29T03:00:00Z")));
    }

    /// 02:30 does not exist on the last Sunday of March and is there twice on that of October.
    #[test]
    fn a_nightly_slot_comes_once_a_night_also_when_the_clocks_change() {
        for (zone, cron) in [
            ("Europe/Berlin", "30 2 * * *"),
            ("America/New_York", "30 1 * * *"),
            ("America/New_York", "30 2 * * *"),
            ("Australia/Lord_Howe", "45 1 * * *"),
            ("UTC", "30 2 * * *"),
        ] {
            let nightly = schedule(cron, zone);
            let slots = all(&nightly, at("2026-01-01T12:00:00Z"), at("2027-01-01T12:00:00Z"));
            assert_eq!(slots.len(), 365, "{zone} {cron}");
            for pair in slots.windows(2) {
                let apart = pair[1] - pair[0];
                let night = TimeDelta::hours(22)..=TimeDelta::hours(26);
                assert!(night.contains(&apart), "{zone} {cron}: {pair:?}");
            }
        }
    }

    fn schedules() -> impl Strategy<Value = Schedule> {
        let crons =
            ["*/20 * * * *", "*/7 * * * *", "30 2 * * *", "0 3 * * 1", "15 4 1 * *", "0 0 31 * *"];
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"];
        (prop::sample::select(crons.to_vec()), prop::sample::select(zones.to_vec()))
            .prop_map(|(cron, zone)| schedule(cron, zone))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whenever somebody looks, forwards and backwards: no slot twice, none before its time, and the
        /// latest of those that came is never left out.
        #[test]
        fn however_the_clock_goes_no_slot_is_named_twice(
            schedule in schedules(),
            start in 0_i64..700,
            steps in prop::collection::vec(-900_i64..2_000, 1..10),
        ) {
            let mut now = at("2026-01-01T00:00:00Z") + TimeDelta::hours(start * 12);
            let mut last = now;
            for minutes in steps {
                now += TimeDelta::minutes(minutes);
                let looked = look(&schedule, last, now);
                let expected = all(&schedule, last, now).last().copied();
                prop_assert_eq!(looked.slot, expected);
                if let Some(slot) = looked.slot {
                    prop_assert!(slot > last && slot <= now);
                    last = slot;
                }
                prop_assert!(looked.next.is_none_or(|next| next > last && next > now));
            }
        }
    }
}
