//! Plans what somebody asked for: the logs of a time that a filter matches, or single logs, as units of a
//! run, by the planner that every policy's plan is made with: where logs are to be deleted, holds and legal
//! minimums leave theirs out. The first plan that is kept stands; what dies in between goes on from it and
//! adds each unit once.

use chrono::{DateTime, Utc};
use contracts::LogId;
use contracts::audit::lifecycle::{Then, UnitId};
use database::Database;
use evidence::Codec;
use queue_core::Clock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use std::sync::Arc;
use uuid::Uuid;

use super::outgoing::{self, Cause};
use super::selection::rules_of;
use super::unit::Obstacle;
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::request::{Request, unit_id};
use crate::lifecycle::unit::NewWork;
use crate::lifecycle::{Basis, KeyRange, NewUnit, Run, RunState, Tally, Work};
use crate::retention::plan::{Place, Planner, Tally as Counted};
use crate::retention::policy::ArchiveSpec;
use crate::retention::{Filter, Plan, RuleSet};
use crate::store::{self, Fed, Planned, Step, UNITS_ADDED_MAX, planning};

/// Units that are looked up at once.
const UNITS_PAGE: i64 = 200;

/// A unit as a request's plan keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    range: KeyRange,
    planned: Tally,
    /// The earlier unit whose object holds these logs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<UnitId>,
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
    let units = units(database, run, codec, &pieces).await?;
    for units in units.chunks(UNITS_ADDED_MAX) {
        let mut transaction = database.pool().begin().await?;
        store::add_units(&mut transaction, &run.new.tenant, run.new.id, units).await?;
        transaction.commit().await?;
        progress();
    }
    reach(CrashPoint::AfterUnits);
    start(database, clock, run, cause).await
}

/// Numbered in the plan's order.
async fn units(
    database: &Database,
    run: &Run,
    codec: Codec,
    pieces: &[Piece],
) -> Result<Vec<NewUnit>, Obstacle> {
    let mut units = Vec::with_capacity(pieces.len());
    for (number, piece) in (1..).zip(pieces) {
        let (mut work, mut range) = (NewWork::Archive(codec), piece.range);
        if let Some(unit) = piece.again {
            let mut connection = database.pool().acquire().await?;
            let object = planning::object_of_unit(&mut connection, &run.new.tenant, unit).await?;
            // Gone since: whoever asks again archives what is left.
            let Some((object, first, last)) = object else { continue };
            work = NewWork::Again(object);
            (range.first, range.last) = ((first, Uuid::nil()), (last, Uuid::max()));
        }
        units.push(NewUnit {
            id: unit_id(run.new.id, number),
            number,
            work,
            range,
            planned: piece.planned,
        });
    }
    Ok(units)
}

/// Starts the run. What the archive holds already is told to be deleted by the same transaction: nobody
/// else will.
async fn start(
    database: &Database,
    clock: &Arc<dyn Clock>,
    run: &Run,
    cause: &Cause,
) -> Result<(), Obstacle> {
    let (tenant, id, now) = (&run.new.tenant, run.new.id, clock.now());
    let mut transaction = database.pool().begin().await?;
    let (step, end) = store::start_run(&mut transaction, tenant, id).await?;
    if step == Step::Now {
        tell_cleanups(&mut transaction, run, cause, now).await?;
    }
    outgoing::tell(&mut transaction, cause, end.as_ref(), now).await?;
    transaction.commit().await?;
    Ok(())
}

