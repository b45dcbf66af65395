//! The scheduler's duty towards retention: slots of policies that have come become `SCHEDULE_RETENTION`
//! messages, each once, in one transaction with the note that they did. After a pause a policy's latest
//! slot alone is caught up, and a round takes a bounded number of policies, tenants in turn. A policy that
//! cannot be followed is no other's trouble. And alerts of policies that are not applied any more are over.
//!
//! It runs nothing and reads no log; who is late by a round is late by a round.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use contracts::Tenant;
use contracts::audit::lifecycle::{PolicyId, RetentionMessage, ScheduleRetention};
use database::Database;
use database::outbox::PutError;
use rand::Rng;

use crate::archive::outgoing;
use crate::retention::PolicyState;
use crate::retention::slots::{self, Looked};
use crate::store::{alarms, policies, slots as store};

/// Policies of one round at most.
pub const ROUND_MAX: i64 = 200;
/// Of them, of one tenant at most.
pub const TENANT_MAX: i64 = 5;
/// A last slot that lies so far ahead was named by a clock that was wrong: from now on slots are named again.
/// One that is named twice is one run.
const AHEAD: TimeDelta = TimeDelta::days(1);

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Policies that were looked at.
    pub looked_at: u64,
    /// Slots that became messages.
    pub slots: u64,
    /// Active policies whose schedule never fires again.
    pub never: u64,
    /// Policies that could not be looked at, e.g. since they cannot be read; others do not wait for them.
    pub failed: u64,
    /// The round was full: there may be more at once.
    pub more: bool,
}

/// One round. Needs the worker's role.
pub async fn follow(database: &Database, now: DateTime<Utc>) -> Result<Followed, PutError> {
    let now = now.trunc_subsecs(6);
    let due = {
        let mut connection = database.pool().acquire().await?;
        alarms::forget_policies(&mut connection, now).await?;
        let until = (now, now + AHEAD);
        store::due_policies(&mut connection, until, TENANT_MAX, ROUND_MAX).await?
    };
    let mut followed = Followed::default();
    for (tenant, policy) in due {
        let looked = match follow_one(database, &tenant, policy, now).await {
            Ok(Some(looked)) => looked,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%tenant, %policy, %error, "the policy's schedule cannot be followed");
                followed.failed += 1;
                continue;
            }
        };
        followed.looked_at += 1;
        followed.slots += u64::from(looked.slot.is_some());
        if looked.next.is_none() {
            tracing::warn!(%tenant, %policy, "the policy's schedule never fires again");
            followed.never += 1;
        }
    }
    // A tenant's further policies wait for the next round as well.
    followed.more = followed.looked_at > 0;
    Ok(followed)
}

/// What its schedule said; `None` where it is not applied, or another scheduler has it.
async fn follow_one(
    database: &Database,
    tenant: &Tenant,
    policy: PolicyId,
    now: DateTime<Utc>,
) -> Result<Option<Looked>, PutError> {
    let mut transaction = database.pool().begin().await?;
    let Some(newest) = policies::get(&mut transaction, tenant, policy).await? else {
        return Ok(None);
    };
    let begin = (newest.version, newest.created_at);
    let Some(last) = store::lock_slots(&mut transaction, tenant, policy, begin).await? else {
        return Ok(None);
    };
    let last = if last > now + AHEAD {
        tracing::warn!(%tenant, %policy, %last, "the policy's last slot lies ahead of the clock");
        now
    } else {
        last
    };
    let applied = policies::in_effect_of(&mut transaction, tenant, policy, now).await?;
    let applied = applied.filter(|version| version.spec.state == PolicyState::Active);
    let looked = applied.map(|version| {
        let since = last.max(version.effective_from - TimeDelta::microseconds(1));
        slots::look(&version.spec.schedule, since, now)
    });
    let changes = store::next_effective(&mut transaction, tenant, policy, now).await?;
    let (slot, next) = looked.map_or((None, None), |looked| (looked.slot, looked.next));
    let due_at = [next, changes].into_iter().flatten().min();
    let done = slot.map_or(last, |slot| slot.max(last));
    store::note_slots(&mut transaction, tenant, policy, newest.version, (done, due_at)).await?;
    if let Some(slot) = slot {
        let message = RetentionMessage::Schedule(ScheduleRetention { policy_id: policy, slot });
        let correlation_id = contracts::ids::uuid_v7_at(now, rand::rng().random()).to_string();
        let begin = outgoing::begin(tenant, &correlation_id, now);
        outgoing::put(&mut transaction, &begin, &message, now).await?;
    }
    transaction.commit().await?;
    Ok(looked)
}
