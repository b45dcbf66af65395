//! What would become of a dead letter that is sent back now: whether what rejected it has changed
//! since. Everything is asked once and nothing is changed; what does not answer is left out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use audit::record::Record;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::{BulkIndex, LogItem};
use contracts::{ErrorCode, QueueSpec, errors};
use database::Role;
use database::tenants::TenantState;
use queue_core::{Clock, SystemClock, Times};
use serde::{Deserialize, Serialize};

use super::interrupt::Interrupt;
use super::letter::{Letter, Reading, Row};
use super::list::look;
use super::select::Select;
use crate::commands::effects;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{PATIENCE, Settings};

/// Bytes of a status page that are read.
const STATUS_BYTES_MAX: usize = 1 << 20;
/// A letter whose queue deletes it within this is about to be lost.
const SOON: TimeDelta = TimeDelta::hours(24);
/// Reasons told apart at most.
const DOUBTS_MAX: usize = 20;
/// Effects in doubt that letters are compared with.
const UNSETTLED_MAX: usize = 10_000;
/// `7d` and longer. A log that is older than its class goes by the next run of a policy, and where it never had a
/// partition, none is waited for (`audit::rules::unplaced`).
const CLASS_DAYS: [(&str, i64); 5] =
    [("7d", 7), ("30d", 30), ("90d", 90), ("1y", 366), ("7y", 7 * 366)];

/// Why sending a letter back would end here again, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(in crate::commands) struct Doubt {
    pub(in crate::commands) why: String,
    /// A command.
    pub(in crate::commands) fix: String,
    /// Whether no worker of this build could handle it, whatever else changes.
    pub(in crate::commands) certain: bool,
}

impl Doubt {
    pub(super) fn likely(why: String, fix: impl Into<String>) -> Self {
        Self { why, fix: fix.into(), certain: false }
    }

    fn certain(why: String, fix: impl Into<String>) -> Self {
        Self { why, fix: fix.into(), certain: true }
    }
}

/// What a running worker says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Running {
    build: Build,
    sections: HashMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Build {
    version: String,
}

/// What is known of the fleet now.
#[derive(Clone, Debug, Default)]
pub(in crate::commands) struct Outlook {
    running: Vec<Running>,
    tenants: Option<HashMap<String, bool>>,
    /// Effects in doubt, by name.
    unsettled: Vec<String>,
    now: DateTime<Utc>,
}

impl Outlook {
    /// Asks the workers behind those admin ports, and the database.
    pub(in crate::commands) async fn ask(
        settings: &Settings,
        admin: &[String],
        token: Option<&str>,
    ) -> Self {
        let mut running = Vec::new();
        for admin in admin {
            running.extend(status(admin, token).await);
        }
        let (tenants, unsettled) = (tenants(settings).await, unsettled(settings).await);
        Self { running, tenants, unsettled, now: SystemClock.now() }
    }

    /// The first reason, the most certain one first.
    pub(super) fn doubt(&self, spec: &QueueSpec, letter: &Letter) -> Option<Doubt> {
        let row = letter.row(spec);
        self.of_body(spec, letter, &row)
            .or_else(|| self.of_effect(&row))
            .or_else(|| self.of_tenant(&row))
            .or_else(|| self.of_breaker(spec))
            .or_else(|| self.of_version(spec, &row))
            .or_else(|| self.of_age(spec, letter, &row))
    }

    fn of_body(&self, spec: &QueueSpec, letter: &Letter, row: &Row) -> Option<Doubt> {
        let (queue, id) = (spec.key, short_id(&row.id));
        let hops = letter.header().map_or(0, |header| header.hops);
        match letter.reading(spec) {
            Reading::Broken(why) if hops > contracts::envelope::HOPS_MAX => {
                let fix = format!("fleetctl dlq edit {queue} {id} --set hops=0 --why WHY");
                Some(Doubt::certain(without_values(&why), fix))
            }
            Reading::Broken(why) => {
                let fix = format!("fleetctl dlq edit {queue} {id} --why WHY");
                Some(Doubt::certain(format!("its body still does not decode: {why}"), fix))
            }
            Reading::Unknown(why) if self.runs_this_build(spec) => {
                let fix = format!("deploy a {} that knows it, then redrive", spec.worker);
                Some(Doubt::likely(format!("the running build does not know it: {why}"), fix))
            }
            Reading::Typed { kind, body, .. } => self.of_records(spec, &kind, &body, id),
            Reading::Claimed(_) | Reading::Unknown(_) => None,
        }
    }

