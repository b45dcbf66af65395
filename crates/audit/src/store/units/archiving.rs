//! The steps by which a unit's rows become an object: a part number, an upload, the object, the
//! manifest. Each is the claim holder's alone.

use chrono::{DateTime, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use evidence::document::{ManifestRef, object_name};
use evidence::object::Contents;
use serde_json::Value;
use sqlx::PgConnection;

use super::super::discards::give_up;
use super::{Claim, Moved, UnitError, advance, ours};
use crate::lifecycle::{Tally, Unit, UnitState};

/// Gives the unit a part number of its hour and so the name of its object: once, or anew where its
/// number is below `at_least` because the store has other objects under those names. What it had
/// written under an earlier name is discarded.
pub async fn allot_part(
    connection: &mut PgConnection,
    claim: &Claim,
    at_least: u32,
) -> Result<Unit, UnitError> {
    let unit = ours(connection, claim).await?;
    if unit.state != UnitState::Planned {
        return Err(UnitError::State { unit: unit.id, step: "a part number", state: unit.state });
    }
    if unit.part.is_some_and(|part| part >= at_least) {
        return Ok(unit);
    }
    give_up(connection, &unit).await?;
    let part = next_part(connection, &unit.tenant, unit.hour, at_least).await?;
    let codec = unit.codec.unwrap_or(Codec::Zstd);
    let object = object_name(&unit.tenant, unit.hour, part, codec);
    sqlx::query("UPDATE archive_units SET part = $3, object = $4 WHERE tenant = $1 AND id = $2")
        .bind(unit.tenant.as_str())
        .bind(unit.id)
        .bind(i32::try_from(part).unwrap_or(i32::MAX))
        .bind(&object)
        .execute(connection)
        .await?;
    Ok(Unit { part: Some(part), object: Some(object), codec: Some(codec), ..unit })
}

/// The next part number of an hour, which nobody else is given.
pub async fn next_part(
    connection: &mut PgConnection,
    tenant: &Tenant,
    hour: DateTime<Utc>,
    at_least: u32,
) -> Result<u32, sqlx::Error> {
    let part: i32 = sqlx::query_scalar(
        "INSERT INTO archive_hours AS h (tenant, hour, parts) VALUES ($1, $2, greatest($3, 1))
         ON CONFLICT (tenant, hour) DO UPDATE SET parts = greatest(h.parts + 1, $3)
         RETURNING parts",
    )
    .bind(tenant.as_str())
    .bind(hour)
    .bind(i32::try_from(at_least).unwrap_or(i32::MAX))
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(part).unwrap_or(0))
}

/// Notes how far an upload is, or that there is none.
pub async fn note_upload(
    connection: &mut PgConnection,
    claim: &Claim,
    upload: Option<&Value>,
) -> Result<(), UnitError> {
    let noted = sqlx::query(
        "UPDATE archive_units SET upload = $4, updated_at = now()
          WHERE tenant = $1 AND id = $2 AND claimed_by = $3",
    )
    .bind(claim.tenant.as_str())
    .bind(claim.unit)
    .bind(claim.token)
    .bind(upload)
    .execute(connection)
    .await?;
    if noted.rows_affected() > 0 { Ok(()) } else { Err(UnitError::Lost(claim.unit)) }
}

/// The unit's object is complete: what it holds, and so what was there no more.
pub async fn write_unit(
    connection: &mut PgConnection,
    claim: &Claim,
    contents: &Contents,
    archived: Tally,
) -> Result<Moved, UnitError> {
    let unit = ours(connection, claim).await?;
    if unit.state == UnitState::Written && unit.contents.as_ref() == Some(contents) {
        return Ok(Moved { now: false, run: None });
    }
    let json =
        serde_json::to_value(contents).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(
        "UPDATE archive_units SET contents = $3, upload = NULL WHERE tenant = $1 AND id = $2",
    )
    .bind(unit.tenant.as_str())
    .bind(unit.id)
    .bind(json)
    .execute(&mut *connection)
    .await?;
    let mut counters = unit.counters;
    counters.archived = archived;
    counters.gone = counters.planned.without(archived);
    advance(connection, &unit, "an object", UnitState::Written, counters).await
}

