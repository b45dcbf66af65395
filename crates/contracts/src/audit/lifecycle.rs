//! The life of a stored log after it was indexed: messages of the archive, cleanup and retention queues.
//! They carry ids and bounds, never logs: what is to be archived or deleted stands in PostgreSQL and in
//! the archive, so that a message that comes late or twice finds what holds now.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Requester;
use crate::catalogue;
use crate::ids::LogId;
use crate::messages::messages;

/// Logs that one `BULK_ARCHIVE` may name.
pub const BULK_ARCHIVE_MAX: usize = 1_000;

/// A run of a policy, or of a request: its row in PostgreSQL.
pub type RunId = Uuid;
/// A unit of work of a run: its row in PostgreSQL.
pub type UnitId = Uuid;
/// A policy.
pub type PolicyId = Uuid;

/// What happens to logs at the end of their term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Copied to the archive and kept.
    Archive,
    /// Copied to the archive, verified there, then deleted.
    ArchiveAndDelete,
    /// Deleted without a copy.
    Delete,
}

/// Archives one unit of a policy's run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveByPolicy {
    /// The run.
    pub run_id: RunId,
    /// Of it, this unit.
    pub unit_id: UnitId,
    /// The policy by which.
    pub policy_id: PolicyId,
    /// The version of it.
    pub policy_version: u64,
}

/// Plans and archives the logs of a time, on somebody's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveByDate {
    /// The run; its row has the request's filter.
    pub run_id: RunId,
    /// From, by `recorded_at`.
    pub from: DateTime<Utc>,
    /// Up to, not including.
    pub to: DateTime<Utc>,
    /// And then.
    pub then: Then,
    /// Who asked.
    pub requester: Requester,
}

/// Archives these very logs, on somebody's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkArchive {
    /// The run.
    pub run_id: RunId,
    /// 1 to [`BULK_ARCHIVE_MAX`].
    pub log_ids: Vec<LogId>,
    /// And then.
    pub then: Then,
    /// Who asked.
    pub requester: Requester,
}

messages! {
    /// What travels on the archive queue.
    pub enum ArchiveMessage on catalogue::AUDIT_ARCHIVE {
        /// A unit of a policy's run.
        ByPolicy(ArchiveByPolicy) = "ARCHIVE_BY_POLICY" v1,
        /// A time.
        ByDate(ArchiveByDate) = "ARCHIVE_BY_DATE" v1,
        /// Single logs.
        Bulk(BulkArchive) = "BULK_ARCHIVE" v1,
    }
}

/// Deletes what a verified object of the archive holds, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupArchived {
    /// The run.
    pub run_id: RunId,
    /// Of it, this unit.
    pub unit_id: UnitId,
    /// Number of the unit's manifest in the tenant's chain.
    pub manifest_sequence: u64,
    /// Its SHA-256, hex.
    pub manifest_sha256: String,
}

/// Deletes a unit without an archive, by a policy that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupByPolicy {
    /// The run.
    pub run_id: RunId,
    /// Of it, this unit.
    pub unit_id: UnitId,
    /// The policy by which.
    pub policy_id: PolicyId,
    /// The version of it.
    pub policy_version: u64,
}

/// Removes an object of the archive that is past its own term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupExpired {
    /// The run.
    pub run_id: RunId,
    /// The policy by which.
    pub policy_id: PolicyId,
    /// The version of it.
    pub policy_version: u64,
    /// Number of the object's manifest in the tenant's chain.
    pub manifest_sequence: u64,
    /// The object's name.
    pub object: String,
}

messages! {
    /// What travels on the cleanup queue.
    pub enum CleanupMessage on catalogue::AUDIT_CLEANUP {
        /// What the archive holds.
        Archived(CleanupArchived) = "CLEANUP_ARCHIVED" v1,
        /// Without an archive.
        ByPolicy(CleanupByPolicy) = "CLEANUP_BY_POLICY" v1,
        /// An object of the archive.
        Expired(CleanupExpired) = "CLEANUP_EXPIRED" v1,
    }
}

/// A policy's time has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRetention {
    /// The policy.
    pub policy_id: PolicyId,
    /// The time by its schedule; with the policy it names the run, so that it is run once.
    pub slot: DateTime<Utc>,
}

/// Plans a run and, unless a brake holds it, starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluatePolicy {
    /// The policy.
    pub policy_id: PolicyId,
    /// The run.
    pub run_id: RunId,
}

/// What of a run somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// It waits for an approval.
    Braked,
    /// Everything is done.
    Done,
    /// It ended without being done.
    Failed,
}

/// Tells the policy's notification targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyNotification {
    /// The policy.
    pub policy_id: PolicyId,
    /// The run.
    pub run_id: RunId,
    /// What happened.
    pub event: RunEvent,
    /// Position of the target in the policy's list: one message each, so that one that is down
    /// delays no other.
    pub target: u32,
}

messages! {
    /// What travels on the retention queue.
    pub enum RetentionMessage on catalogue::AUDIT_RETENTION {
        /// A policy's time has come.
        Schedule(ScheduleRetention) = "SCHEDULE_RETENTION" v1,
        /// A run is planned and started.
        Evaluate(EvaluatePolicy) = "EVALUATE_POLICY" v1,
        /// Somebody is told.
        Notify(PolicyNotification) = "POLICY_NOTIFICATION" v1,
    }
}
