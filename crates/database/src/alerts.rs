//! Alerts in PostgreSQL: what is wrong is told once, however many find it and however often. Every
//! change and the notice of it are one statement, so that a crash leaves both or neither. It sends
//! nothing: notices are delivered by who leads, each once by the ledger of effects.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

/// Characters of a name.
pub const NAME_MAX: usize = 200;
/// Characters of a title; what is longer is cut.
pub const TITLE_MAX: usize = 200;
/// Characters of a text; what is longer is cut.
pub const TEXT_MAX: usize = 4_000;
/// Alerts that one sweep reminds of or closes; the next one goes on.
pub const SWEEP_MAX: i64 = 100;
/// How long a closed alert and a notice that was dealt with are kept.
pub const ALERTS_TERM: Duration = Duration::from_hours(60 * 24);

/// How much it matters; a closed vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Info,
    /// To be looked at within days.
    Warning,
    /// To be looked at now.
    Critical,
}

impl Severity {
    /// Every one, least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What an alert is known by: the same key is the same trouble, whoever finds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlertKey {
    tenant: Tenant,
    name: String,
}

impl AlertKey {
    /// A key of any other trouble: `kind` is a fixed word, `about` the thing. A longer name is cut: two
    /// things that begin with the same 200 characters are one alert.
    pub fn new(tenant: Tenant, kind: &'static str, about: &str) -> Self {
        let about = about.replace('\0', "\u{fffd}");
        let name: String = format!("{kind}/{about}").chars().take(NAME_MAX).collect();
        Self { tenant, name }
    }

    /// The dead-letter queue of a queue is not empty; `queue` is the catalogue's key.
    pub fn dead_letters(queue: &str) -> Self {
        Self::new(Tenant::system(), "dead-letters", queue)
    }

    /// The partitions of a class run out.
    pub fn partitions(class: &str) -> Self {
        Self::new(Tenant::system(), "partitions", class)
    }

    /// A run of a tenant's policy failed.
    pub fn run_failed(tenant: Tenant, policy: &str) -> Self {
        Self::new(tenant, "run-failed", policy)
    }

    /// A tenant's chain of manifests does not verify.
    pub fn chain_broken(tenant: Tenant) -> Self {
        Self::new(tenant, "chain-broken", "archive")
    }

    /// Whose; `system` for the operator's own.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// `kind/about`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What raising an alert came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was not open: somebody is told.
    Opened,
    /// It was open already: found so many times since it opened.
    Counted(i64),
}

/// When somebody is told again, and when an alert is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// After so long without a word, an open alert is reminded of.
    pub remind_every: Duration,
    /// An alert that was not found for so long is closed; one that is found again before stays open and
    /// nobody is told, so that trouble which comes and goes rings once.
    pub quiet: Duration,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Reminders written.
    pub reminded: u64,
    /// Alerts closed.
    pub closed: u64,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Notice {
    /// The same over all tries and targets.
    pub id: Uuid,
    /// Whose.
    pub tenant: String,
    /// `kind/about`.
    pub name: String,
    /// Of one opening, its reminders and its end.
    pub episode: Uuid,
    /// `opened`, `reminder` or `resolved`.
    pub kind: String,
    /// As in [`Severity::as_str`].
    pub severity: String,
    /// One line.
    pub title: String,
    /// What to do.
    pub text: String,
    /// When the alert opened.
    pub opened_at: DateTime<Utc>,
    /// Times it was found until then.
    pub raised: i64,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Tries so far.
    pub attempts: i32,
}

/// Something is wrong. In the caller's transaction, where there is one. Needs [`crate::Role::Worker`].
pub async fn raise(
    connection: &mut PgConnection,
    key: &AlertKey,
    severity: Severity,
    [title, text]: [&str; 2],
    now: DateTime<Utc>,
) -> Result<Raised, sqlx::Error> {
    let (opened, raised): (bool, i64) = sqlx::query_as(
        "WITH put AS (
           INSERT INTO alerts AS a (tenant, name, episode, severity, title, text, opened_at, raised_at,
                                    raised, told_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1, $7)
           ON CONFLICT (tenant, name) DO UPDATE SET
             episode = CASE WHEN a.closed_at IS NULL THEN a.episode ELSE excluded.episode END,
             opened_at = CASE WHEN a.closed_at IS NULL THEN a.opened_at ELSE excluded.opened_at END,
             told_at = CASE WHEN a.closed_at IS NULL THEN a.told_at ELSE excluded.told_at END,
             raised = CASE WHEN a.closed_at IS NULL THEN a.raised + 1 ELSE 1 END,
             raised_at = greatest(a.raised_at, excluded.raised_at),
             severity = excluded.severity, title = excluded.title, text = excluded.text,
             quiet_since = NULL, closed_at = NULL
           RETURNING a.*),
         told AS (
           INSERT INTO alert_notices (id, tenant, name, episode, notice, severity, title, text, opened_at,
                                      raised, at, next_at)
           SELECT episode, tenant, name, episode, 'opened', severity, title, text, opened_at, raised,
                  $7, $7
             FROM put WHERE episode = $3)
         SELECT episode = $3, raised FROM put",
    )
    .bind(key.tenant.as_str())
    .bind(&key.name)
    .bind(Uuid::new_v4())
    .bind(severity.as_str())
    .bind(short(title, TITLE_MAX))
    .bind(short(text, TEXT_MAX))
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok(if opened { Raised::Opened } else { Raised::Counted(raised) })
}

