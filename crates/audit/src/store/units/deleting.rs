//! The steps by which a unit's rows go: deleted in one transaction with what proves it, then the end
//! once search has forgotten them and the receipt is in the chain. They are guarded by the unit's
//! state alone: what deletes decides under the tenant's locks, and once.

use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use sqlx::PgConnection;

use super::super::discards::give_up;
use super::{Moved, UnitError, advance, locked};
use crate::lifecycle::{Tally, UnitState};

/// What became of a unit's events when they were to be deleted; together they are all that it had left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Deleted now.
    pub deleted: Tally,
    /// They stay: a hold, or not due any more.
    pub held: Tally,
    /// Not there any more: erased meanwhile.
    pub gone: Tally,
}

/// The unit's rows are deleted by this transaction; from `planned` where there is no archive.
pub async fn delete_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
    deletion: Deletion,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    if unit.state == UnitState::Deleting || unit.state == UnitState::Deleted {
        return Ok(Moved { now: false, run: None });
    }
    let mut counters = unit.counters;
    counters.deleted = deletion.deleted;
    counters.held = deletion.held;
    counters.gone = counters.gone.and(deletion.gone);
    advance(connection, &unit, "a deletion", UnitState::Deleting, counters).await
}

/// Some of the unit's rows are deleted by this transaction, and others stay; any number of times, each
/// with what it adds. What was not there is known at the end.
pub async fn delete_some(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
    deleted: Tally,
    held: Tally,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    let mut counters = unit.counters;
    counters.deleted = counters.deleted.and(deleted);
    counters.held = counters.held.and(held);
    advance(connection, &unit, "a deletion", UnitState::Deleting, counters).await
}

/// The unit's end where nothing of it was deleted: held ones stay, or none was there any more.
pub async fn spare_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    if unit.state.ended() {
        return Ok(Moved { now: false, run: None });
    }
    let mut counters = unit.counters;
    counters.gone = counters.gone.and(counters.open());
    let none = counters.held == Tally::default();
    let to = if none { UnitState::Empty } else { UnitState::Kept };
    advance(connection, &unit, "sparing", to, counters).await
}

/// The unit's end: search has none of what was deleted, and the receipt of that number is in the chain.
/// What is accounted for nowhere was not there any more.
pub async fn finish_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
    receipt: u64,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    if unit.state == UnitState::Deleted && unit.receipt == Some(receipt) {
        return Ok(Moved { now: false, run: None });
    }
    note_receipt(connection, tenant, id, receipt).await?;
    let mut counters = unit.counters;
    counters.gone = counters.gone.and(counters.open());
    advance(connection, &unit, "a receipt", UnitState::Deleted, counters).await
}

/// The unit's end without a deletion: all of its rows that are left stay. Not once some of them are
/// deleted: that ends with a receipt.
pub async fn keep_unit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
) -> Result<Moved, UnitError> {
    let unit = locked(connection, tenant, id).await?;
    if unit.state == UnitState::Kept {
        return Ok(Moved { now: false, run: None });
    }
    if unit.state == UnitState::Deleting {
        return Err(UnitError::State { unit: unit.id, step: "keeping", state: unit.state });
    }
    give_up(connection, &unit).await?;
    let mut counters = unit.counters;
    if matches!(unit.state, UnitState::Planned | UnitState::Written) {
        (counters.archived, counters.gone) = (Tally::default(), Tally::default());
    }
    counters.held = counters.held.and(counters.open());
    advance(connection, &unit, "keeping", UnitState::Kept, counters).await
}

/// The receipt of that number says what of the unit was deleted; also of a unit that then fails.
pub async fn note_receipt(
    connection: &mut PgConnection,
    tenant: &Tenant,
    id: UnitId,
    receipt: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE archive_units SET receipt_sequence = $3 WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id)
        .bind(receipt.cast_signed())
        .execute(connection)
        .await
        .map(|_| ())
}
