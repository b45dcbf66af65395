//! Runs as rows: how columns are read.

use contracts::audit::lifecycle::Then;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::lifecycle::run::UnitCounts;
use crate::lifecycle::{Basis, Counters, NewRun, Run};
use crate::store::units::{decoded, tally};

const COLUMNS: &str = "\
tenant, id, policy_id, policy_version, slot, request, requester, then_do, archive, fingerprint,
snapshot_xmin::text::bigint AS xmin, as_of, state, approvals, correlation_id, notify, units,
units_open, units_failed, planned_events, planned_bytes, archived_events, archived_bytes,
verified_events, verified_bytes, deleted_events, deleted_bytes, held_events, held_bytes,
gone_events, gone_bytes, failed_events, failed_bytes, failure, again_at, created_at, started_at, ended_at";

/// Which of a run's two large columns are read; each can be megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// The rules and the plan.
    Both,
    /// The rules: what a unit's rows are chosen by.
    Rules,
    /// The plan: what people are shown.
    Plan,
    /// Neither.
    Neither,
}

/// Every column of a run; of the large ones those that are asked for.
pub(super) fn columns(large: Large) -> String {
    let rules = if matches!(large, Large::Both | Large::Rules) { "rules" } else { "NULL::jsonb" };
    let plan = if matches!(large, Large::Both | Large::Plan) { "plan" } else { "NULL::jsonb" };
    format!("{rules} AS rules, {plan} AS plan, {COLUMNS}")
}

/// The name in SQL.
pub(super) const fn then_word(then: Then) -> &'static str {
    match then {
        Then::Archive => "archive",
        Then::ArchiveAndDelete => "archive_and_delete",
        Then::Delete => "delete",
    }
}

fn then_of(row: &PgRow) -> Result<Then, sqlx::Error> {
    let word: &str = row.try_get("then_do")?;
    [Then::Archive, Then::ArchiveAndDelete, Then::Delete]
        .into_iter()
        .find(|then| then_word(*then) == word)
        .ok_or_else(|| sqlx::Error::Decode(format!("then_do {word:?}").into()))
}

pub(super) fn read(row: &PgRow) -> Result<Run, sqlx::Error> {
    let basis = match row.try_get::<Option<Uuid>, _>("policy_id")? {
        Some(id) => Basis::Policy {
            id,
            version: row.try_get::<i64, _>("policy_version")?.cast_unsigned(),
            slot: row.try_get("slot")?,
        },
        None => Basis::Request(row.try_get::<Option<Value>, _>("request")?.unwrap_or_default()),
    };
    let fingerprint: Option<Vec<u8>> = row.try_get("fingerprint")?;
    let count = |name: &str| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
    Ok(Run {
        new: NewRun {
            id: row.try_get("id")?,
            tenant: decoded(row, "tenant")?,
            basis,
            requester: row.try_get("requester")?,
            then: then_of(row)?,
            archive: row.try_get("archive")?,
            rules: row.try_get("rules")?,
            as_of: row.try_get("as_of")?,
            correlation_id: row.try_get("correlation_id")?,
            notify: u32::try_from(row.try_get::<i32, _>("notify")?).unwrap_or(0),
        },
        state: decoded(row, "state")?,
        plan: row.try_get("plan")?,
        fingerprint: fingerprint.and_then(|bytes| bytes.try_into().ok()),
        snapshot_xmin: row.try_get::<Option<i64>, _>("xmin")?.map(i64::cast_unsigned),
        approvals: row.try_get("approvals")?,
        units: UnitCounts {
            all: count("units")?,
            open: count("units_open")?,
            failed: count("units_failed")?,
        },
        counters: counters(row)?,
        failure: row.try_get("failure")?,
        again_at: row.try_get("again_at")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// The fourteen columns of counters.
pub(in crate::store) fn counters(row: &PgRow) -> Result<Counters, sqlx::Error> {
    Ok(Counters {
        planned: tally(row, "planned")?,
        archived: tally(row, "archived")?,
        verified: tally(row, "verified")?,
        deleted: tally(row, "deleted")?,
        held: tally(row, "held")?,
        gone: tally(row, "gone")?,
        failed: tally(row, "failed")?,
    })
}
