//! Every event of the scheduler: one struct each, whose `emit` writes the log line and the metric.

use std::collections::BTreeMap;

use audit::attendance;
use audit::reconcile::FindingKind;
use audit::scheduling::Followed;
use chassis::{DLQ_DEPTH, QUEUE_DEPTH};
use contracts::{QueueSpec, RetentionClass, Tenant};
use database::ageing;
use database::alerts::{AlertKey, Raised};
use database::partitions::Remaining;
use database::partitions::retire::Retired;
use metrics::{counter, gauge};
use tracing::{debug, error, info, warn};

/// 1 while this process holds the lease.
pub const LEADING: &str = "flotilla_scheduler_leading";
/// Days from now for which partitions are there, by `class`; alarm below 3.
pub const PARTITION_DAYS: &str = "flotilla_partitions_remaining_days";
/// Partitions that are ready and not yet in use, by `class`.
pub const PARTITIONS: &str = "flotilla_partitions_remaining";
/// Partitions made.
pub const PARTITIONS_MADE_TOTAL: &str = "flotilla_partitions_made_total";
/// Empty partitions detached: nothing reads or writes them any more.
pub const PARTITIONS_DETACHED_TOTAL: &str = "flotilla_partitions_detached_total";
/// Detached partitions dropped.
pub const PARTITIONS_DROPPED_TOTAL: &str = "flotilla_partitions_dropped_total";
/// Bytes on disk that came back by that.
pub const PARTITIONS_FREED_BYTES_TOTAL: &str = "flotilla_partitions_freed_bytes_total";
/// Rows aged out, by `table`.
pub const AGED_TOTAL: &str = "flotilla_aged_rows_total";
/// Slots of retention policies that became messages.
pub const SLOTS_TOTAL: &str = "flotilla_policy_slots_total";
/// Objects of the archive whose removal was asked for: their term is over, or another has their place.
pub const EXPIRING_TOTAL: &str = "flotilla_archive_objects_expiring_total";
/// Active policies that were found to have a schedule which never fires again.
pub const SCHEDULES_NEVER_TOTAL: &str = "flotilla_policy_schedules_never_total";
/// Units of retention runs that stood still and whose message was sent again, by `outcome`: `told`, or
/// `failed` where none can be made.
pub const UNITS_ATTENDED_TOTAL: &str = "flotilla_retention_units_attended_total";
/// What the last reconciliation of PostgreSQL, search and the archive found, by `kind`. Alarm on
/// `chain-broken` and `chain-rolled-back`.
pub const DIFFERENCES: &str = "flotilla_reconcile_differences";
/// Tenants that the last reconciliation was about.
pub const RECONCILED_TENANTS: &str = "flotilla_reconcile_tenants";
/// Duties that failed, by `duty`.
pub const DUTY_FAILURES_TOTAL: &str = "flotilla_scheduler_duty_failures_total";

pub(crate) struct LeaseGained {
    pub(crate) epoch: i64,
}

impl LeaseGained {
    pub(crate) fn emit(&self) {
        info!(epoch = self.epoch, "this scheduler is the active one");
        gauge!(LEADING).set(1.0);
    }
}

pub(crate) struct LeaseLost {
    pub(crate) epoch: i64,
    /// Or given back.
    pub(crate) to_another: bool,
}

impl LeaseLost {
    pub(crate) fn emit(&self) {
        if self.to_another {
            warn!(epoch = self.epoch, "the lease was lost; another scheduler may be active");
        } else {
            info!(epoch = self.epoch, "the lease is given back");
        }
        gauge!(LEADING).set(0.0);
    }
}

pub(crate) struct LeaseCallFailed<'a> {
    pub(crate) doing: &'static str,
    pub(crate) error: &'a dyn std::fmt::Display,
}

impl LeaseCallFailed<'_> {
    pub(crate) fn emit(&self) {
        warn!(error = %self.error, "failed to {} the lease", self.doing);
    }
}

pub(crate) struct PartitionsMade {
    pub(crate) made: u64,
}

