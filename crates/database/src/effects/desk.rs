//! The operator's side of the ledger: which effects are open, and a person's word on one of which
//! nobody knows whether it happened. It decides nothing over what a worker still holds, and keeps
//! every decision with who made it and why.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::EFFECTS_TERM;
use crate::attempts::CALL_TIMEOUT;
use crate::error::timed;
use crate::pool::Database;

/// How long a decision is remembered.
pub const DECISIONS_TERM: Duration = Duration::from_hours(366 * 24);

/// An effect's name as [`queue_core::effects::EffectKey`] prints it: `scope/tenant/key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectName {
    scope: String,
    tenant: String,
    key: String,
}

/// What is no effect's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an effect is named SCOPE/TENANT/KEY, e.g. orders.charge/acme/id:01941f29-…")]
pub struct NoEffectName;

impl FromStr for EffectName {
    type Err = NoEffectName;

    fn from_str(text: &str) -> Result<Self, NoEffectName> {
        // Neither scopes nor tenants have a slash; a key may.
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).map(ToOwned::to_owned);
        match (part(), part(), part()) {
            (Some(scope), Some(tenant), Some(key)) => Ok(Self { scope, tenant, key }),
            _ => Err(NoEffectName),
        }
    }
}

impl std::fmt::Display for EffectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.tenant, self.key)
    }
}

/// Where an effect stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It happened.
    Done,
    /// A delivery holds it.
    InProgress,
    /// It was begun, its holder's time is up, and nobody said how it ended.
    Unknown,
    /// An operator said that it did not happen: the next delivery runs it.
    NotDone,
}

impl Standing {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::InProgress => "in-progress",
            Self::Unknown => "unknown",
            Self::NotDone => "not-done",
        }
    }
}

/// An effect as an operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EffectEntry {
    /// Its name.
    pub effect: String,
    /// Which effect.
    pub scope: String,
    /// Whose.
    pub tenant: String,
    /// Its key in the ledger.
    pub key: String,
    /// Where it stands.
    pub standing: Standing,
    /// Who began it; empty for an effect of a transaction.
    pub begun_by: String,
    /// When it was begun.
    pub since: DateTime<Utc>,
    /// How long it is held still, unless its holder goes on.
    pub held_secs: Option<f64>,
    /// What it came to; empty where nobody asks for it.
    pub outcome: String,
    /// When the ledger forgets it.
    pub expires_at: DateTime<Utc>,
    /// Grows with every holder.
    pub epoch: i64,
}

/// What a person says of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It happened, and this is what it came to, e.g. the other side's receipt.
    Done(queue_core::effects::Outcome),
    /// It did not happen.
    NotDone,
}

impl Word {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => Standing::Done.as_str(),
            Self::NotDone => Standing::NotDone.as_str(),
        }
    }
}

/// A word with its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What is said.
    pub word: Word,
    /// Why, 1 to 200 characters.
    pub reason: String,
    /// Who, 1 to 200 characters.
    pub by: String,
}

/// A decision of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Decided {
    /// `done` or `not-done`.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub decided_by: String,
    /// When.
    pub decided_at: DateTime<Utc>,
    /// Who had begun it.
    pub holder: String,
    /// When that one had.
    pub since: DateTime<Utc>,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only this effect.
    pub scope: Option<String>,
    /// Also those that a delivery holds, or that will be run again.
    pub all_open: bool,
    /// Only those of which nothing was heard for at least this long.
    pub silent_for: Duration,
}

/// What an operator reads of the ledger and writes into it. Needs [`crate::Role::Worker`].
#[derive(Clone, Debug)]
pub struct EffectDesk {
    pool: PgPool,
}

const COLUMNS: &str = "scope, tenant, key, epoch, holder, since, not_done, outcome, expires_at,
    extract(epoch FROM busy_until - clock_timestamp())::float8 AS held";

impl EffectDesk {
    /// The ledger in that database.
    pub fn new(database: &Database) -> Self {
        Self { pool: database.pool().clone() }
    }