/// A message for each unit that goes by an object of an earlier one.
async fn tell_cleanups(
    transaction: &mut PgConnection,
    run: &Run,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), Obstacle> {
    let mut after = 0;
    loop {
        let (tenant, id) = (&run.new.tenant, run.new.id);
        let units = store::units_of(transaction, tenant, id, after, UNITS_PAGE).await?;
        let Some(last) = units.last() else { return Ok(()) };
        after = last.number;
        for unit in units.iter().filter(|unit| unit.work == Work::Again && !unit.state.ended()) {
            let Some(manifest) = unit.manifest else { continue };
            outgoing::clean_up(transaction, cause, unit, manifest, now).await?;
        }
    }
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
    let newest_xmin = {
        let mut connection = database.pool().acquire().await?;
        store::snapshot_xmin(&mut connection).await?
    };
    let (filter, shown) = match &request {
        Request::Time { filter, snapshot_xmin, .. } => (filter.clone(), *snapshot_xmin),
        Request::Logs { .. } => (Filter::default(), None),
    };
    // Nothing of a transaction that has not ended, whatever the request says.
    let snapshot_xmin = shown.map_or(newest_xmin, |shown| shown.min(newest_xmin));
    let of_tenant = match &run.new.rules {
        Some(rules) => {
            serde_json::from_value(rules.clone()).map_err(|error| poison(run, &error))?
        }
        None if run.new.then == Then::Archive => RuleSet::default(),
        None => return Err(poison(run, &"it deletes and names no rules")),
    };
    let rules = Arc::new(rules_of((run.new.id, run.new.then), of_tenant, filter));
    let tenant = &run.new.tenant;
    let planner =
        Planner::new(tenant, Arc::clone(&rules), run.new.id, run.new.as_of, snapshot_xmin)
            .ok_or_else(|| poison(run, &"its rule is not among its rules"))?;
    let plan = looked_at(database, run, planner, &request, progress).await?;
    if !plan.complete {
        return Err(poison(run, &"it has more units than one run may have; ask for less time"));
    }
    let pieces = pieces(&plan);
    let kept_plan = Planned {
        rules: serde_json::to_value(&*rules).map_err(|error| poison(run, &error))?,
        plan: json!({ "units": pieces }),
        fingerprint: Sha256::digest(rules.fingerprint()).into(),
        snapshot_xmin,
    };
    let (tenant, id) = (&run.new.tenant, run.new.id);
    let mut transaction = database.pool().begin().await?;
    store::keep_plan(&mut transaction, tenant, id, &kept_plan).await?;
    let run = store::run(&mut transaction, tenant, id).await?.ok_or(Obstacle::Lost)?;
    transaction.commit().await?;
    match &run.plan {
        Some(plan) if run.state == RunState::Planning => kept(&run, plan),
        _ => Err(Obstacle::Lost),
    }
}

/// From the stream that every plan is made of, or from the single logs.
async fn looked_at(
    database: &Database,
    run: &Run,
    mut planner: Planner,
    request: &Request,
    progress: &(dyn Fn() + Sync),
) -> Result<Plan, Obstacle> {
    let tenant = &run.new.tenant;
    let (from, to) = match request {
        Request::Logs { ids } => {
            let mut connection = database.pool().acquire().await?;
            let fed = store::feed_these(&mut connection, tenant, &mut planner, ids).await?;
            return Ok(planner.finish(fed == Fed::End));
        }
        Request::Time { from, to, .. } => (*from, *to),
    };
    planner = planner.before(to);
    let mut after = Some(Place { recorded_at: from, id: LogId(Uuid::nil()) });
    loop {
        let mut connection = database.pool().acquire().await?;
        match store::feed(&mut connection, tenant, &mut planner, after).await? {
            Fed::More(place) => after = Some(place),
            Fed::End => return Ok(planner.finish(true)),
            Fed::Full => return Ok(planner.finish(false)),
        }
        progress();
    }
}

fn pieces(plan: &Plan) -> Vec<Piece> {
    let tally = |tally: Counted| Tally { events: tally.events, bytes: tally.bytes };
    let new = plan.units.iter().map(|unit| Piece {
        range: KeyRange {
            class: unit.class,
            first: (unit.first.recorded_at, unit.first.id.0),
            last: (unit.last.recorded_at, unit.last.id.0),
        },
        planned: tally(unit.tally),
        again: None,
    });
    let again = plan.again.iter().map(|again| Piece {
        // As wide as its object, which is looked up when the unit is added.
        range: KeyRange {
            class: again.class,
            first: (again.hour, Uuid::nil()),
            last: (again.hour, Uuid::max()),
        },
        planned: tally(again.tally),
        again: Some(again.unit_id),
    });
    new.chain(again).collect()
}
