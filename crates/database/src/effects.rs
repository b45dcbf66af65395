//! The ledger of effects in PostgreSQL. An effect in PostgreSQL claims its entry inside its own
//! transaction, so that both commit or neither does; one elsewhere holds an entry in progress, by the
//! server's clock, for as long as its delivery's lease.

pub mod desk;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use contracts::catalogue;
use queue_core::effects::{Begun, Claim, EffectKey, Effects, EffectsError, Entry, Outcome};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Transaction};

use crate::attempts::CALL_TIMEOUT;
use crate::error::timed;
use crate::pool::Database;
use crate::schema::explain;

/// How long an entry is remembered: longer than a message can be redelivered on any queue of the
/// catalogue, and no shorter than a tombstone.
pub const EFFECTS_TERM: Duration = Duration::from_secs(effects_term_secs());

const fn effects_term_secs() -> u64 {
    let (sixty_days, longest) = (60 * 86_400, catalogue::redelivery_max_secs() + 86_400);
    if longest > sixty_days { longest } else { sixty_days }
}

/// How claiming an effect failed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// PostgreSQL, as [`crate::classify`] reads it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The scope is used outside of transactions too.
    #[error(transparent)]
    Misused(EffectsError),
}

/// Claims an effect in the caller's transaction. Waits while another transaction that claimed it has
/// not ended, within the session's lock timeout. Needs [`crate::Role::Worker`].
pub async fn claim(transaction: &mut PgConnection, key: &EffectKey) -> Result<Claim, ClaimError> {
    let inserted = sqlx::query(
        "INSERT INTO effects (tenant, scope, key, epoch, holder, since, expires_at)
         VALUES ($1, $2, $3, 0, '', now(), now() + make_interval(secs => $4))
         ON CONFLICT DO NOTHING",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .bind(EFFECTS_TERM.as_secs_f64())
    .execute(&mut *transaction)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Claim::New);
    }
    let row: Option<(Option<DateTime<Utc>>, Vec<u8>)> = sqlx::query_as(
        "SELECT busy_until, outcome FROM effects WHERE tenant = $1 AND scope = $2 AND key = $3",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .fetch_optional(&mut *transaction)
    .await?;
    match row {
        Some((None, outcome)) => Ok(Claim::Done(stored(outcome))),
        Some((Some(_), _)) => Err(ClaimError::Misused(EffectsError::Misused(key.clone()))),
        // Aged out between the two statements: as good as never done, and the next try says so.
        None => Err(sqlx::Error::RowNotFound.into()),
    }
}

/// Keeps what a claimed effect came to, in the transaction that claimed it.
pub async fn record(
    transaction: &mut PgConnection,
    key: &EffectKey,
    outcome: &Outcome,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE effects SET outcome = $4
         WHERE tenant = $1 AND scope = $2 AND key = $3 AND busy_until IS NULL",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .bind(outcome.as_str().as_bytes())
    .execute(transaction)
    .await
    .map(|_| ())
}

/// [`Effects`] on the table `effects`. Needs [`crate::Role::Worker`].
#[derive(Clone, Debug)]
pub struct PostgresEffects {
    pool: PgPool,
}

/// An entry as it stands: its epoch, who began it and when, how long it is busy, whether an operator
/// said that it did not happen, what it came to.
type Standing = (i64, String, DateTime<Utc>, Option<f64>, bool, Vec<u8>);

impl PostgresEffects {
    /// A ledger in that database.
    pub fn new(database: &Database) -> Self {
        Self { pool: database.pool().clone() }
    }

