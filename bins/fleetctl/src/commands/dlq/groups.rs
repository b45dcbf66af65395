//! Dead letters counted by what they have in common, however many there are: what is kept grows with
//! the causes, not with the letters.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use queue_core::{Clock, SystemClock};
use serde::Serialize;

use super::letter::Row;
use crate::output::{Output, short, span};

/// Groups kept at most; letters of further ones are counted together.
const GROUPS_MAX: usize = 10_000;
/// Tenants told apart per group.
const TENANTS_MAX: usize = 10_000;

/// What letters are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// One cause: code, type and the words of the reason.
    Fingerprint,
    /// Error code.
    Code,
    /// Message type.
    Type,
    /// Whose data it is.
    Tenant,
    /// Worker and version that gave up.
    Worker,
}

impl By {
    fn key(self, row: &Row) -> &str {
        match self {
            Self::Fingerprint => &row.fingerprint,
            Self::Code => &row.code,
            Self::Type => &row.kind,
            Self::Tenant => &row.tenant,
            Self::Worker => &row.worker,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Fingerprint => "FINGERPRINT",
            Self::Code => "CODE",
            Self::Type => "TYPE",
            Self::Tenant => "TENANT",
            Self::Worker => "WORKER",
        }
    }
}

/// Letters with one thing in common.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    queue: String,
    key: String,
    pub(super) count: u64,
    /// When the first of them was sent.
    first_seen: Option<DateTime<Utc>>,
    /// When the last of them was given up.
    last_rejected: Option<DateTime<Utc>>,
    /// How many tenants they are of, ten thousand at most.
    tenants: usize,
    /// One of them.
    sample: Row,
    #[serde(skip)]
    seen: HashSet<String>,
}

/// The groups of one or more queues.
#[derive(Debug)]
pub(super) struct Groups {
    by: By,
    known: HashMap<(String, String), Group>,
    others: u64,
}

impl Groups {
    pub(super) fn new(by: By) -> Self {
        Self { by, known: HashMap::new(), others: 0 }
    }

    pub(super) fn add(&mut self, row: Row) {
        let key = (row.queue.clone(), self.by.key(&row).to_owned());
        if self.known.len() >= GROUPS_MAX && !self.known.contains_key(&key) {
            self.others += 1;
            return;
        }
        let (queue, name) = key.clone();
        let group = self.known.entry(key).or_insert_with(|| Group {
            queue,
            key: name,
            count: 0,
            first_seen: None,
            last_rejected: None,
            tenants: 0,
            sample: row.clone(),
            seen: HashSet::new(),
        });
        group.count += 1;
        group.first_seen = group.first_seen.into_iter().chain(row.first_seen).min();
        group.last_rejected = group.last_rejected.max(row.rejected_at);
        if !row.tenant.is_empty() && group.seen.len() < TENANTS_MAX {
            group.seen.insert(row.tenant);
        }
        group.tenants = group.seen.len();
    }

    /// Letters in all.
    pub(super) fn count(&self) -> u64 {
        self.others + self.known.values().map(|group| group.count).sum::<u64>()
    }

    /// The groups, largest first.
    pub(super) fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.known.values().collect();
        groups.sort_by(|a, b| (b.count, &a.queue, &a.key).cmp(&(a.count, &b.queue, &b.key)));
        groups
    }

    /// As a table, or JSON lines.
    pub(super) fn print(&self, output: &Output) {
        let now = SystemClock.now();
        let ago = |at: Option<DateTime<Utc>>| {
            at.map_or_else(
                || "-".to_owned(),
                |at| format!("{} ago", span((now - at).num_seconds())),
            )
        };
        let heads = [
            "COUNT",
            self.by.name(),
            "QUEUE",
            "CODE",
            "TYPE",
            "TENANTS",
            "FIRST SEEN",
            "LAST",
            "E.G.",
            "REASON",
        ];
        output.rows(&self.sorted(), &heads, |group| {
            let sample = &group.sample;
            vec![
                group.count.to_string(),
                if group.key.is_empty() { "-".to_owned() } else { group.key.clone() },
                group.queue.clone(),
                sample.code.clone(),
                sample.kind.clone(),
                group.tenants.to_string(),
                ago(group.first_seen),
                ago(group.last_rejected),
                sample.id.chars().take(8).collect(),
                short(&sample.reason, 60),
            ]
        });
        if self.others > 0 {
            output.note(&format!("{} more of further groups", self.others));
        }
    }
}
