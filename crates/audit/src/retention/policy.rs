//! A retention policy: as a person writes it, checked member by member and as a whole, and as it is
//! kept, version after version. A version is never changed; a change and a deletion are new versions.

mod read;

use std::str::FromStr;

use chrono::{DateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use contracts::audit::lifecycle::{PolicyId, Then};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use evidence::Codec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter::Filter;
use super::rules::RulePolicy;
use super::term::Term;

/// Characters of a policy's name at most.
pub const NAME_CHARS_MAX: usize = 100;
/// Priorities, lowest and highest.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<i64> = -1_000..=1_000;
/// Targets that are told at most.
pub const NOTIFY_MAX: usize = 8;
/// Times that can be there twice in one night, at most: every minute of the two hours that no zone exceeds.
const REPEATED_MAX: usize = 120;
/// How far ahead a change may be dated.
pub const EFFECTIVE_DAYS_AHEAD: i64 = 3_660;

/// What a version of a policy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Its name, unique in the tenant.
    pub name: String,
    /// Which logs.
    #[serde(default)]
    pub filter: Filter,
    /// How long they are kept, from `recorded_at`.
    pub keep: Term,
    /// What happens to them then.
    pub then: Then,
    /// How they are archived; absent where `then` is `delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveSpec>,
    /// When it runs.
    #[serde(default)]
    pub schedule: Schedule,
    /// Of two policies that match, the higher one decides.
    #[serde(default)]
    pub priority: i32,
    /// No log that it matches goes before, whichever policy decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_minimum: Option<Term>,
    /// A log that it matches should be gone by then; where a minimum forbids it, a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_maximum: Option<Term>,
    /// What stops a run until somebody approves it.
    #[serde(default)]
    pub brake: Brake,
    /// Who is told about its runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Notify>,
    /// Whether it is applied.
    #[serde(default)]
    pub state: PolicyState,
}

/// How logs are archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveSpec {
    /// How an object is packed.
    pub codec: Codec,
    /// S3's storage class.
    pub storage_class: String,
    /// How long an object is kept; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Term>,
}

impl Default for ArchiveSpec {
    fn default() -> Self {
        Self { codec: Codec::Zstd, storage_class: "STANDARD".to_owned(), keep: None }
    }
}

/// When a policy runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// A zone of the IANA's list.
    pub time_zone: String,
}

impl Default for Schedule {
    /// Every night: a policy that nobody runs keeps everything, unnoticed.
    fn default() -> Self {
        Self { cron: "0 3 * * *".to_owned(), time_zone: "UTC".to_owned() }
    }
}

impl Schedule {
    /// The schedule, ready to be asked; else what is wrong with it, and with which member.
    pub fn parse(&self) -> Result<(Cron, Tz), (&'static str, String)> {
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&self.cron).map_err(|error| {
            let detail = format!(
                "expected five fields of cron (minute, hour, day, month, weekday), e.g. 0 3 * * *; {error}"
            );
            ("cron", detail)
        })?;
        let zone = Tz::from_str(&self.time_zone).map_err(|_| {
            (
                "time_zone",
                "expected a zone of the IANA's list, e.g. Europe/Berlin or UTC".to_owned(),
            )
        })?;
        Ok((cron, zone))
    }

    /// The first time after `after`; `None` when it never comes. Where the hours are named and the clocks
    /// go back, a time that is there twice counts once.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (cron, zone) = self.parse().ok()?;
        let named =
            self.cron.split_whitespace().nth(1).is_some_and(|hours| {
                hours.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
            });
        // What is left of a second would be carried over into the time that is found.
        let mut at = after.trunc_subsecs(0).with_timezone(&zone);
        for _ in 0..=REPEATED_MAX {
            at = cron.find_next_occurrence(&at, false).ok()?;
            let first = zone.from_local_datetime(&at.naive_local()).earliest();
            let repeated = named && first.is_some_and(|first| first < at);
            if !repeated && stands_for(&cron, &at) {
                return Some(at.with_timezone(&Utc));
            }
        }
        None
    }
}

/// Whether a time that was found is one of the schedule's, or the end of a gap that one lies in: the
/// library names that end on every night with a gap.
fn stands_for(cron: &Cron, at: &DateTime<Tz>) -> bool {
    if cron.is_time_matching(at).unwrap_or(false) {
        return true;
    }
    let mut local = at.naive_local();
    for _ in 0..REPEATED_MAX {
        local -= TimeDelta::minutes(1);
        if at.timezone().from_local_datetime(&local).earliest().is_some() {
            return false;
        }
        if cron.is_time_matching(&local.and_utc()).unwrap_or(false) {
            return true;
        }
    }
    false
}

/// What stops a run until somebody approves it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brake {
    /// Share of the tenant's logs that a run may delete, above 0 to 1.
    pub share_max: f64,
    /// How many times as many as the last run it may delete.
    pub growth_max: f64,
}

impl Default for Brake {
    fn default() -> Self {
        Self { share_max: 0.2, growth_max: 3.0 }
    }
}

/// Who is told. Addresses that are secrets stand in the worker's configuration, under a name; never in
/// a policy, whose versions are kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Notify {
    /// A mailbox.
    Email {
        /// `user@host`.
        to: String,
    },
    /// A Slack webhook of that name.
    Slack {
        /// Name in the worker's configuration.
        name: String,
    },
    /// A signed webhook of that name.
    Webhook {
        /// Name in the worker's configuration.
        name: String,
    },
}

/// Whether a policy is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyState {
    /// It is.
    #[default]
    Active,
    /// It is not, and may be again.
    Disabled,
    /// It is not, and never again. Its versions stay.
    Deleted,
}

impl PolicyState {
    /// The name on the wire and in SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }
}

/// One version of a policy, as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy.
    pub id: PolicyId,
    /// Counted from 1.
    pub version: u64,
    /// What it says.
    #[serde(flatten)]
    pub spec: PolicySpec,
    /// From when on it holds, unless a later version takes its place.
    pub effective_from: DateTime<Utc>,
    /// Who wrote it: key id and address.
    pub created_by: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl Policy {
    /// What resolution needs of it.
    pub fn rule(&self) -> RulePolicy {
        let spec = &self.spec;
        RulePolicy {
            id: self.id,
            version: self.version,
            name: spec.name.clone(),
            filter: spec.filter.clone(),
            keep: spec.keep,
            then: spec.then,
            priority: spec.priority,
            legal_minimum: spec.legal_minimum,
            legal_maximum: spec.legal_maximum,
        }
    }

    /// Whether this one's maximum and the other's minimum contradict each other for some log, as far
    /// as their filters tell.
    pub fn forbids(&self, minimum: &Self) -> bool {
        let (Some(max), Some(min)) = (self.spec.legal_maximum, minimum.spec.legal_minimum) else {
            return false;
        };
        max.is_ever_shorter_than(min) && self.spec.filter.meets(&minimum.spec.filter) == Some(true)
    }
}

/// A policy as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyDraft {
    /// What it says.
    pub spec: PolicySpec,
    /// From when on; `None`: from now on.
    pub effective_at: Option<DateTime<Utc>>,
    /// The version that the change was made from; `None` where it is said elsewhere.
    pub version: Option<u64>,
}

#[cfg(test)]
mod tests;
