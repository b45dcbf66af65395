//! `Retry-After` as HTTP writes it (RFC 9110, 10.2.3): seconds, or a date in any of its three forms.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

/// What a sink may ask for at most; one that asks for more is asked again then. Half of what a lease
/// can be extended to, so that a delay always fits.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(6 * 3_600);

/// How long to wait, at most [`RETRY_AFTER_MAX`]. A date counts from the answer's own `Date`, since
/// the two were written by one clock; `now` stands in where there is none. `None` when it cannot be
/// understood.
pub fn retry_after(value: &str, date: Option<&str>, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are more than anybody means.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let until = http_date(value)?;
    let from = date.and_then(|date| http_date(date.trim())).unwrap_or(now);
    // A date that has passed means now.
    Some((until - from).to_std().unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX))
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .into_iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn seconds(value: &str, date: Option<&str>) -> Option<u64> {
        let now = "1994-11-06T08:00:00Z".parse().unwrap();
        retry_after(value, date, now).map(|delay| delay.as_secs())
    }

    #[test]
    fn seconds_and_all_three_dates() {
        assert_eq!(seconds("0", None), Some(0));
        assert_eq!(seconds(" 120 ", None), Some(120));
        let date = Some(DATE);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:37 GMT", date), Some(60));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:50:37 GMT", date), Some(60));
        assert_eq!(seconds("Sun Nov  6 08:50:37 1994", date), Some(60));
        // Without the sender's clock by ours.
        assert_eq!(seconds(DATE, None), Some(49 * 60 + 37));
        assert_eq!(seconds(DATE, Some("yesterday")), Some(49 * 60 + 37));
        assert_eq!(seconds(DATE, date), Some(0));
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT", date), Some(0), "it has passed");
    }

    #[test]
    fn nobody_is_waited_for_for_ever() {
        let most = Some(RETRY_AFTER_MAX.as_secs());
        assert_eq!(seconds("21600", None), most);
        assert_eq!(seconds("21601", None), most);
        assert_eq!(seconds("99999999999999999999999", None), most);
        assert_eq!(seconds("Mon, 06 Nov 2094 08:49:37 GMT", Some(DATE)), None, "a wrong weekday");
        assert_eq!(seconds("Sat, 06 Nov 2094 08:49:37 GMT", Some(DATE)), most);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", " ", "soon", "-1", "1.5", "10s", "Sun, 06 Nov 1994"] {
            assert_eq!(seconds(text, None), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_exceeds_the_limit(text in ".{0,60}", date in ".{0,60}") {
            if let Some(delay) = retry_after(&text, Some(&date), DateTime::UNIX_EPOCH) {
                prop_assert!(delay <= RETRY_AFTER_MAX);
            }
        }
    }
}