impl PartitionsMade {
    pub(crate) fn emit(&self) {
        if self.made > 0 {
            info!(made = self.made, "made partitions");
        }
        counter!(PARTITIONS_MADE_TOTAL).increment(self.made);
    }
}

pub(crate) struct PartitionsRetired<'a> {
    pub(crate) retired: &'a Retired,
}

impl PartitionsRetired<'_> {
    pub(crate) fn emit(&self) {
        let Retired { detached, dropped, occupied, busy, .. } = self.retired;
        for gone in detached {
            let (partition, bytes) = (&gone.partition, gone.bytes);
            info!(partition, bytes, "an empty partition is detached; it is dropped later");
        }
        for gone in dropped {
            let (partition, bytes) = (&gone.partition, gone.bytes);
            info!(partition, bytes, "a detached partition is dropped, its disk is free");
        }
        for partition in occupied {
            warn!(
                partition,
                "a detached partition holds rows that somebody wrote into it by hand, and is not dropped; \
                 attach it again, or empty it"
            );
        }
        debug!(busy, "partitions whose turn comes later");
        counter!(PARTITIONS_DETACHED_TOTAL).increment(detached.len() as u64);
        counter!(PARTITIONS_DROPPED_TOTAL).increment(dropped.len() as u64);
        counter!(PARTITIONS_FREED_BYTES_TOTAL)
            .increment(dropped.iter().map(|gone| gone.bytes).sum());
    }
}

pub(crate) struct PartitionsCounted<'a> {
    pub(crate) remaining: &'a [Remaining],
}

impl PartitionsCounted<'_> {
    pub(crate) fn emit(&self) {
        for left in self.remaining {
            let class = left.class.as_str();
            gauge!(PARTITION_DAYS, "class" => class).set(f64::from(left.days));
            gauge!(PARTITIONS, "class" => class).set(f64::from(left.partitions));
            if left.alarming() {
                error!(
                    class,
                    days = left.days,
                    until = %left.until,
                    "partitions of logs are running out: inserts will fail then; see why making them fails"
                );
            }
        }
    }
}

pub(crate) struct SchedulesFollowed {
    pub(crate) followed: Followed,
    /// Objects of the archive that are due to be removed.
    pub(crate) expiring: u64,
}

impl SchedulesFollowed {
    pub(crate) fn emit(&self) {
        let Followed { slots, never, .. } = self.followed;
        if slots > 0 {
            info!(slots, "slots of policies have come");
        }
        if self.expiring > 0 {
            info!(objects = self.expiring, "objects of the archive are due to be removed");
        }
        counter!(SLOTS_TOTAL).increment(slots);
        counter!(EXPIRING_TOTAL).increment(self.expiring);
        counter!(SCHEDULES_NEVER_TOTAL).increment(never);
    }
}

pub(crate) struct Attended {
    pub(crate) attended: attendance::Attended,
}

impl Attended {
    pub(crate) fn emit(&self) {
        let attendance::Attended { units, failed, .. } = self.attended;
        if units > 0 {
            warn!(units, failed, "units of runs stood still: their messages are sent again");
        }
        counter!(UNITS_ATTENDED_TOTAL, "outcome" => "told").increment(units.saturating_sub(failed));
        counter!(UNITS_ATTENDED_TOTAL, "outcome" => "failed").increment(failed);
    }
}

pub(crate) struct Aged {
    pub(crate) aged: ageing::Aged,
}

impl Aged {
    pub(crate) fn emit(&self) {
        let aged = self.aged;
        debug!(?aged, "aged out");
        for (table, rows) in [
            ("ingest_keys", aged.ingest_keys),
            ("tombstones", aged.tombstones),
            ("attempts", aged.attempts),
            ("live_tickets", aged.live_tickets),
            ("effects", aged.effects),
            ("effect_decisions", aged.effect_decisions),
            ("alerts", aged.alerts),
            ("alert_notices", aged.alert_notices),
        ] {
            counter!(AGED_TOTAL, "table" => table).increment(rows);
        }
    }
}

