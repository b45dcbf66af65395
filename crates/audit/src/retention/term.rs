//! How long something is kept: an ISO 8601 duration of years, months, weeks and days, in the calendar
//! of UTC. It knows no hours: retention is a matter of days, and a day of UTC has no other length.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Longest term: a hundred years.
const YEARS_MAX: u32 = 100;
const MONTHS_MAX: u32 = YEARS_MAX * 12;
const DAYS_MAX: u32 = YEARS_MAX * 365 + YEARS_MAX / 4;
/// Days by which the end of a month can move a date back: 31 January and a month is 28 February.
const CLAMP_DAYS: i64 = 3;

/// A span of the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term {
    months: u32,
    days: u32,
}

impl Term {
    /// No time at all.
    pub const ZERO: Self = Self { months: 0, days: 0 };

    /// So many days.
    pub const fn of_days(days: u32) -> Self {
        Self { months: 0, days }
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.months == 0 && self.days == 0
    }

    /// When a term that starts then is over. Months first: a day that the month does not have becomes
    /// its last one. A date beyond the calendar is the calendar's end.
    pub fn after(self, start: DateTime<Utc>) -> DateTime<Utc> {
        start
            .checked_add_months(Months::new(self.months))
            .and_then(|at| at.checked_add_days(Days::new(self.days.into())))
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// A time such that no term which starts at it or later is over by `end`. A few days late where
    /// months are of different length: who asks looks at each start again, by [`Self::after`].
    pub fn starts_before(self, end: DateTime<Utc>) -> DateTime<Utc> {
        let clamp = if self.months == 0 { TimeDelta::zero() } else { TimeDelta::days(CLAMP_DAYS) };
        end.checked_sub_days(Days::new(self.days.into()))
            .and_then(|at| at.checked_sub_months(Months::new(self.months)))
            .and_then(|at| at.checked_add_signed(clamp))
            // The end itself is over by then, and PostgreSQL counts microseconds.
            .and_then(|at| at.checked_add_signed(TimeDelta::microseconds(1)))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// Whether it ends at or after `other`, wherever in the calendar both start.
    pub const fn covers(self, other: Self) -> bool {
        self.months >= other.months && self.days >= other.days
    }

    /// Whether there is a day on which it would end before `other`, when both start there.
    pub fn is_ever_shorter_than(self, other: Self) -> bool {
        if self.covers(other) {
            return false;
        }
        // A leap year and the three years after it: every length that a span of months can have,
        // but for centuries without a leap day, which are a day shorter for both.
        let first = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(365 * 2);
        (0..=4 * 365)
            .map(|day| first + TimeDelta::days(day))
            .any(|start| self.after(start) < other.after(start))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("PT0S");
        }
        f.write_str("P")?;
        for (count, unit) in [(self.months / 12, 'Y'), (self.months % 12, 'M'), (self.days, 'D')] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl From<Term> for String {
    fn from(term: Term) -> Self {
        term.to_string()
    }
}

/// A text that is no term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an ISO 8601 duration of years, months, weeks and days, at most {YEARS_MAX} years, \
     e.g. P90D, P18M or P7Y"
)]
pub struct NoTerm;

impl TryFrom<String> for Term {
    type Error = NoTerm;
    fn try_from(text: String) -> Result<Self, NoTerm> {
        text.parse()
    }
}

impl FromStr for Term {
    type Err = NoTerm;

