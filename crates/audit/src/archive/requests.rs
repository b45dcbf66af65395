//! Plans what somebody asked for: the logs of a time that a filter matches, or single logs, as units of a
//! run. The first plan that is kept stands; what dies in between goes on from it and adds each unit once.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::Then;
use contracts::{LogId, RetentionClass};
use database::Database;
use queue_core::Clock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;

use super::outgoing::{self, Cause};
use super::selection::{last_before, rules_of};
use super::unit::Obstacle;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::request::{Request, unit_id};
use crate::lifecycle::unit::{NewWork, UNIT_BYTES_MAX, UNIT_EVENTS_MAX};
use crate::lifecycle::{Basis, KeyRange, NewUnit, Run, RunState, Tally};
use crate::retention::plan::{Place, Planner};
use crate::retention::policy::ArchiveSpec;
use crate::retention::rules::RuleSet;
use crate::store::{self, Fed, Planned, UNITS_ADDED_MAX};

/// A unit as a request's plan keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    range: KeyRange,
    planned: Tally,
}

/// Plans a run that is being planned, and starts it. Any number of times.
pub(crate) async fn plan(
    database: &Database,
    clock: &Arc<dyn Clock>,
    run: &Run,
    cause: &Cause,
    progress: &(dyn Fn() + Sync),
) -> Result<(), Obstacle> {
    let pieces = match &run.plan {
        Some(plan) => kept(run, plan)?,
        None => make(database, run, progress).await?,
    };
    reach(CrashPoint::AfterPlan);
    let codec = match &run.new.archive {
        Some(archive) => {
            serde_json::from_value::<ArchiveSpec>(archive.clone())
                .map_err(|error| poison(run, &error))?
                .codec
        }
        None => ArchiveSpec::default().codec,
    };
    let units: Vec<NewUnit> = (1..)
        .zip(pieces)
        .map(|(number, piece)| NewUnit {
            id: unit_id(run.new.id, number),
            number,
            work: NewWork::Archive(codec),
            range: piece.range,
            planned: piece.planned,
        })
        .collect();
    for units in units.chunks(UNITS_ADDED_MAX) {
        let mut transaction = database.pool().begin().await?;
        store::add_units(&mut transaction, &run.new.tenant, run.new.id, units).await?;
        transaction.commit().await?;
        progress();
    }
    reach(CrashPoint::AfterUnits);
    let mut transaction = database.pool().begin().await?;
    let (_, end) = store::start_run(&mut transaction, &run.new.tenant, run.new.id).await?;
    outgoing::tell(&mut transaction, cause, end.as_ref(), clock.now()).await?;
    transaction.commit().await?;
    Ok(())
}

fn poison(run: &Run, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Poison(format!("run {}: {error}", run.new.id))
}

fn kept(run: &Run, plan: &serde_json::Value) -> Result<Vec<Piece>, Obstacle> {
    let units = plan.get("units").cloned().unwrap_or_default();
    serde_json::from_value(units).map_err(|error| poison(run, &error))
}

/// Makes the plan and keeps it; another's that was kept meanwhile is the one that counts.
async fn make(
    database: &Database,
    run: &Run,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Piece>, Obstacle> {
    let Basis::Request(request) = &run.new.basis else {
        return Err(poison(run, &"it is a policy's, and those are planned elsewhere"));
    };
    let request: Request =
        serde_json::from_value(request.clone()).map_err(|error| poison(run, &error))?;
    let snapshot_xmin = {
        let mut connection = database.pool().acquire().await?;
        store::snapshot_xmin(&mut connection).await?
    };
    let (pieces, rules) = match request {
        Request::Time { from, to, filter } => {
            let of_tenant = match &run.new.rules {
                Some(rules) => {
                    serde_json::from_value(rules.clone()).map_err(|error| poison(run, &error))?
                }
                None if run.new.then == Then::Archive => RuleSet::default(),
                None => return Err(poison(run, &"it deletes and names no rules")),
            };
            let rules = rules_of(run, of_tenant, filter);
            let planner = Planner::new(
                &run.new.tenant,
                Arc::new(rules.clone()),
                run.new.id,
                last_before(to),
                snapshot_xmin,
            );
            let planner = planner.ok_or_else(|| poison(run, &"its rule is not among its rules"))?;
            (of_time(database, run, planner, from, progress).await?, rules)
        }
        Request::Logs { ids } => (of_logs(database, run, &ids).await?, RuleSet::default()),
    };
    let planned = Planned {
        rules: serde_json::to_value(&rules).map_err(|error| poison(run, &error))?,
        plan: json!({ "units": pieces }),
        fingerprint: Sha256::digest(rules.fingerprint()).into(),
        snapshot_xmin,
    };
    let (tenant, id) = (&run.new.tenant, run.new.id);
    let mut transaction = database.pool().begin().await?;
    store::keep_plan(&mut transaction, tenant, id, &planned).await?;
    let run = store::run(&mut transaction, tenant, id).await?.ok_or(Obstacle::Lost)?;
    transaction.commit().await?;
    match &run.plan {
        Some(plan) if run.state == RunState::Planning => kept(&run, plan),
        _ => Err(Obstacle::Lost),
    }
}

/// From the stream that every plan is made of.
async fn of_time(
    database: &Database,
    run: &Run,
    mut planner: Planner,
    from: DateTime<Utc>,
    progress: &(dyn Fn() + Sync),
) -> Result<Vec<Piece>, Obstacle> {
    let mut after = Some(Place { recorded_at: from, id: LogId(Uuid::nil()) });
    let complete = loop {
        let mut connection = database.pool().acquire().await?;
        match store::feed(&mut connection, &run.new.tenant, &mut planner, after).await? {
            Fed::More(place) => after = Some(place),
            Fed::End => break true,
            Fed::Full => break false,
        }
        progress();
    };
    let plan = planner.finish(complete);
    if !plan.complete {
        return Err(poison(run, &"it has more units than one run may have; ask for less time"));
    }
    let piece = |unit: &crate::retention::Unit| Piece {
        range: KeyRange {
            class: unit.class,
            first: (unit.first.recorded_at, unit.first.id.0),
            last: (unit.last.recorded_at, unit.last.id.0),
        },
        planned: Tally { events: unit.tally.events, bytes: unit.tally.bytes },
    };
    Ok(plan.units.iter().map(piece).collect())
}

/// A unit per class and hour; at most as many as there are logs.
async fn of_logs(database: &Database, run: &Run, ids: &[LogId]) -> Result<Vec<Piece>, Obstacle> {
    let mut connection = database.pool().acquire().await?;
    let mut keys = store::keys_of(&mut connection, &run.new.tenant, ids).await?;
    keys.sort_unstable_by_key(|key| (key.1, key.2));
    let mut open: BTreeMap<(RetentionClass, DateTime<Utc>), Piece> = BTreeMap::new();
    let mut pieces = Vec::new();
    for (class, at, id, bytes) in keys {
        let hour = at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at);
        let one = Tally { events: 1, bytes };
        let new =
            Piece { range: KeyRange { class, first: (at, id), last: (at, id) }, planned: one };
        let Some(piece) = open.get_mut(&(class, hour)) else {
            open.insert((class, hour), new);
            continue;
        };
        let sum = piece.planned.and(one);
        if sum.bytes > UNIT_BYTES_MAX || sum.events > UNIT_EVENTS_MAX {
            pieces.push(std::mem::replace(piece, new));
        } else {
            (piece.planned, piece.range.last) = (sum, (at, id));
        }
    }
    pieces.extend(open.into_values());
    Ok(pieces)
}