    /// Logs whose records cannot be read, or that no partition takes any more.
    fn of_records(&self, spec: &QueueSpec, kind: &str, body: &str, id: &str) -> Option<Doubt> {
        let items: Vec<LogItem> = match kind {
            "INDEX" => serde_json::from_str(body).map(|item| vec![item]),
            "BULK_INDEX" => serde_json::from_str(body).map(|bulk: BulkIndex| bulk.items),
            _ => return None,
        }
        .unwrap_or_default();
        for item in &items {
            let record = match Record::parse(item.record.get().as_bytes()) {
                Ok(record) => record,
                Err(error) => {
                    let fix = format!("fleetctl dlq edit {} {id} --why WHY", spec.key);
                    return Some(Doubt::certain(format!("a record cannot be read: {error}"), fix));
                }
            };
            let class = record.class.as_str();
            let days = CLASS_DAYS.iter().find(|(name, _)| *name == class).map(|(_, days)| *days);
            if days.is_some_and(|days| self.now - record.recorded_at > TimeDelta::days(days)) {
                let why = format!("its class {class} is kept no longer than it is old");
                let fix = format!("fleetctl dlq purge {} --id {id} --export gone.ndjson", spec.key);
                return Some(Doubt::likely(why, fix));
            }
        }
        None
    }

    fn of_tenant(&self, row: &Row) -> Option<Doubt> {
        let tenants = self.tenants.as_ref().filter(|_| !row.tenant.is_empty())?;
        let tenant = &row.tenant;
        match tenants.get(tenant) {
            Some(true) => None,
            Some(false) => {
                let why = format!("the tenant {tenant} is suspended");
                Some(Doubt::likely(why, "fleetctl tenants list"))
            }
            None => {
                let fix = format!("fleetctl tenants create {tenant} --class 90d");
                Some(Doubt::likely(format!("the tenant {tenant} is gone"), fix))
            }
        }
    }

    /// An effect that is still in doubt is told again; its name stands in the letter.
    fn of_effect(&self, row: &Row) -> Option<Doubt> {
        if row.code != errors::EFFECT_UNKNOWN.code {
            return None;
        }
        let effect = self.unsettled.iter().find(|effect| row.reason.contains(effect.as_str()))?;
        let why = "nobody has said yet whether its effect happened".to_owned();
        Some(Doubt::likely(why, format!("fleetctl effects show '{effect}'")))
    }

    fn of_breaker(&self, spec: &QueueSpec) -> Option<Doubt> {
        let breakers = self.sections(spec).filter_map(|section| section["breakers"].as_array());
        let mut open = breakers.flatten().filter(|breaker| breaker["state"] == "open");
        let sink = open.next()?["sink"].as_str()?.to_owned();
        let why = format!("{}: the breaker of {sink} is open", spec.worker);
        Some(Doubt::likely(why, "fleetctl doctor"))
    }

    fn of_version(&self, spec: &QueueSpec, row: &Row) -> Option<Doubt> {
        // What may have been the sink's or the moment's fault can go well the next time.
        let code = ErrorCode::find(&row.code)?;
        let exhausted = [errors::FAILURES_EXHAUSTED, errors::CRASH_LOOP].contains(code);
        if code.retryable && !exhausted {
            return None;
        }
        let mut running = self.running_of(spec).peekable();
        running.peek()?;
        let named = |running: &Running| format!("{} {}", spec.worker, running.build.version);
        running.any(|running| named(running) == row.worker).then(|| {
            let why = format!("{} rejected it and runs still", row.worker);
            Doubt::likely(why, format!("deploy a {} that is mended, then redrive", spec.worker))
        })
    }

    fn of_age(&self, spec: &QueueSpec, letter: &Letter, row: &Row) -> Option<Doubt> {
        let kept = TimeDelta::seconds(i64::from(spec.dlq_retention_secs));
        let sent = DateTime::from_timestamp_millis(letter.received.sent_at_ms)?;
        let left = kept - (self.now - sent);
        (left < SOON).then(|| {
            let why = format!("SQS deletes it in {} h", left.num_hours().max(0));
            Doubt::likely(
                why,
                format!("fleetctl dlq redrive {} --id {} --yes", spec.key, short_id(&row.id)),
            )
        })
    }

    /// The times that the queue's running workers say they run with.
    pub(in crate::commands) fn times(&self, spec: &QueueSpec) -> Vec<Times> {
        let said = self.sections(spec).filter_map(|section| section.get("times"));
        said.filter_map(|times| Times::deserialize(times).ok()).collect()
    }

