//! Who read what: every search, export and dry run is an audit entry of its own, for the tenant and for
//! `system`, with the key, the query and how many logs it came to.
//!
//! An entry of an export, of a search of the archive or of a dry run is stored before the answer: no entry,
//! no answer. A search is not made to fail by its entry: the first one of a key's query in a minute is
//! stored before the answer, or later when PostgreSQL takes it; the same query within that minute is
//! counted, and the count is an entry of its own at the minute's end. So browsing through a thousand pages
//! is two entries, and reading entries makes one entry per search and none per entry.
//!
//! What can still go wrong: a process that is killed loses the counts of the last minute. The first search
//! of each query is stored by then.

mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use contracts::Tenant;
use contracts::audit::{LogItem, Requester};
use database::Database;
use edge::{Principal, Problem, RequestInfo};
use queue_core::Clock;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use self::window::{Note, Window};
use super::filters::Filters;
use super::{problems, rule_change};
use crate::model::NewLog;
use crate::publish::{Publisher, Trace};

/// How long the same query of the same key is one entry, and how often what waits is stored and sent.
pub const ACCESS_WINDOW: Duration = Duration::from_secs(60);
/// Queries that are counted at the same time, in one process; beyond it each search is an entry.
pub const ACCESS_QUERIES_MAX: usize = 4_096;
/// Entries that wait to be stored or sent, each; beyond it the oldest are not sent to search and the live
/// tail, and said in the process's log only.
const WAITING_MAX: usize = 10_000;
/// What storing an entry may take before the answer.
const STORE_TIME: Duration = Duration::from_secs(2);
/// What sending what waits may take.
const SEND_TIME: Duration = Duration::from_secs(10);
/// Entries that are sent at once.
const SENT_AT_ONCE: usize = 500;
/// Bytes of a query that an entry repeats; a longer one is known by its hash alone.
const QUERY_BYTES_TOLD: usize = 4 * 1024;

/// A search, in an entry.
const SEARCHED: &str = "flotilla.logs.searched";

/// Somebody reads.
#[derive(Clone, Debug)]
pub(super) struct Read {
    action: &'static str,
    principal: Principal,
    requester: Requester,
    target: (&'static str, Uuid),
}

impl Read {
    /// Under an id of its own.
    pub(super) fn new(action: &'static str, principal: &Principal, info: &RequestInfo) -> Self {
        Self {
            action,
            principal: principal.clone(),
            requester: rule_change::requester(principal, info),
            target: ("request", Uuid::new_v4()),
        }
    }

    /// The same reading, further on.
    pub(super) fn then(&self, action: &'static str) -> Self {
        Self { action, ..self.clone() }
    }

    fn searching(principal: &Principal, info: &RequestInfo, query: Uuid) -> Self {
        Self { target: ("query", query), ..Self::new(SEARCHED, principal, info) }
    }

    /// The entry, for the tenant and for `system`.
    fn entry(&self, told: Value, at: DateTime<Utc>) -> Result<Entry, Problem> {
        let Self { action, principal, requester, target } = self;
        let logs = rule_change::entries(principal, requester, action, *target, (told, at))?;
        Ok(Entry { tenant: principal.tenant.clone(), logs })
    }
}

/// What was asked for, as entries tell it: no cursor, nothing of the headers, long values cut.
pub(super) fn query(filters: &Filters) -> Value {
    let asked = Value::Object(filters.asked.clone());
    let sha256 = hex::encode(Sha256::digest(&filters.canonical));
    if asked.to_string().len() > QUERY_BYTES_TOLD {
        return json!({ "sha256": sha256 });
    }
    json!({ "sha256": sha256, "parameters": asked })
}

fn query_id(tenant: &Tenant, filters: &Filters) -> Uuid {
    let mut hash = Sha256::new_with_prefix(tenant.as_str());
    hash.update([0]);
    hash.update(&filters.canonical);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(id).into_uuid()
}

/// An entry as it is stored: made once, so that storing it again changes nothing.
#[derive(Debug)]
struct Entry {
    tenant: Tenant,
    logs: Vec<NewLog>,
}

/// The repeats of a search.
#[derive(Clone, Debug)]
struct Repeats {
    read: Read,
    query: Value,
}

#[derive(Debug, Default)]
struct Waiting {
    window: Window<(Tenant, Arc<str>, Uuid), Repeats>,
    unstored: Vec<Entry>,
    unsent: Vec<NewLog>,
}

/// Writes the entries. Cheap to clone; clones share what waits.
#[derive(Clone)]
pub struct AccessLog {
    database: Database,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    waiting: Arc<Mutex<Waiting>>,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

impl AccessLog {
    /// On a pool under the API's role.
    pub fn new(database: &Database, publisher: &Publisher, clock: Arc<dyn Clock>) -> Self {
        let waiting = Arc::default();
        Self { database: database.clone(), publisher: publisher.clone(), clock, waiting }
    }

    /// Stores an entry; what it speaks of is answered only after it.
    pub(super) async fn store(&self, read: &Read, told: Value) -> Result<(), Problem> {
        self.put(&read.entry(told, self.now())?).await
    }

