//! Single rows of the parking tables, read and written inside a transaction of the caller's.

use chrono::{DateTime, Utc};
use queue_core::park::{EntryState, Marker, ParkReason, ParkedMessage};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

/// A locked group.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) releasing: bool,
    pub(super) reason: ParkReason,
}

/// Where a message stands, without the message.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) release: i32,
    pub(super) state: EntryState,
    pub(super) lettered: bool,
}

/// Locks a group until the transaction ends; `None` when it is open.
pub(super) async fn lock(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
) -> Result<Option<Group>, sqlx::Error> {
    let row: Option<(bool, String, String)> = sqlx::query_as(
        "SELECT releasing, code, reason FROM parked_groups WHERE queue = $1 AND grp = $2 FOR UPDATE",
    )
    .bind(queue)
    .bind(group)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(releasing, code, message)| Group {
        name: group.to_owned(),
        releasing,
        reason: ParkReason { code, message },
    }))
}

/// A message's entry: by its marker, or by the broker's id.
pub(super) async fn find(
    connection: &mut PgConnection,
    queue: &str,
    message: &ParkedMessage,
    marker: Option<Marker>,
) -> Result<Option<Entry>, sqlx::Error> {
    let row: Option<(i64, i32, String, bool)> = sqlx::query_as(
        "SELECT id, release, standing, lettered FROM parked_messages
          WHERE queue = $1 AND grp = $2
            AND CASE WHEN $3::bigint IS NULL THEN message_id = $4 ELSE id = $3 END",
    )
    .bind(queue)
    .bind(&message.group)
    .bind(marker.map(|marker| marker.id))
    .bind(&message.message_id)
    .fetch_optional(connection)
    .await?;
    row.map(|(id, release, word, lettered)| {
        Ok(Entry { id, release, state: state(&word)?, lettered })
    })
    .transpose()
}

/// The first entry of a line that is still to be handled.
pub(super) async fn first(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM parked_messages WHERE queue = $1 AND grp = $2
            AND standing IN ('waiting', 'sending', 'sent') ORDER BY position LIMIT 1",
    )
    .bind(queue)
    .bind(group)
    .fetch_optional(connection)
    .await
}

/// A message as it was when it was parked: body and attributes.
pub(super) async fn original(
    connection: &mut PgConnection,
    id: i64,
) -> Result<(String, Vec<(String, String)>), sqlx::Error> {
    let (body, attributes): (Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT body, attributes FROM parked_messages WHERE id = $1")
            .bind(id)
            .fetch_one(connection)
            .await?;
    Ok((text(body)?, pairs(&attributes)?))
}

/// Puts a message at the end of its group's line.
pub(super) async fn append(
    connection: &mut PgConnection,
    queue: &str,
    message: &ParkedMessage,
    state: EntryState,
) -> Result<(), sqlx::Error> {
    let position: i64 = sqlx::query_scalar(
        "UPDATE parked_groups SET next_position = next_position + 1
          WHERE queue = $1 AND grp = $2 RETURNING next_position - 1",
    )
    .bind(queue)
    .bind(&message.group)
    .fetch_one(&mut *connection)
    .await?;
    let attributes = serde_json::to_vec(&message.attributes)
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(
        "INSERT INTO parked_messages (queue, grp, position, tenant, message_id, kind, body,
                                      attributes, first_seen, standing)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(queue)
    .bind(&message.group)
    .bind(position)
    .bind(&message.tenant)
    .bind(&message.message_id)
    .bind(message.kind.as_deref().map(printable))
    .bind(message.body.as_bytes())
    .bind(attributes)
    .bind(message.first_seen)
    .bind(state.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// What is on its way goes back to its place.
pub(super) async fn send_back(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE parked_messages SET standing = 'waiting'
          WHERE queue = $1 AND grp = $2 AND standing IN ('sending', 'sent')",
    )
    .bind(queue)
    .bind(group)
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens a group that is being released and in which nothing is left to do.
pub(super) async fn open_if_done(
    connection: &mut PgConnection,
    queue: &str,
    group: &str,
) -> Result<bool, sqlx::Error> {
    let opened = sqlx::query(
        "DELETE FROM parked_groups g WHERE queue = $1 AND grp = $2 AND releasing
            AND NOT EXISTS (SELECT FROM parked_messages m
                             WHERE m.queue = g.queue AND m.grp = g.grp AND m.standing <> 'gone')",
    )
    .bind(queue)
    .bind(group)
    .execute(&mut *connection)
    .await?;
    if opened.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM parked_messages WHERE queue = $1 AND grp = $2")
        .bind(queue)
        .bind(group)
        .execute(connection)
        .await?;
    Ok(true)
}

/// Columns of a whole message, for [`message`].
pub(super) const MESSAGE: &str = "grp, message_id, tenant, kind, body, attributes, first_seen";

/// Reads a row with the columns [`MESSAGE`].
pub(super) fn message(row: &PgRow) -> Result<ParkedMessage, sqlx::Error> {
    let first_seen: DateTime<Utc> = row.try_get("first_seen")?;
    Ok(ParkedMessage {
        group: row.try_get("grp")?,
        message_id: row.try_get("message_id")?,
        tenant: row.try_get("tenant")?,
        kind: row.try_get("kind")?,
        body: text(row.try_get("body")?)?,
        attributes: pairs(row.try_get("attributes")?)?,
        first_seen,
    })
}

/// The state of a stored word.
pub(super) fn state(word: &str) -> Result<EntryState, sqlx::Error> {
    EntryState::of(word).ok_or_else(|| sqlx::Error::Decode(format!("no state: {word}").into()))
}

/// PostgreSQL's text refuses NUL, and a reason may quote one from a message.
pub(super) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn text(bytes: Vec<u8>) -> Result<String, sqlx::Error> {
    String::from_utf8(bytes).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn pairs(json: &[u8]) -> Result<Vec<(String, String)>, sqlx::Error> {
    serde_json::from_slice(json).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
