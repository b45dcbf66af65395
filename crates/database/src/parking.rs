//! Parked groups of FIFO queues in PostgreSQL. Each call is one transaction that locks its group's
//! row first; what the order of calls guarantees stands in [`queue_core::park`].

mod desk;
mod releases;
mod rows;

use async_trait::async_trait;
use queue_core::park::{
    Admission, Due, EntryState, Marker, ParkFigures, ParkLimits, ParkReason, ParkStore,
    ParkStoreError, ParkedMessage, Place,
};
use sqlx::{PgConnection, PgPool};

use crate::attempts::CALL_TIMEOUT;
use crate::error::timed;
use crate::pool::Database;
use rows::{Entry, Group};

/// [`ParkStore`] on the tables `parked_groups` and `parked_messages`. Needs [`crate::Role::Worker`].
#[derive(Clone, Debug)]
pub struct PostgresParking {
    pool: PgPool,
    limits: ParkLimits,
}

impl PostgresParking {
    /// A store on that database.
    pub fn new(database: &Database) -> Self {
        Self::with_limits(database, ParkLimits::default())
    }

    /// A store with other bounds.
    pub fn with_limits(database: &Database, limits: ParkLimits) -> Self {
        Self { pool: database.pool().clone(), limits }
    }

    /// Whether another message has no room.
    async fn full(
        &self,
        connection: &mut PgConnection,
        queue: &str,
        group: &str,
    ) -> Result<bool, sqlx::Error> {
        let bound = |max: u64| i64::try_from(max).unwrap_or(i64::MAX);
        sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM (SELECT FROM parked_messages
                      WHERE queue = $1 AND grp = $2 AND standing <> 'gone' LIMIT $3) AS g) >= $3
                 OR (SELECT count(*) FROM (SELECT FROM parked_messages
                      WHERE queue = $1 AND standing <> 'gone' LIMIT $4) AS q) >= $4",
        )
        .bind(queue)
        .bind(group)
        .bind(bound(self.limits.group_max))
        .bind(bound(self.limits.queue_max))
        .fetch_one(connection)
        .await
    }

    async fn admitted(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let Some(group) = rows::lock(&mut transaction, queue, &message.group).await? else {
            return Ok(if marker.is_some() { Admission::Done } else { Admission::Open });
        };
        let admission = match rows::find(&mut transaction, queue, message, marker).await? {
            Some(entry) => known(&mut transaction, queue, &group, &entry, marker).await?,
            None if marker.is_some() => Admission::Done,
            None if !group.releasing
                && self.full(&mut transaction, queue, &message.group).await? =>
            {
                Admission::Full
            }
            None => {
                rows::append(&mut transaction, queue, message, EntryState::Waiting).await?;
                Admission::InLine
            }
        };
        transaction.commit().await?;
        Ok(admission)
    }

    async fn parked_with(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        state: EntryState,
        reason: &ParkReason,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO parked_groups (queue, grp, code, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT (queue, grp) DO UPDATE SET code = excluded.code, reason = excluded.reason,
               releasing = false, claimed_until = NULL",
        )
        .bind(queue)
        .bind(&message.group)
        .bind(&reason.code)
        .bind(rows::printable(&reason.message))
        .execute(&mut *transaction)
        .await?;
        let known = rows::find(&mut transaction, queue, message, marker).await?;
        if known.is_none() && self.full(&mut transaction, queue, &message.group).await? {
            // Awaited: a dropped transaction rolls back some time later, and until then a releaser's
            // look passes over the group that it has locked.
            transaction.rollback().await?;
            return Ok(false);
        }
        rows::send_back(&mut transaction, queue, &message.group).await?;
        match known {
            Some(entry) => {
                sqlx::query(
                    "UPDATE parked_messages SET standing = $2, lettered = false WHERE id = $1",
                )
                .bind(entry.id)
                .bind(state.as_str())
                .execute(&mut *transaction)
                .await?;
            }
            None => rows::append(&mut transaction, queue, message, state).await?,
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn which(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT g.grp IS NOT NULL FROM unnest($2::text[]) WITH ORDINALITY AS wanted (grp, place)
             LEFT JOIN parked_groups g ON g.queue = $1 AND g.grp = wanted.grp ORDER BY place",
        )
        .bind(queue)
        .bind(groups)
        .fetch_all(&self.pool)
        .await
    }
}

/// What becomes of a message that the line knows.
async fn known(
    connection: &mut PgConnection,
    queue: &str,
    group: &Group,
    entry: &Entry,
    marker: Option<Marker>,
) -> Result<Admission, sqlx::Error> {
    if marker.map_or(0, |marker| marker.release) != entry.release {
        return Ok(Admission::InLine);
    }
    Ok(match entry.state {
        EntryState::Rejected if !entry.lettered => Admission::Unlettered(group.reason.clone()),
        EntryState::Sending | EntryState::Sent => {
            if group.releasing
                && rows::first(connection, queue, &group.name).await? == Some(entry.id)
            {
                let (body, attributes) = rows::original(connection, entry.id).await?;
                return Ok(Admission::Turn { body, attributes });
            }
            sqlx::query("UPDATE parked_messages SET standing = 'waiting' WHERE id = $1")
                .bind(entry.id)
                .execute(connection)
                .await?;
            Admission::InLine
        }
        _ => Admission::InLine,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn store_error(error: sqlx::Error) -> ParkStoreError {
    ParkStoreError(crate::schema::explain(&error))
}

async fn call<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ParkStoreError> {
    timed(CALL_TIMEOUT, work).await.map_err(store_error)
}

#[async_trait]
impl ParkStore for PostgresParking {
    async fn parked(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, ParkStoreError> {
        call(self.which(queue, groups)).await
    }

    async fn admit(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, ParkStoreError> {
        call(self.admitted(queue, message, marker)).await
    }

    async fn park(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        place: Place,
        reason: &ParkReason,
    ) -> Result<bool, ParkStoreError> {
        let state = match place {
            Place::Rejected => EntryState::Rejected,
            Place::First => EntryState::Waiting,
        };
        call(self.parked_with(queue, message, marker, state, reason)).await
    }

    async fn lettered(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<(), ParkStoreError> {
        call(releases::lettered(&self.pool, queue, message, marker)).await
    }

    async fn handled(
        &self,
        queue: &str,
        group: &str,
        marker: Marker,
    ) -> Result<bool, ParkStoreError> {
        call(releases::handled(&self.pool, queue, group, marker)).await
    }

    async fn due(&self, queue: &str, max: usize) -> Result<Vec<Due>, ParkStoreError> {
        call(releases::due(&self.pool, queue, max)).await
    }

    async fn sent(&self, queue: &str, group: &str, marker: Marker) -> Result<(), ParkStoreError> {
        call(releases::sent(&self.pool, queue, group, marker)).await
    }

    async fn figures(&self, queue: &str) -> Result<ParkFigures, ParkStoreError> {
        let figures = sqlx::query_as(
            "SELECT (SELECT count(*) FROM parked_groups WHERE queue = $1),
                    (SELECT count(*) FROM parked_messages WHERE queue = $1 AND standing <> 'gone')",
        )
        .bind(queue)
        .fetch_one(&self.pool);
        let (groups, messages): (i64, i64) = call(figures).await?;
        Ok(ParkFigures { groups: groups.unsigned_abs(), messages: messages.unsigned_abs() })
    }
}