    /// Notes a search, which was found to come to so many logs.
    pub(super) async fn searched(
        &self,
        principal: &Principal,
        info: &RequestInfo,
        filters: &Filters,
        results: usize,
    ) {
        let (at, results) = (self.now(), u64::try_from(results).unwrap_or(u64::MAX));
        let id = query_id(&principal.tenant, filters);
        let key = (principal.tenant.clone(), Arc::clone(&principal.key_id), id);
        let new = || Repeats { read: Read::searching(principal, info, id), query: query(filters) };
        let note = self.waiting().window.note(key, at, results, new);
        let Repeats { read, query } = match note {
            Note::Again => return,
            Note::First(first) => first,
        };
        let told = json!({ "query": query, "searches": 1, "results": results });
        self.try_put(read.entry(told, at)).await;
    }

    /// Has an entry stored that nobody waits for.
    pub(super) fn later(&self, read: &Read, told: Value) {
        match read.entry(told, self.now()) {
            Ok(entry) => self.keep(vec![entry]),
            Err(problem) => tracing::error!(detail = %problem.detail, "no audit entry can be made"),
        }
    }

    /// Stores it now, or later when that fails.
    async fn try_put(&self, entry: Result<Entry, Problem>) {
        match entry {
            Ok(entry) => {
                if let Err(problem) = self.put(&entry).await {
                    tracing::warn!(detail = %problem.detail, "a search's audit entry is stored later");
                    self.keep(vec![entry]);
                }
            }
            Err(problem) => tracing::error!(detail = %problem.detail, "no audit entry can be made"),
        }
    }

    /// Stores and sends what waits, again and again.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(ACCESS_WINDOW).await;
            self.flush(false).await;
        }
    }

    /// The same at once, also what has not waited for its minute: before the process ends.
    pub async fn close(&self) {
        self.flush(true).await;
    }

    async fn flush(&self, all: bool) {
        let now = self.now();
        let (unstored, over) = {
            let mut waiting = self.waiting();
            (std::mem::take(&mut waiting.unstored), waiting.window.take(now, all))
        };
        let mut left = Vec::new();
        for entry in unstored {
            // While PostgreSQL is away, one try is enough.
            if !left.is_empty() || self.put(&entry).await.is_err() {
                left.push(entry);
            }
        }
        self.keep(left);
        for (repeats, counted) in over {
            let told = json!({ "query": repeats.query, "searches": counted.searches,
                               "results": counted.results, "since": counted.since });
            self.try_put(repeats.read.entry(told, now)).await;
        }
        self.send().await;
    }

    async fn put(&self, entry: &Entry) -> Result<(), Problem> {
        let storing = async {
            let transaction = self.database.tenant(&entry.tenant).await?;
            rule_change::commit(transaction, true, &entry.logs).await
        };
        database::timed(STORE_TIME, storing).await.map_err(problems::database)?;
        let mut waiting = self.waiting();
        waiting.unsent.extend_from_slice(&entry.logs);
        bound(&mut waiting.unsent, "stored, but search is not told");
        Ok(())
    }

    fn keep(&self, entries: Vec<Entry>) {
        let mut waiting = self.waiting();
        waiting.unstored.extend(entries);
        bound(&mut waiting.unstored, "lost: PostgreSQL was away for too long");
    }

    /// Sends what is stored through the queue too, so that search and the live tail show it.
    async fn send(&self) {
        let mut entries = std::mem::take(&mut self.waiting().unsent);
        entries.sort_by(|a, b| a.key.tenant.cmp(&b.key.tenant));
        let until = Instant::now() + SEND_TIME;
        let trace = Trace { correlation_id: "self-audit".to_owned(), ..Trace::default() };
        let same = |a: &NewLog, b: &NewLog| a.key.tenant == b.key.tenant;
        for entries in entries.chunk_by(same).flat_map(|of_one| of_one.chunks(SENT_AT_ONCE)) {
            let items: Vec<LogItem> = entries.iter().filter_map(item).collect();
            let tenant = &entries[0].key.tenant;
            let sent = self.publisher.publish(tenant, items, &trace, until).await;
            if sent.is_err() || sent.is_ok_and(|outcomes| outcomes.iter().any(Result::is_err)) {
                // Sent twice it is stored once.
                let mut waiting = self.waiting();
                waiting.unsent.extend_from_slice(entries);
                bound(&mut waiting.unsent, "stored, but search is not told");
            }
        }
    }

    /// As PostgreSQL keeps it.
    fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(6)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn item(entry: &NewLog) -> Option<LogItem> {
    let text = String::from_utf8_lossy(&entry.record).into_owned();
    let record = RawValue::from_string(text).ok()?;
    Some(LogItem { salt: hex::encode(entry.salt), record })
}

fn bound<T>(waiting: &mut Vec<T>, what: &str) {
    let over = waiting.len().saturating_sub(WAITING_MAX);
    if over > 0 {
        waiting.drain(..over);
        tracing::error!(entries = over, "audit entries are {what}");
    }
}

/// Parameters as entries tell them: one that comes several times is a list.
pub(super) fn add(asked: &mut Map<String, Value>, name: &str, value: &str) {
    const CHARS_TOLD: usize = 256;
    let cut = |text: &str| text.chars().take(CHARS_TOLD).collect::<String>();
    let value = Value::String(cut(value));
    match asked.entry(cut(name)) {
        serde_json::map::Entry::Vacant(entry) => {
            entry.insert(value);
        }
        serde_json::map::Entry::Occupied(mut entry) => match entry.get_mut() {
            Value::Array(values) => values.push(value),
            one => *one = Value::Array(vec![one.take(), value]),
        },
    }
}