pub(crate) struct Swept {
    pub(crate) removed: u64,
}

impl Swept {
    pub(crate) fn emit(&self) {
        debug!(removed = self.removed, "bodies that nobody removed are gone");
        counter!(AGED_TOTAL, "table" => "claims").increment(self.removed);
    }
}

pub(crate) struct Differs<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) kind: FindingKind,
    pub(crate) found: u64,
}

impl Differs<'_> {
    pub(crate) fn emit(&self) {
        warn!(
            tenant = %self.tenant,
            kind = self.kind.as_str(),
            found = self.found,
            "the tenant's stores differ; `fleetctl audit reconcile` shows where"
        );
    }
}

pub(crate) struct Reconciled<'a> {
    pub(crate) tenants: usize,
    pub(crate) differences: &'a BTreeMap<FindingKind, u64>,
}

impl Reconciled<'_> {
    #[expect(clippy::cast_precision_loss, reason = "gauges, far below 2^52")]
    pub(crate) fn emit(&self) {
        debug!(tenants = self.tenants, "the stores were compared");
        gauge!(RECONCILED_TENANTS).set(self.tenants as f64);
        for kind in FindingKind::ALL {
            let found = self.differences.get(kind).copied().unwrap_or(0);
            gauge!(DIFFERENCES, "kind" => kind.as_str()).set(found as f64);
        }
    }
}

pub(crate) struct DutyFailed<'a> {
    pub(crate) duty: &'static str,
    pub(crate) error: &'a dyn std::fmt::Display,
}

impl DutyFailed<'_> {
    pub(crate) fn emit(&self) {
        warn!(duty = self.duty, error = %self.error, "a duty failed and is tried again");
        counter!(DUTY_FAILURES_TOTAL, "duty" => self.duty).increment(1);
    }
}

pub(crate) struct QueueCounted {
    pub(crate) spec: &'static QueueSpec,
    pub(crate) depth: u64,
    pub(crate) dead: u64,
}

impl QueueCounted {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of messages, far below 2^52")]
    pub(crate) fn emit(&self) {
        let labels = [("queue", self.spec.name), ("worker", self.spec.worker)];
        gauge!(QUEUE_DEPTH, &labels).set(self.depth as f64);
        gauge!(DLQ_DEPTH, &labels).set(self.dead as f64);
    }
}

/// Nobody here counts any more: another scheduler's figures are the true ones, and ours would stand
/// beside them for ever as they were. At the end of a process they stay, for the last reading.
pub(crate) struct FiguresLeft<'a> {
    pub(crate) queues: &'a [&'static QueueSpec],
}

impl FiguresLeft<'_> {
    pub(crate) fn emit(&self) {
        for spec in self.queues {
            let labels = [("queue", spec.name), ("worker", spec.worker)];
            gauge!(QUEUE_DEPTH, &labels).set(f64::NAN);
            gauge!(DLQ_DEPTH, &labels).set(f64::NAN);
        }
        for class in RetentionClass::ALL {
            let class = class.as_str();
            gauge!(PARTITION_DAYS, "class" => class).set(f64::NAN);
            gauge!(PARTITIONS, "class" => class).set(f64::NAN);
        }
        gauge!(RECONCILED_TENANTS).set(f64::NAN);
        for kind in FindingKind::ALL {
            gauge!(DIFFERENCES, "kind" => kind.as_str()).set(f64::NAN);
        }
    }
}

pub(crate) struct AlertRaised<'a> {
    pub(crate) key: &'a AlertKey,
    pub(crate) title: &'a str,
    pub(crate) raised: Raised,
}

impl AlertRaised<'_> {
    pub(crate) fn emit(&self) {
        let (alert, title) = (self.key.name(), self.title);
        match self.raised {
            Raised::Opened => error!(alert, title, "alert opened"),
            Raised::Counted(times) => debug!(alert, title, times, "alert found again"),
        }
    }
}
