//! Ids, times and salts of one request's events. Events of a request are a microsecond apart, and
//! their ids rise with them, so that a bulk keeps its order among the newest.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{LogId, RetentionClass};

use crate::store::Reserved;

/// What the server adds to each event of a request.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    recorded_at: DateTime<Utc>,
    class: RetentionClass,
    ids: Vec<LogId>,
    salts: Vec<[u8; 16]>,
}

/// PostgreSQL keeps microseconds, and the record must say what the row will say.
pub(super) fn whole_micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

impl Stamps {
    /// Stamps for `count` events of a request that arrived at `recorded_at`.
    pub(super) fn new(recorded_at: DateTime<Utc>, class: RetentionClass, count: usize) -> Self {
        let ids = (0..count).map(|at| new_id(later(recorded_at, at))).collect();
        Self { recorded_at, class, ids, salts: (0..count).map(|_| rand::random()).collect() }
    }

    /// What is reserved under an idempotency key.
    pub(super) fn reservation(&self, body_sha256: [u8; 32]) -> Reserved {
        Reserved {
            body_sha256,
            ids: self.ids.clone(),
            recorded_at: self.recorded_at,
            class: self.class,
            salts: self.salts.clone(),
        }
    }

    /// Takes over what an earlier request with the same key and body reserved.
    pub(super) fn take_over(&mut self, first: Reserved) {
        self.recorded_at = first.recorded_at;
        self.class = first.class;
        // The same body has the same number of events; should an earlier build have counted
        // otherwise, what is missing keeps the new stamps.
        for (mine, theirs) in self.ids.iter_mut().zip(first.ids) {
            *mine = theirs;
        }
        for (mine, theirs) in self.salts.iter_mut().zip(first.salts) {
            *mine = theirs;
        }
    }

    pub(super) fn recorded_at(&self) -> DateTime<Utc> {
        self.recorded_at
    }

    pub(super) fn recorded_at_of(&self, at: usize) -> DateTime<Utc> {
        later(self.recorded_at, at)
    }

    pub(super) fn class(&self) -> RetentionClass {
        self.class
    }

    pub(super) fn id(&self, at: usize) -> LogId {
        self.ids[at]
    }

    pub(super) fn salt(&self, at: usize) -> [u8; 16] {
        self.salts[at]
    }
}

fn later(base: DateTime<Utc>, at: usize) -> DateTime<Utc> {
    base + TimeDelta::microseconds(i64::try_from(at).unwrap_or(0))
}

/// A `UUIDv7` whose first 12 bits after the millisecond are the fraction of it (RFC 9562, method 3).
fn new_id(recorded_at: DateTime<Utc>) -> LogId {
    let mut random: [u8; 10] = rand::random();
    let micros = recorded_at.timestamp_subsec_micros() % 1_000;
    let fraction = u16::try_from(micros * 4_096 / 1_000).unwrap_or(0).to_be_bytes();
    random[0] = (random[0] & 0xf0) | fraction[0];
    random[1] = fraction[1];
    LogId(contracts::ids::uuid_v7_at(recorded_at, random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_with_time_and_carry_its_millisecond() {
        let base: DateTime<Utc> = "2026-03-01T12:00:00.999500Z".parse().unwrap();
        let stamps = Stamps::new(base, RetentionClass::Days90, 1_000);
        for at in 0..1_000 {
            let (id, recorded_at) = (stamps.id(at), stamps.recorded_at_of(at));
            let millis = id.recorded_millis().unwrap().timestamp_millis();
            assert_eq!(millis, recorded_at.timestamp_millis());
            assert!(at == 0 || stamps.id(at - 1) < id, "order lost at {at}");
        }
    }

    #[test]
    fn a_reservation_is_taken_over_whole() {
        let mut mine = Stamps::new(later(DateTime::UNIX_EPOCH, 7), RetentionClass::Days7, 2);
        let theirs = Stamps::new(DateTime::UNIX_EPOCH, RetentionClass::Year1, 2);
        mine.take_over(theirs.reservation([0; 32]));
        assert_eq!((mine.id(1), mine.salt(1)), (theirs.id(1), theirs.salt(1)));
        assert_eq!((mine.recorded_at(), mine.class()), (theirs.recorded_at, theirs.class));
    }
}
