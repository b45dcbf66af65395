//! The unit an index covers: one retention class and one month of `recorded_at`. Deterministic, so
//! that a redelivered log lands where it was first written.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use contracts::RetentionClass;

/// A calendar month, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

impl Month {
    /// The month that holds `at`.
    pub fn of(at: DateTime<Utc>) -> Self {
        let date = at.date_naive();
        Self(date.with_day(1).unwrap_or(date))
    }

    /// Its first instant, inclusive.
    pub fn start(self) -> DateTime<Utc> {
        self.0.and_time(chrono::NaiveTime::MIN).and_utc()
    }

    /// The first instant after it, exclusive.
    pub fn end(self) -> DateTime<Utc> {
        let next = self.0.checked_add_months(chrono::Months::new(1)).unwrap_or(NaiveDate::MAX);
        next.and_time(chrono::NaiveTime::MIN).and_utc()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}.{:02}", self.0.year(), self.0.month())
    }
}

/// What one index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The retention class.
    pub class: RetentionClass,
    /// The month of `recorded_at`.
    pub month: Month,
}

impl Partition {
    /// Where a log of that class and time is kept.
    pub fn of(class: RetentionClass, recorded_at: DateTime<Utc>) -> Self {
        Self { class, month: Month::of(recorded_at) }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.class, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::Partition;
    use contracts::RetentionClass;

    #[test]
    fn a_month_is_half_open_in_utc() {
        let at = "2026-12-31T23:59:59.999999Z".parse().unwrap();
        let partition = Partition::of(RetentionClass::Days30, at);
        assert_eq!(partition.to_string(), "30d-2026.12");
        assert_eq!(partition.month.start().to_rfc3339(), "2026-12-01T00:00:00+00:00");
        assert_eq!(partition.month.end().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert!(partition.month.start() <= at && at < partition.month.end());
    }
}