    fn runs_this_build(&self, spec: &QueueSpec) -> bool {
        self.running_of(spec).any(|running| running.build.version == env!("CARGO_PKG_VERSION"))
    }

    fn running_of(&self, spec: &QueueSpec) -> impl Iterator<Item = &Running> {
        let key = spec.key;
        self.running.iter().filter(move |running| running.sections.contains_key(key))
    }

    fn sections(&self, spec: &QueueSpec) -> impl Iterator<Item = &serde_json::Value> {
        self.running_of(spec).filter_map(|running| running.sections.get(spec.key))
    }
}

/// What a redrive of many letters would come to.
#[derive(Debug, Default)]
pub(in crate::commands) struct Prospects {
    /// Letters in all.
    pub(in crate::commands) count: u64,
    /// Of them, those that would fail again.
    pub(in crate::commands) failing: u64,
    /// Of these, those that no worker of this build can handle.
    pub(in crate::commands) hopeless: u64,
    doubts: BTreeMap<String, Doubted>,
}

/// A reason, and how many letters have it.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Doubted {
    pub(in crate::commands) count: u64,
    #[serde(flatten)]
    pub(in crate::commands) doubt: Doubt,
}

impl Prospects {
    /// Counts one more.
    pub(super) fn add(&mut self, outlook: &Outlook, spec: &QueueSpec, letter: &Letter) {
        self.count += 1;
        let Some(doubt) = outlook.doubt(spec, letter) else { return };
        self.failing += 1;
        self.hopeless += u64::from(doubt.certain);
        // As many reasons as a person reads; letters of further ones are in the counts.
        if self.doubts.len() < DOUBTS_MAX || self.doubts.contains_key(&doubt.why) {
            let known = self.doubts.entry(doubt.why.clone());
            known.or_insert(Doubted { count: 0, doubt }).count += 1;
        }
    }

    /// The reasons, the most frequent first.
    pub(in crate::commands) fn doubts(self) -> Vec<Doubted> {
        let mut doubts: Vec<Doubted> = self.doubts.into_values().collect();
        doubts.sort_by_key(|doubted| std::cmp::Reverse(doubted.count));
        doubts
    }
}

/// Looks at a queue's dead letters, `limit` at most.
pub(in crate::commands) async fn prospects(
    settings: &Settings,
    spec: &'static QueueSpec,
    outlook: &Outlook,
    limit: usize,
    output: &Output,
) -> Result<Prospects, Failure> {
    let (mut prospects, mut interrupt) = (Prospects::default(), Interrupt::catch()?);
    let take = |letter: &Letter| prospects.add(outlook, spec, letter);
    look(settings, spec, &Select::default(), limit, &mut interrupt, output, take).await?;
    Ok(prospects)
}

fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// What groups: counts differ from letter to letter.
fn without_values(why: &str) -> String {
    why.split(',').next().unwrap_or(why).to_owned()
}

/// `None` when the port does not answer with a status.
async fn status(admin: &str, token: Option<&str>) -> Option<Running> {
    let url = format!("{}/status", admin.trim_end_matches('/'));
    let mut request = reqwest::Client::new().get(url).timeout(PATIENCE);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut answer = request.send().await.ok().filter(|answer| answer.status().is_success())?;
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        text.extend_from_slice(&chunk);
        if text.len() > STATUS_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice(&text).ok()
}

/// Effects in doubt; none where the database does not say.
async fn unsettled(settings: &Settings) -> Vec<String> {
    if !settings.has("DATABASE_URL") && !settings.has("DATABASE_URL_FILE") {
        return Vec::new();
    }
    let found = effects::unsettled(settings, Duration::ZERO, UNSETTLED_MAX);
    tokio::time::timeout(PATIENCE, found).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// Every tenant and whether it is active; `None` when the database does not say.
async fn tenants(settings: &Settings) -> Option<HashMap<String, bool>> {
    if !settings.has("DATABASE_URL") && !settings.has("DATABASE_URL_FILE") {
        return None;
    }
    let database = settings.database(Role::Owner).ok()?;
    let rows = tokio::time::timeout(PATIENCE, database::tenants::list(database.pool())).await;
    let active = |state: TenantState| state == TenantState::Active;
    let rows = rows.ok()?.ok()?.into_iter();
    Some(rows.map(|row| (row.id.to_string(), active(row.state))).collect())
}