    /// Effects that are not done, those that wait longest first, at most `max`.
    pub async fn open(&self, wanted: &Wanted, max: usize) -> Result<Vec<EffectEntry>, sqlx::Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM effects
              WHERE busy_until IS NOT NULL
                AND ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR scope = $2)
                AND ($3 OR (NOT not_done AND
                            busy_until <= clock_timestamp() - make_interval(secs => $4)))
              ORDER BY since, scope, tenant, key LIMIT $5"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(&wanted.tenant)
            .bind(&wanted.scope)
            .bind(wanted.all_open)
            .bind(wanted.silent_for.as_secs_f64())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&self.pool);
        timed(CALL_TIMEOUT, rows).await?.iter().map(entry).collect()
    }

    /// One effect; `None` when the ledger has none of that name.
    pub async fn find(&self, name: &EffectName) -> Result<Option<EffectEntry>, sqlx::Error> {
        let sql =
            format!("SELECT {COLUMNS} FROM effects WHERE tenant = $1 AND scope = $2 AND key = $3");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(&name.tenant)
            .bind(&name.scope)
            .bind(&name.key)
            .fetch_optional(&self.pool);
        timed(CALL_TIMEOUT, row).await?.as_ref().map(entry).transpose()
    }

    /// What was decided over an effect, newest first, at most `max`.
    pub async fn decisions(
        &self,
        name: &EffectName,
        max: usize,
    ) -> Result<Vec<Decided>, sqlx::Error> {
        let rows = sqlx::query_as(
            "SELECT decision, reason, decided_by, decided_at, holder, since FROM effect_decisions
              WHERE tenant = $1 AND scope = $2 AND key = $3 ORDER BY id DESC LIMIT $4",
        )
        .bind(&name.tenant)
        .bind(&name.scope)
        .bind(&name.key)
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch_all(&self.pool);
        timed(CALL_TIMEOUT, rows).await
    }

    /// Carries out a person's word on an unknown effect, and keeps it. `false`, and nothing is
    /// changed, when it is no longer unknown or has another holder than when it was looked at.
    pub async fn settle(
        &self,
        name: &EffectName,
        epoch: i64,
        ruling: &Ruling,
    ) -> Result<bool, sqlx::Error> {
        timed(CALL_TIMEOUT, self.settled(name, epoch, ruling)).await
    }

    async fn settled(
        &self,
        name: &EffectName,
        epoch: i64,
        ruling: &Ruling,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // A new epoch for what did not happen: a holder that was only asleep has no say any more.
        let statement = match ruling.word {
            Word::Done(_) => {
                "UPDATE effects SET busy_until = NULL, outcome = $5,
                        expires_at = now() + make_interval(secs => $6)"
            }
            Word::NotDone => {
                "UPDATE effects SET not_done = true, outcome = $5, epoch = epoch + 1,
                        expires_at = now() + make_interval(secs => $6)"
            }
        };
        let outcome = match &ruling.word {
            Word::Done(outcome) => outcome.as_str(),
            Word::NotDone => "",
        };
        let sql = format!(
            "{statement} WHERE tenant = $1 AND scope = $2 AND key = $3 AND epoch = $4
               AND NOT not_done AND busy_until <= clock_timestamp() RETURNING holder, since"
        );
        let before: Option<(String, DateTime<Utc>)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(&name.tenant)
            .bind(&name.scope)
            .bind(&name.key)
            .bind(epoch)
            .bind(outcome.as_bytes())
            .bind(EFFECTS_TERM.as_secs_f64())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some((holder, since)) = before else { return Ok(false) };
        sqlx::query(
            "INSERT INTO effect_decisions
               (tenant, scope, key, decision, reason, decided_by, holder, since, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))",
        )
        .bind(&name.tenant)
        .bind(&name.scope)
        .bind(&name.key)
        .bind(ruling.word.as_str())
        .bind(ruling.reason.replace('\0', "\u{fffd}"))
        .bind(ruling.by.replace('\0', "\u{fffd}"))
        .bind(holder)
        .bind(since)
        .bind(DECISIONS_TERM.as_secs_f64())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

fn entry(row: &PgRow) -> Result<EffectEntry, sqlx::Error> {
    let (scope, tenant, key): (String, String, String) =
        (row.try_get("scope")?, row.try_get("tenant")?, row.try_get("key")?);
    let held: Option<f64> = row.try_get("held")?;
    let standing = match held {
        None => Standing::Done,
        Some(_) if row.try_get("not_done")? => Standing::NotDone,
        Some(left) if left > 0.0 => Standing::InProgress,
        Some(_) => Standing::Unknown,
    };
    Ok(EffectEntry {
        effect: format!("{scope}/{tenant}/{key}"),
        standing,
        begun_by: row.try_get("holder")?,
        since: row.try_get("since")?,
        held_secs: held.filter(|_| standing == Standing::InProgress),
        outcome: super::stored(row.try_get("outcome")?).as_str().to_owned(),
        expires_at: row.try_get("expires_at")?,
        epoch: row.try_get("epoch")?,
        scope,
        tenant,
        key,
    })
}
