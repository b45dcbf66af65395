//! Which dead letters are meant. A filter that is not given lets everything through.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;

use super::letter::Row;

/// Filters; all that are given must fit.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which")]
pub(super) struct Select {
    /// Only this id, or its beginning; may be given several times
    #[arg(long)]
    pub(super) id: Vec<String>,
    /// Only this error code, e.g. failures-exhausted
    #[arg(long)]
    pub(super) code: Option<String>,
    /// Only this cause: dead letters of one cause have one fingerprint
    #[arg(long)]
    pub(super) fingerprint: Option<String>,
    /// Only this message type, e.g. INDEX
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// Only this tenant's
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// Only those rejected at least so long ago, e.g. 90s, 15m, 2h, 3d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(super) older_than: Option<TimeDelta>,
    /// Only those rejected at most so long ago
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(super) newer_than: Option<TimeDelta>,
}

impl Select {
    /// Whether nothing is filtered.
    pub(super) fn is_everything(&self) -> bool {
        self.id.is_empty()
            && [&self.code, &self.fingerprint, &self.kind, &self.tenant].iter().all(|f| f.is_none())
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }

    /// Whether it is meant.
    pub(super) fn takes(&self, row: &Row, now: DateTime<Utc>) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let age = row.rejected_at.map(|at| now - at);
        (self.id.is_empty() || self.id.iter().any(|id| row.id.starts_with(id.as_str())))
            && same(&self.code, &row.code)
            && same(&self.fingerprint, &row.fingerprint)
            && same(&self.kind, &row.kind)
            && same(&self.tenant, &row.tenant)
            && self.older_than.is_none_or(|least| age.is_some_and(|age| age >= least))
            && self.newer_than.is_none_or(|most| age.is_some_and(|age| age <= most))
    }
}

/// `90s`, `15m`, `2h`, `3d`.
fn age(text: &str) -> Result<TimeDelta, String> {
    let wrong = || format!("{text:?} is no age; e.g. 90s, 15m, 2h, 3d");
    let mut digits = text.chars();
    let unit = digits.next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = digits.as_str().parse().map_err(|_| wrong())?;
    Ok(TimeDelta::seconds(i64::from(count) * seconds))
}

#[cfg(test)]
mod tests {
    use super::{Row, Select, age};
    use chrono::{DateTime, TimeDelta};

    fn row() -> Row {
        let at = DateTime::from_timestamp(1_000, 0);
        Row {
            id: "abc-1".into(),
            queue: "q".into(),
            code: "failures-exhausted".into(),
            reason: String::new(),
            fingerprint: "f".into(),
            kind: "INDEX".into(),
            tenant: "acme".into(),
            failures: 3,
            worker: String::new(),
            first_seen: at,
            rejected_at: at,
            parent: None,
        }
    }

    fn takes(select: &Select) -> bool {
        select.takes(&row(), DateTime::from_timestamp(1_060, 0).unwrap())
    }

    #[test]
    fn each_filter_lets_through_what_fits_and_nothing_else() {
        assert!(takes(&Select::default()));
        assert!(takes(&Select { id: vec!["x".into(), "abc".into()], ..Select::default() }));
        assert!(!takes(&Select { id: vec!["bc".into()], ..Select::default() }));
        assert!(takes(&Select { code: Some("failures-exhausted".into()), ..Select::default() }));
        assert!(!takes(&Select { code: Some("failures".into()), ..Select::default() }));
        assert!(!takes(&Select { fingerprint: Some("g".into()), ..Select::default() }));
        assert!(!takes(&Select { kind: Some("UPDATE".into()), ..Select::default() }));
        assert!(!takes(&Select { tenant: Some("other".into()), ..Select::default() }));
    }

    #[test]
    fn ages_count_from_the_rejection() {
        let older =
            |seconds| Select { older_than: Some(TimeDelta::seconds(seconds)), ..Select::default() };
        let newer =
            |seconds| Select { newer_than: Some(TimeDelta::seconds(seconds)), ..Select::default() };
        assert!(takes(&older(60)) && !takes(&older(61)));
        assert!(takes(&newer(60)) && !takes(&newer(59)));
    }

    #[test]
    fn ages_are_a_number_and_a_unit() {
        assert_eq!(age("90s").unwrap(), TimeDelta::seconds(90));
        assert_eq!(age("3d").unwrap(), TimeDelta::days(3));
        for wrong in ["", "s", "3", "3w", "-3d", "3é"] {
            assert!(age(wrong).is_err(), "{wrong:?}");
        }
    }
}
