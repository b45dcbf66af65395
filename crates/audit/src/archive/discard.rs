//! Removes what units have written and do without: objects that turned out wrong, that hold what was
//! erased meanwhile, or whose run was stopped. By name, from the list that the units' own transactions
//! leave; a name is watched for a day, since a write that seemed lost may arrive late. It never removes
//! an object that is in a chain, or that another wrote.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::UnitId;
use database::Database;
use sinks::objects::{Deletion, ObjectKey, SharedObjects};

use super::place::UNIT;
use super::unit::Obstacle;
use crate::store::{self, Discard};

/// So long after it was given up, nothing arrives under a name any more.
const WATCHED: TimeDelta = TimeDelta::days(1);
/// Between two looks.
const PAUSE: TimeDelta = TimeDelta::hours(1);

/// What a look at a name found.
enum Look {
    /// Nothing of ours is there now.
    Clear,
    /// It is not ours to remove, whatever it is.
    Theirs,
    /// The store keeps it, until then where it says so.
    Kept(Option<DateTime<Utc>>),
}

/// Removes what is there of the names that are due, of one unit or of all; how many objects went. One
/// that cannot be removed now is no other's trouble: the first error is answered at the end.
pub(crate) async fn sweep(
    database: &Database,
    objects: &SharedObjects,
    of: Option<(&Tenant, UnitId)>,
    now: DateTime<Utc>,
) -> Result<u64, Obstacle> {
    let due = {
        let mut connection = database.pool().acquire().await?;
        store::due_discards(&mut connection, of, now).await?
    };
    let (mut removed, mut first) = (0, None);
    for discard in due {
        match sweep_one(database, objects, &discard, now).await {
            Ok(gone) => removed += u64::from(gone),
            Err(obstacle) => first = first.or(Some(obstacle)),
        }
    }
    first.map_or(Ok(removed), Err)
}

/// Whether an object went.
async fn sweep_one(
    database: &Database,
    objects: &SharedObjects,
    discard: &Discard,
    now: DateTime<Utc>,
) -> Result<bool, Obstacle> {
    let (look, removed) = look(objects, discard).await?;
    let mut connection = database.pool().acquire().await?;
    match look {
        Look::Theirs => store::end_discard(&mut connection, discard).await?,
        Look::Clear if discard.since + WATCHED <= now => {
            store::end_discard(&mut connection, discard).await?;
        }
        Look::Clear => store::look_again(&mut connection, discard, now + PAUSE).await?,
        Look::Kept(until) => {
            let again = until.unwrap_or(now).max(now + PAUSE);
            store::look_again(&mut connection, discard, again).await?;
        }
    }
    Ok(removed)
}

async fn look(objects: &SharedObjects, discard: &Discard) -> Result<(Look, bool), Obstacle> {
    let key: ObjectKey = match discard.object.parse() {
        Ok(key) if !discard.needed => key,
        _ => return Ok((Look::Theirs, false)),
    };
    let Some(head) = objects.head(&key).await? else { return Ok((Look::Clear, false)) };
    if head.metadata.get(UNIT).is_none_or(|of| *of != discard.unit.to_string()) {
        return Ok((Look::Theirs, false));
    }
    Ok(match objects.delete_all_versions(&key).await? {
        Deletion::Deleted => (Look::Clear, true),
        Deletion::AlreadyGone => (Look::Clear, false),
        Deletion::Locked(lock) => {
            tracing::warn!(object = key.as_str(), %lock, "an object that nobody needs stays");
            (Look::Kept(lock.until), false)
        }
    })
}