/// The unit's object is not what it should be, and is not in the chain: the unit is planned again, under
/// a name of its own.
pub async fn unwrite_unit(
    connection: &mut PgConnection,
    claim: &Claim,
) -> Result<Moved, UnitError> {
    let unit = ours(connection, claim).await?;
    if unit.state == UnitState::Planned {
        return Ok(Moved { now: false, run: None });
    }
    give_up(connection, &unit).await?;
    sqlx::query(
        "UPDATE archive_units SET contents = NULL, part = NULL, object = NULL, upload = NULL
          WHERE tenant = $1 AND id = $2",
    )
    .bind(unit.tenant.as_str())
    .bind(unit.id)
    .execute(&mut *connection)
    .await?;
    let mut counters = unit.counters;
    (counters.archived, counters.gone) = (Tally::default(), Tally::default());
    advance(connection, &unit, "writing again", UnitState::Planned, counters).await
}

/// What sealing adds to what is known of an object.
#[derive(Clone, Copy, Debug)]
pub struct Sealing {
    /// Its manifest, appended to the chain by the same transaction.
    pub manifest: ManifestRef,
    /// What the run wants then.
    pub then: Then,
    /// The manifest's time.
    pub archived_at: DateTime<Utc>,
    /// When the object's own term is over.
    pub expires_at: Option<DateTime<Utc>>,
    /// Until when the store refuses to delete it.
    pub locked_until: Option<DateTime<Utc>>,
}

/// The object was read back whole and its manifest is in the chain: the object joins the archive's
/// index. Of an archive-only run this is the unit's end, and its rows stay.
pub async fn seal_unit(
    connection: &mut PgConnection,
    claim: &Claim,
    sealing: &Sealing,
) -> Result<Moved, UnitError> {
    let unit = ours(connection, claim).await?;
    if let (Some(contents), Some(object)) = (&unit.contents, &unit.object) {
        index_object(connection, &unit, (object, contents), sealing).await?;
    }
    sqlx::query(
        "UPDATE archive_units
            SET manifest_sequence = $3, manifest_sha256 = $4, contents = NULL
          WHERE tenant = $1 AND id = $2",
    )
    .bind(unit.tenant.as_str())
    .bind(unit.id)
    .bind(sealing.manifest.sequence.cast_signed())
    .bind(&sealing.manifest.sha256.0[..])
    .execute(&mut *connection)
    .await?;
    let mut counters = unit.counters;
    counters.verified = counters.archived;
    let to = if sealing.then == Then::Archive { UnitState::Kept } else { UnitState::Sealed };
    if unit.state != UnitState::Written {
        return Err(UnitError::State { unit: unit.id, step: "a manifest", state: unit.state });
    }
    advance(connection, &unit, "a manifest", to, counters).await
}

/// Adds the unit's object to the archive's index; one without lines is in none.
pub async fn index_object(
    connection: &mut PgConnection,
    unit: &Unit,
    (object, contents): (&str, &Contents),
    sealing: &Sealing,
) -> Result<(), sqlx::Error> {
    let Some(range) = contents.range else { return Ok(()) };
    let json =
        serde_json::to_value(contents).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(
        "INSERT INTO archive_objects
                (tenant, object, unit_id, manifest_sequence, manifest_sha256, retention_class, hour,
                 first_id, last_id, first_at, last_at, events, packed_bytes, contents, archived_at,
                 expires_at, locked_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(unit.tenant.as_str())
    .bind(object)
    .bind(unit.id)
    .bind(sealing.manifest.sequence.cast_signed())
    .bind(&sealing.manifest.sha256.0[..])
    .bind(unit.range.class.as_str())
    .bind(unit.hour)
    .bind(range.first_id)
    .bind(range.last_id)
    .bind(range.from)
    .bind(range.to)
    .bind(contents.lines.saturating_sub(contents.revisions).cast_signed())
    .bind(contents.packed.bytes.cast_signed())
    .bind(json)
    .bind(sealing.archived_at)
    .bind(sealing.expires_at)
    .bind(sealing.locked_until)
    .execute(connection)
    .await
    .map(|_| ())
}

/// None of the unit's rows is there any more: nothing to archive, and nothing that failed.
pub async fn empty_unit(connection: &mut PgConnection, claim: &Claim) -> Result<Moved, UnitError> {
    let unit = ours(connection, claim).await?;
    give_up(connection, &unit).await?;
    let mut counters = unit.counters;
    counters.gone = counters.planned;
    advance(connection, &unit, "nothing", UnitState::Empty, counters).await
}