    async fn begin_in(
        &self,
        key: &EffectKey,
        holder: &str,
        lease: Duration,
    ) -> Result<Begun, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let begun = if insert(&mut transaction, key, holder, lease).await? {
            Begun::Fresh(Entry { key: key.clone(), epoch: 1 })
        } else {
            take_over(&mut transaction, key, holder, lease).await?
        };
        transaction.commit().await?;
        Ok(begun)
    }

    /// A statement on our own entry; `Lost` when there is none.
    async fn on_ours(
        &self,
        entry: &Entry,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> Result<(), EffectsError> {
        match timed(CALL_TIMEOUT, statement.execute(&self.pool)).await {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => Err(EffectsError::Lost(entry.key.clone())),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// A statement whose first four parameters name an entry and our hold on it.
fn about<'q>(entry: &'q Entry, statement: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(statement)
        .bind(entry.key.tenant().as_str())
        .bind(entry.key.scope())
        .bind(entry.key.key())
        .bind(entry.epoch)
}

async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    key: &EffectKey,
    holder: &str,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO effects (tenant, scope, key, epoch, holder, since, busy_until, expires_at)
         VALUES ($1, $2, $3, 1, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $5),
                 now() + make_interval(secs => $6))
         ON CONFLICT DO NOTHING",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .bind(holder.replace('\0', "\u{fffd}"))
    .bind(lease.as_secs_f64())
    .bind(EFFECTS_TERM.as_secs_f64())
    .execute(&mut **transaction)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Judges the entry that is there, under its row's lock, and takes it when its holder's time is up. Who
/// began it stays in it: whoever is asked whether it happened asks that one.
async fn take_over(
    transaction: &mut Transaction<'_, Postgres>,
    key: &EffectKey,
    holder: &str,
    lease: Duration,
) -> Result<Begun, sqlx::Error> {
    let (epoch, by, since, busy_secs, not_done, outcome): Standing = sqlx::query_as(
        "SELECT epoch, holder, since,
                extract(epoch FROM busy_until - clock_timestamp())::float8, not_done, outcome
           FROM effects WHERE tenant = $1 AND scope = $2 AND key = $3 FOR UPDATE",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .fetch_one(&mut **transaction)
    .await?;
    match busy_secs {
        None => return Ok(Begun::Done(stored(outcome))),
        Some(left) if left > 0.0 && !not_done => {
            return Ok(Begun::Busy(Duration::from_secs_f64(left)));
        }
        Some(_) => {}
    }
    sqlx::query(
        "UPDATE effects SET epoch = $4, not_done = false,
                holder = CASE WHEN not_done THEN $5 ELSE holder END,
                since = CASE WHEN not_done THEN clock_timestamp() ELSE since END,
                busy_until = clock_timestamp() + make_interval(secs => $6),
                expires_at = now() + make_interval(secs => $7)
         WHERE tenant = $1 AND scope = $2 AND key = $3",
    )
    .bind(key.tenant().as_str())
    .bind(key.scope())
    .bind(key.key())
    .bind(epoch + 1)
    .bind(holder.replace('\0', "\u{fffd}"))
    .bind(lease.as_secs_f64())
    .bind(EFFECTS_TERM.as_secs_f64())
    .execute(&mut **transaction)
    .await?;
    let entry = Entry { key: key.clone(), epoch: epoch + 1 };
    Ok(if not_done { Begun::Fresh(entry) } else { Begun::Abandoned { entry, since, by } })
}

#[async_trait]
impl Effects for PostgresEffects {
    async fn begin(
        &self,
        key: &EffectKey,
        holder: &str,
        lease: Duration,
    ) -> Result<Begun, EffectsError> {
        timed(CALL_TIMEOUT, self.begin_in(key, holder, lease)).await.map_err(|e| unavailable(&e))
    }

    async fn extend(&self, entry: &Entry, lease: Duration) -> Result<(), EffectsError> {
        let statement = about(
            entry,
            "UPDATE effects SET busy_until = clock_timestamp() + make_interval(secs => $5)
             WHERE tenant = $1 AND scope = $2 AND key = $3 AND epoch = $4 AND busy_until IS NOT NULL",
        );
        self.on_ours(entry, statement.bind(lease.as_secs_f64())).await
    }

    async fn complete(&self, entry: &Entry, outcome: &Outcome) -> Result<(), EffectsError> {
        // Its term begins when it is done.
        let statement = about(
            entry,
            "UPDATE effects SET busy_until = NULL, outcome = $5,
                    expires_at = now() + make_interval(secs => $6)
             WHERE tenant = $1 AND scope = $2 AND key = $3 AND epoch = $4",
        );
        let outcome = outcome.as_str().as_bytes();
        self.on_ours(entry, statement.bind(outcome).bind(EFFECTS_TERM.as_secs_f64())).await
    }

    async fn release(&self, entry: &Entry) -> Result<(), EffectsError> {
        let statement = about(
            entry,
            "DELETE FROM effects
             WHERE tenant = $1 AND scope = $2 AND key = $3 AND epoch = $4 AND busy_until IS NOT NULL",
        );
        self.on_ours(entry, statement).await
    }
}

fn stored(outcome: Vec<u8>) -> Outcome {
    // Only we write the column, from an `Outcome`.
    let text = String::from_utf8(outcome).unwrap_or_default();
    Outcome::new(text).unwrap_or_default()
}

fn unavailable(error: &sqlx::Error) -> EffectsError {
    EffectsError::Unavailable(explain(error))
}
