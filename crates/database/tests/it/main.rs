//! Against a real PostgreSQL.

mod ageing;
mod alerts;
mod attempts;
mod effect_desk;
mod effects;
mod faults;
mod keys;
mod leader;
mod migrating;
mod outbox;
mod outbox_turns;
mod parking;
mod partitions;
mod retire;
mod walls;

use chrono::{DateTime, Utc};
use contracts::Tenant;

/// A tenant's name.
pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().expect("a tenant name")
}

/// The machine's time.
pub(crate) fn now() -> DateTime<Utc> {
    use queue_core::Clock;
    queue_core::SystemClock.now()
}