    fn from_str(text: &str) -> Result<Self, NoTerm> {
        if text == "PT0S" {
            return Ok(Self::ZERO);
        }
        let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or(NoTerm)?;
        let (mut months, mut days) = (0_u32, 0_u32);
        let mut units = "YMWD".chars();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (count, tail) = rest.split_at(digits);
            // Five digits at most: more than a century of days, and no overflow below.
            let count: u32 =
                if digits <= 5 { count.parse().map_err(|_| NoTerm)? } else { return Err(NoTerm) };
            let mut tail = tail.chars();
            let unit = tail.next().ok_or(NoTerm)?;
            // In this order and each once.
            if !units.any(|known| known == unit) {
                return Err(NoTerm);
            }
            match unit {
                'Y' => months += count * 12,
                'M' => months += count,
                'W' => days += count * 7,
                _ => days += count,
            }
            rest = tail.as_str();
        }
        if months > MONTHS_MAX || days > DAYS_MAX {
            return Err(NoTerm);
        }
        Ok(Self { months, days })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn term(text: &str) -> Term {
        text.parse().unwrap()
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        for (start, text, end) in [
            ("2026-01-31T10:00:00Z", "P1M", "2026-02-28T10:00:00Z"),
            ("2028-01-31T10:00:00Z", "P1M", "2028-02-29T10:00:00Z"),
            ("2028-02-29T00:00:00Z", "P1Y", "2029-02-28T00:00:00Z"),
            ("2026-01-31T00:00:00Z", "P1M1D", "2026-03-01T00:00:00Z"),
            ("2026-03-28T23:30:00Z", "P2D", "2026-03-30T23:30:00Z"),
            ("2026-01-01T00:00:00.000001Z", "P90D", "2026-04-01T00:00:00.000001Z"),
            ("2026-01-01T00:00:00Z", "P2W", "2026-01-15T00:00:00Z"),
            ("2026-01-01T00:00:00Z", "PT0S", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(term(text).after(at(start)), at(end), "{start} {text}");
        }
        assert_eq!(term("P100Y").after(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn a_term_has_one_way_to_be_written() {
        for (text, same) in [
            ("P90D", "P90D"),
            ("P2W", "P14D"),
            ("P18M", "P1Y6M"),
            ("P1Y2M3W4D", "P1Y2M25D"),
            ("P0D", "PT0S"),
            ("P100Y", "P100Y"),
            ("P36525D", "P36525D"),
        ] {
            assert_eq!(term(text).to_string(), same);
            assert_eq!(term(same), term(text));
        }
        for bad in [
            "", "P", "90D", "P1", "PD", "P1H", "PT1H", "P1DT1H", "PT0", "P1D1D", "P1D1Y", "P-1D",
            "P1.5D", "P101Y", "P1201M", "P36526D", "P99999Y", "P100000D", "P1Y ", "p1y", "P١D",
        ] {
            assert_eq!(bad.parse::<Term>(), Err(NoTerm), "{bad:?}");
        }
    }

    #[test]
    fn shorter_somewhere_is_shorter() {
        for (one, other, shorter) in [
            ("P30D", "P1M", true),
            ("P31D", "P1M", false),
            ("P1M", "P28D", false),
            ("P1M", "P29D", true),
            ("P365D", "P1Y", true),
            ("P366D", "P1Y", false),
            ("P1Y", "P365D", false),
            ("P1Y", "P1Y", false),
            ("PT0S", "P1D", true),
        ] {
            assert_eq!(term(one).is_ever_shorter_than(term(other)), shorter, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn what_starts_later_is_not_over(
            months in 0_u32..1_200, days in 0_u32..5_000, minutes in 0_i64..4_000 * 1_440,
            later in 0_i64..200_000,
        ) {
            let term = Term { months, days };
            prop_assert_eq!(term.to_string().parse::<Term>(), Ok(term));
            let end = DateTime::UNIX_EPOCH + TimeDelta::days(365 * 130) + TimeDelta::minutes(minutes);
            let bound = term.starts_before(end);
            prop_assert!(term.after(bound + TimeDelta::minutes(later)) > end);
            // Not far off either.
            prop_assert!(term.after(bound - TimeDelta::days(CLAMP_DAYS * 2 + 1)) <= end);
        }

        #[test]
        fn a_longer_term_never_ends_sooner(
            a in (0_u32..40, 0_u32..100), more in (0_u32..40, 0_u32..100), day in 0_i64..4_000,
        ) {
            let short = Term { months: a.0, days: a.1 };
            let long = Term { months: a.0 + more.0, days: a.1 + more.1 };
            let start = DateTime::UNIX_EPOCH + TimeDelta::days(day);
            prop_assert!(long.covers(short) && long.after(start) >= short.after(start));
            prop_assert!(!long.is_ever_shorter_than(short));
        }
    }
}