/// It is not found any more: whether it was open. It closes when that has lasted.
pub async fn resolve(
    connection: &mut PgConnection,
    key: &AlertKey,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let resolved = sqlx::query(
        "UPDATE alerts SET quiet_since = coalesce(quiet_since, $3)
         WHERE tenant = $1 AND name = $2 AND closed_at IS NULL",
    )
    .bind(key.tenant.as_str())
    .bind(&key.name)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(resolved.rows_affected() == 1)
}

/// Closes what has been quiet for long enough, reminds of what is open for long, each with its notice.
pub async fn sweep(
    pool: &PgPool,
    times: AlertTimes,
    now: DateTime<Utc>,
) -> Result<Swept, sqlx::Error> {
    let before = |length| now - TimeDelta::from_std(length).unwrap_or(TimeDelta::zero());
    let closed = sqlx::query(
        "WITH due AS (
           SELECT tenant, name FROM alerts WHERE closed_at IS NULL AND quiet_since <= $2
           ORDER BY quiet_since LIMIT $3 FOR UPDATE SKIP LOCKED),
         changed AS (
           UPDATE alerts a SET closed_at = $1 FROM due
           WHERE a.tenant = due.tenant AND a.name = due.name RETURNING a.*)
         INSERT INTO alert_notices (id, tenant, name, episode, notice, severity, title, text, opened_at,
                                    raised, at, next_at)
         SELECT gen_random_uuid(), tenant, name, episode, 'resolved', severity, title, text, opened_at,
                raised, $1, $1 FROM changed",
    )
    .bind(now)
    .bind(before(times.quiet))
    .bind(SWEEP_MAX)
    .execute(pool)
    .await?;
    let reminded = sqlx::query(
        "WITH due AS (
           SELECT tenant, name FROM alerts
           WHERE closed_at IS NULL AND quiet_since IS NULL AND told_at <= $2
           ORDER BY told_at LIMIT $3 FOR UPDATE SKIP LOCKED),
         changed AS (
           UPDATE alerts a SET told_at = $1 FROM due
           WHERE a.tenant = due.tenant AND a.name = due.name RETURNING a.*)
         INSERT INTO alert_notices (id, tenant, name, episode, notice, severity, title, text, opened_at,
                                    raised, at, next_at)
         SELECT gen_random_uuid(), tenant, name, episode, 'reminder', severity, title, text, opened_at,
                raised, $1, $1 FROM changed",
    )
    .bind(now)
    .bind(before(times.remind_every))
    .bind(SWEEP_MAX)
    .execute(pool)
    .await?;
    Ok(Swept { reminded: reminded.rows_affected(), closed: closed.rows_affected() })
}

/// Up to `limit` notices that are due, the oldest first.
pub async fn due(
    pool: &PgPool,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Notice>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, tenant, name, episode, notice AS kind, severity, title, text, opened_at, raised, at,
                attempts
           FROM alert_notices WHERE done_at IS NULL AND next_at <= $1 ORDER BY at, id LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// A notice needs nothing more.
pub async fn done(pool: &PgPool, notice: &Notice, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE alert_notices SET done_at = $3 WHERE tenant = $1 AND id = $2")
        .bind(&notice.tenant)
        .bind(notice.id)
        .bind(now)
        .execute(pool)
        .await
        .map(drop)
}

/// A notice is to be tried again at `next_at`.
pub async fn later(
    pool: &PgPool,
    notice: &Notice,
    next_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE alert_notices SET attempts = attempts + 1, next_at = $3
         WHERE tenant = $1 AND id = $2 AND done_at IS NULL",
    )
    .bind(&notice.tenant)
    .bind(notice.id)
    .bind(next_at)
    .execute(pool)
    .await
    .map(drop)
}

/// At most `max` characters that PostgreSQL stores, and never none.
fn short(text: &str, max: usize) -> String {
    let text: String = text.replace('\0', "\u{fffd}").chars().take(max).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}
