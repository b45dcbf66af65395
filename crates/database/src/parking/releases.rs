//! What releasers and handlers write: a step is claimed, noted as sent, taken out of its line.

use queue_core::park::{CLAIM, Due, EntryState, Marker, ParkedMessage};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::rows;

/// Claims groups with something to send, and answers the first thing in each.
pub(super) async fn due(pool: &PgPool, queue: &str, max: usize) -> Result<Vec<Due>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let groups: Vec<(String, bool)> = sqlx::query_as(
        "SELECT g.grp, g.releasing FROM parked_groups g
          WHERE g.queue = $1 AND (g.claimed_until IS NULL OR g.claimed_until <= clock_timestamp())
            AND (EXISTS (SELECT FROM parked_messages m
                          WHERE m.queue = g.queue AND m.grp = g.grp AND m.standing = 'skip')
              OR (g.releasing
                  AND NOT EXISTS (SELECT FROM parked_messages m
                                   WHERE m.queue = g.queue AND m.grp = g.grp AND m.standing = 'sent')
                  AND EXISTS (SELECT FROM parked_messages m
                               WHERE m.queue = g.queue AND m.grp = g.grp
                                 AND m.standing IN ('waiting', 'sending'))))
          ORDER BY g.claimed_until NULLS FIRST, g.grp LIMIT $2 FOR UPDATE OF g SKIP LOCKED",
    )
    .bind(queue)
    .bind(i64::try_from(max).unwrap_or(i64::MAX))
    .fetch_all(&mut *transaction)
    .await?;
    let mut due = Vec::with_capacity(groups.len());
    for (group, releasing) in groups {
        due.extend(next(&mut transaction, queue, &group, releasing).await?);
    }
    transaction.commit().await?;
    Ok(due)
}

/// The next step of a locked group, marked as begun.
async fn next(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
    releasing: bool,
) -> Result<Option<Due>, sqlx::Error> {
    let sql = format!(
        "UPDATE parked_messages SET release = release + (standing = 'waiting')::integer,
                standing = CASE standing WHEN 'waiting' THEN 'sending' ELSE standing END
          WHERE id = (SELECT id FROM parked_messages
                       WHERE queue = $1 AND grp = $2
                         AND (standing = 'skip' OR ($3 AND standing IN ('waiting', 'sending')))
                       ORDER BY standing <> 'skip', position LIMIT 1)
         RETURNING id, release, standing, skip_reason, {}",
        rows::MESSAGE
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(queue)
        .bind(group)
        .bind(releasing)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query(
        "UPDATE parked_groups SET claimed_until = clock_timestamp() + make_interval(secs => $3)
          WHERE queue = $1 AND grp = $2",
    )
    .bind(queue)
    .bind(group)
    .bind(CLAIM.as_secs_f64())
    .execute(connection)
    .await?;
    let skips = rows::state(row.try_get("standing")?)? == EntryState::Skip;
    let skipped: Option<String> = row.try_get("skip_reason")?;
    Ok(Some(Due {
        marker: Marker { id: row.try_get("id")?, release: row.try_get("release")? },
        message: rows::message(&row)?,
        skipped: skipped.filter(|_| skips),
    }))
}

/// A released message is in the queue.
pub(super) async fn sent(
    pool: &PgPool,
    queue: &str,
    group: &str,
    marker: Marker,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if rows::lock(&mut transaction, queue, group).await?.is_none() {
        return Ok(());
    }
    let noted = sqlx::query(
        "UPDATE parked_messages SET standing = 'sent'
          WHERE id = $1 AND release = $2 AND standing = 'sending'",
    )
    .bind(marker.id)
    .bind(marker.release)
    .execute(&mut *transaction)
    .await?;
    if noted.rows_affected() == 1 {
        end_claim(&mut transaction, queue, group).await?;
    }
    transaction.commit().await
}

/// The dead letter of a message was sent.
pub(super) async fn lettered(
    pool: &PgPool,
    queue: &str,
    message: &ParkedMessage,
    marker: Option<Marker>,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let Some(locked) = rows::lock(&mut transaction, queue, &message.group).await? else {
        return Ok(());
    };
    end_claim(&mut transaction, queue, &message.group).await?;
    if let Some(entry) = rows::find(&mut transaction, queue, message, marker).await? {
        sqlx::query(
            "UPDATE parked_messages SET lettered = true,
                    standing = CASE WHEN standing = 'skip' OR standing = 'rejected' AND $2
                                    THEN 'gone' ELSE standing END
              WHERE id = $1",
        )
        .bind(entry.id)
        .bind(locked.releasing)
        .execute(&mut *transaction)
        .await?;
    }
    rows::open_if_done(&mut transaction, queue, &message.group).await?;
    transaction.commit().await
}

/// A released message was handled; tells whether the group is open again.
pub(super) async fn handled(
    pool: &PgPool,
    queue: &str,
    group: &str,
    marker: Marker,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if rows::lock(&mut transaction, queue, group).await?.is_none() {
        return Ok(false);
    }
    sqlx::query("DELETE FROM parked_messages WHERE id = $1 AND queue = $2 AND grp = $3")
        .bind(marker.id)
        .bind(queue)
        .bind(group)
        .execute(&mut *transaction)
        .await?;
    end_claim(&mut transaction, queue, group).await?;
    let opened = rows::open_if_done(&mut transaction, queue, group).await?;
    transaction.commit().await?;
    Ok(opened)
}

async fn end_claim(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE parked_groups SET claimed_until = NULL WHERE queue = $1 AND grp = $2")
        .bind(queue)
        .bind(group)
        .execute(connection)
        .await?;
    Ok(())
}
