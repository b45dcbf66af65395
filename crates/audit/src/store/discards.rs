//! Names that units have given up: an object under one of them is in no chain, and nobody needs it. A
//! name is given up in the transaction that makes the unit do without it, so that no crash leaves an
//! object that nobody knows of; it is never given out again. Nothing here removes an object.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use sqlx::{PgConnection, Row};

use crate::lifecycle::{Unit, UnitState};

/// Names that one [`due_discards`] answers at most.
const DISCARDS_MAX: i64 = 500;

/// A name that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discard {
    /// Whose.
    pub(crate) tenant: Tenant,
    /// The name.
    pub(crate) object: String,
    /// The unit that may have written an object under it.
    pub(crate) unit: UnitId,
    /// When it was given up: a write that was begun before may still arrive.
    pub(crate) since: DateTime<Utc>,
    /// An object of that name is in the archive all the same.
    pub(crate) needed: bool,
}

/// The unit does without its name, and with it without what it may have written there. Nothing where it
/// has none, or where its object is in the chain.
pub(super) async fn give_up(connection: &mut PgConnection, unit: &Unit) -> Result<(), sqlx::Error> {
    let (UnitState::Planned | UnitState::Written, Some(object)) = (unit.state, &unit.object) else {
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO archive_discards (tenant, object, unit_id) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(unit.tenant.as_str())
    .bind(object)
    .bind(unit.id)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Names whose turn it is, of one unit or of all; those that waited longest first.
pub(crate) async fn due_discards(
    connection: &mut PgConnection,
    of: Option<(&Tenant, UnitId)>,
    now: DateTime<Utc>,
) -> Result<Vec<Discard>, sqlx::Error> {
    let (tenant, unit) = of.unzip();
    sqlx::query(
        "SELECT d.tenant, d.object, d.unit_id, d.since,
                EXISTS (SELECT FROM archive_objects o
                         WHERE o.tenant = d.tenant AND o.object = d.object) AS needed
           FROM archive_discards d
          WHERE CASE WHEN $1::text IS NULL THEN d.look_at <= $3
                     ELSE d.tenant = $1 AND d.unit_id = $2 END
          ORDER BY d.look_at LIMIT $4",
    )
    .bind(tenant.map(Tenant::as_str))
    .bind(unit)
    .bind(now)
    .bind(DISCARDS_MAX)
    .fetch_all(connection)
    .await?
    .iter()
    .map(|row| {
        let tenant: String = row.try_get("tenant")?;
        Ok(Discard {
            tenant: tenant.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            object: row.try_get("object")?,
            unit: row.try_get("unit_id")?,
            since: row.try_get("since")?,
            needed: row.try_get("needed")?,
        })
    })
    .collect()
}

/// Nothing is under the name, or what is there is not the unit's.
pub(crate) async fn end_discard(
    connection: &mut PgConnection,
    discard: &Discard,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM archive_discards WHERE tenant = $1 AND object = $2")
        .bind(discard.tenant.as_str())
        .bind(&discard.object)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Looks there again at that time.
pub(crate) async fn look_again(
    connection: &mut PgConnection,
    discard: &Discard,
    at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE archive_discards SET look_at = $3 WHERE tenant = $1 AND object = $2")
        .bind(discard.tenant.as_str())
        .bind(&discard.object)
        .bind(at)
        .execute(connection)
        .await
        .map(|_| ())
}
