//! From a slot to messages: each once, by the version that the run names, unless the brake holds it.

use audit::lifecycle::{Basis, RunState, UnitState, Work};
use audit::retention::plan::UNITS_MAX;
use audit::retention::policy::Brake;
use audit::store::{self, Step};
use audit::workers::retention::Targets;
use chrono::TimeDelta;
use queue_core::Failure;
use serde_json::json;
use uuid::Uuid;

use super::scene::{Scene, acme, policy, slot};

/// Whatever it deletes, it may.
fn free() -> serde_json::Value {
    json!({"keep": "P1D", "brake": {"share_max": 1, "growth_max": 1_000}})
}

#[tokio::test]
async fn a_slot_becomes_one_run_however_often_it_is_told() {
    let scene = Scene::new(10).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    assert_eq!(scene.schedule(slot()).await.unwrap(), id);
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.new.basis, Basis::Policy { id: policy(), version: 1, slot: Some(slot()) });
    assert_eq!((run.state, scene.runs().await.len()), (RunState::Planning, 1));
    let outbox = scene.outbox().await;
    let body = json!({"policy_id": policy(), "run_id": id});
    assert_eq!(outbox, [("EVALUATE_POLICY".to_owned(), "acme".to_owned(), body)]);

    let next = scene.schedule(slot() + TimeDelta::days(1)).await.unwrap();
    assert!(next != id && scene.runs().await.len() == 2);
}

#[tokio::test]
async fn a_policy_that_is_not_applied_any_more_is_passed_over() {
    let scene = Scene::new(1).await;
    scene.write(&acme(), &free(), 0).await;
    let mut off = free();
    off["state"] = json!("disabled");
    scene.write(&acme(), &off, 1).await;
    scene.schedule(slot()).await.unwrap();
    assert_eq!((scene.runs().await, scene.outbox().await), (vec![], vec![]));
}

#[tokio::test]
async fn a_run_executes_the_plan_that_a_simulation_shows() {
    let scene = Scene::new(12_345).await;
    let mut spec = free();
    spec["filter"] = json!({"actions": ["act.1", "act.2"], "metadata": {"even": "true"}});
    scene.write(&acme(), &spec, 0).await;
    let mut shown = scene.simulated(1).await;
    assert!(shown.events > 1_000 && shown.units.len() > 10 && shown.complete);
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();

    let run = scene.run(id).await.unwrap();
    // Other transactions of the cluster may have ended in between; nothing else differs.
    assert!(run.snapshot_xmin.unwrap() >= shown.snapshot_xmin);
    shown.snapshot_xmin = run.snapshot_xmin.unwrap();
    assert_eq!(run.plan, Some(serde_json::to_value(&shown).unwrap()), "the very same plan");
    assert_eq!(run.state, RunState::Running);
    assert_eq!(hex::encode(run.fingerprint.unwrap()), shown.rules_fingerprint);
    assert_eq!(
        (run.counters.planned.events, run.counters.planned.bytes),
        (shown.events, shown.bytes)
    );
    let units = scene.units(id).await;
    assert_eq!(units.len(), shown.units.len());
    for (unit, planned) in units.iter().zip(&shown.units) {
        let range = (unit.range.first.1, unit.range.last.1, unit.range.class, unit.hour);
        assert_eq!(range, (planned.first.id.0, planned.last.id.0, planned.class, planned.hour));
        assert_eq!(unit.counters.planned.events, planned.tally.events);
    }
    let mut outbox = scene.outbox().await;
    outbox.retain(|(kind, ..)| kind == "ARCHIVE_BY_POLICY");
    let told: Vec<_> =
        outbox.iter().map(|(_, group, body)| (group.as_str(), &body["unit_id"])).collect();
    let ids: Vec<_> = units.iter().map(|unit| json!(unit.id)).collect();
    assert_eq!(told, ids.iter().map(|id| ("acme", id)).collect::<Vec<_>>(), "each once, in order");
    // A message that comes twice changes nothing.
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await, units.len());
    assert_eq!(scene.run(id).await.unwrap().counters, run.counters);
}

#[tokio::test]
async fn the_version_that_a_run_names_is_the_one_that_counts() {
    let scene = Scene::new(100).await;
    let mut spec = free();
    spec["filter"] = json!({"actions": ["act.1"]});
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    spec["filter"] = json!({"actions": ["act.2"]});
    spec["then"] = json!("delete");
    scene.write(&acme(), &spec, 1).await;
    scene.evaluate(id).await.unwrap();
    let plan = scene.run(id).await.unwrap().plan.unwrap();
    assert_eq!(
        (&plan["policy_version"], &plan["by_action"][0]["action"]),
        (&json!(1), &json!("act.1"))
    );
    assert!(scene.told("ARCHIVE_BY_POLICY").await > 0);
    assert_eq!(scene.told("CLEANUP_BY_POLICY").await, 0);
}

#[tokio::test]
async fn a_policy_that_only_deletes_is_cleaned_up_without_an_archive() {
    let scene = Scene::new(100).await;
    let mut spec = free();
    spec["then"] = json!("delete");
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let units = scene.units(id).await;
    assert!(units.iter().all(|unit| unit.work == Work::Delete) && !units.is_empty());
    let outbox = scene.outbox().await;
    let (_, group, body) = outbox.iter().find(|(kind, ..)| kind == "CLEANUP_BY_POLICY").unwrap();
    assert_eq!((group.as_str(), &body["policy_version"]), ("acme", &json!(1)));
    assert_eq!(scene.told("CLEANUP_BY_POLICY").await, units.len());
}

#[tokio::test]
async fn nothing_to_do_is_done_at_once_and_told() {
    let scene = Scene::new(10).await;
    let mut spec = free();
    spec["filter"] = json!({"actions": ["nothing"]});
    spec["notify"] =
        json!([{"type": "email", "to": "a@example.com"}, {"type": "slack", "name": "ops"}]);
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Done);
    assert_eq!(scene.told("POLICY_NOTIFICATION").await, 2);
}

#[tokio::test]
async fn a_brake_holds_until_somebody_approves() {
    let scene = Scene::new(100).await;
    let filter = json!({"actions": ["act.1"]});
    let mut spec = json!({"keep": "P1D", "filter": filter, "brake": {"share_max": 0.2, "growth_max": 9},
                          "notify": [{"type": "slack", "name": "ops"}]});
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.state, RunState::Braked);
    assert!(run.failure.as_ref().unwrap().contains("25 of the tenant's 100"), "{run:?}");
    let outbox = scene.outbox().await;
    assert_eq!(outbox.last().unwrap().2["event"], "braked");
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await, 0);
    // Told again, it still waits, and nobody is told twice.
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Braked);
    assert_eq!(scene.told("POLICY_NOTIFICATION").await, 1);
    scene.approve(id).await;
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Running);
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await, scene.units(id).await.len());

    // A quarter is no more than the share of a quarter.
    spec["brake"]["share_max"] = json!(0.25);
    scene.sql("UPDATE retention_runs SET state = 'cancelled'").await;
    scene.write(&acme(), &spec, 1).await;
    let id = scene.schedule(slot() + TimeDelta::days(1)).await.unwrap();
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Running);
}

/// A tenant's own policy does not switch the brake off.
#[tokio::test]
async fn an_operators_ceiling_holds_whatever_the_policy_allows() {
    let ceiling = Brake { share_max: 0.5, growth_max: 1_000.0 };
    let scene = Scene::with(100, Targets::default(), ceiling).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.state, RunState::Braked);
    let why = run.failure.unwrap();
    assert!(why.contains("the brake is at 50.0 %; the operator allows no wider one"), "{why}");
    scene.approve(id).await;
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.run(id).await.unwrap().state, RunState::Running);
}

#[tokio::test]
async fn a_run_that_deletes_much_more_than_the_last_one_waits() {
    let scene = Scene::new(100).await;
    let spec = json!({"keep": "P1D", "then": "delete", "brake": {"share_max": 1, "growth_max": 3}});
    scene.write(&acme(), &spec, 0).await;
    let first = scene.schedule(slot()).await.unwrap();
    scene.evaluate(first).await.unwrap();
    assert_eq!(scene.run(first).await.unwrap().state, RunState::Running, "nothing to grow from");
    scene
        .sql(
            "UPDATE retention_runs SET state = 'done', deleted_events = 33, units_open = 0;
               UPDATE archive_units SET state = 'kept'",
        )
        .await;
    let second = scene.schedule(slot() + TimeDelta::days(1)).await.unwrap();
    scene.evaluate(second).await.unwrap();
    let run = scene.run(second).await.unwrap();
    assert_eq!(run.state, RunState::Braked);
    assert!(run.failure.unwrap().contains("3.0 times the 33"));
}

#[tokio::test]
async fn a_planning_that_was_cut_off_goes_on_by_its_plan_and_doubles_nothing() {
    let scene = Scene::new(3_000).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let (whole, units, messages) = (
        scene.run(id).await.unwrap(),
        scene.units(id).await,
        scene.told("ARCHIVE_BY_POLICY").await,
    );
    assert!(units.len() > 4);
    // Back to where a planner died: the plan is kept, two units are there, none is told.
    scene.sql("DELETE FROM archive_units WHERE number > 2; DELETE FROM outbox;
               UPDATE retention_runs SET state = 'planning', started_at = NULL, units = 2, units_open = 2,
                      units_told = 0,
                      planned_events = (SELECT sum(planned_events) FROM archive_units),
                      planned_bytes = (SELECT sum(planned_bytes) FROM archive_units)").await;
    // What came since is not in the plan.
    scene.sql("INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                 actor_type, actor_id, action, outcome)
               VALUES ('acme', gen_random_uuid(), '90d', '2026-01-01 00:00:01', '', sha256(''), '', 'user',
                       'u', 'a', 'success')").await;
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.units(id).await, units);
    let after = scene.run(id).await.unwrap();
    assert_eq!(
        (after.plan, after.counters, after.units),
        (whole.plan, whole.counters, whole.units)
    );
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await, messages);
    // And where it died between two pages of messages.
    scene.sql("DELETE FROM outbox; UPDATE retention_runs SET units_told = 3").await;
    scene.evaluate(id).await.unwrap();
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await, messages - 3);
}

#[tokio::test]
async fn runs_of_a_policy_follow_each_other_and_leave_each_others_logs() {
    let scene = Scene::new(200).await;
    scene.write(&acme(), &free(), 0).await;
    let first = scene.schedule(slot()).await.unwrap();
    let second = scene.schedule(slot() + TimeDelta::days(1)).await.unwrap();
    // It waits as a further message, and not by being given back, which would use up the queue's receives;
    // one however often it is told.
    let told = async || scene.evaluations_of(second).await;
    assert_eq!(told().await, 1);
    for _ in 0..30 {
        scene.evaluate(second).await.unwrap();
    }
    assert_eq!((told().await, scene.run(second).await.unwrap().state), (2, RunState::Planning));
    assert!(scene.run(second).await.unwrap().again_at.is_some(), "it shows that it waits");
    scene.sql("UPDATE retention_runs SET again_at = now()").await;
    scene.evaluate(first).await.unwrap();
    scene.evaluate(second).await.unwrap();
    assert_eq!(told().await, 3, "it is at work");
    // It never ends: the next one goes on without its logs.
    scene.sql("UPDATE retention_runs SET created_at = '2026-02-28 00:00:00+00'").await;
    scene.evaluate(second).await.unwrap();
    let plan = scene.run(second).await.unwrap().plan.unwrap();
    assert_eq!((&plan["events"], &plan["staying"]["in_progress"]), (&json!(0), &json!(200)));
}

#[tokio::test]
async fn what_an_object_holds_already_goes_by_that_object() {
    let scene = Scene::new(100).await;
    scene.write(&acme(), &free(), 0).await;
    scene.sql("INSERT INTO archived_logs SELECT tenant, recorded_at, id, '00000000-0000-0000-0000-0000000000aa'
                 FROM logs WHERE retention_class = '90d' AND recorded_at < '2026-01-01 00:05:00+00';
               INSERT INTO archive_objects
               SELECT 'acme', 'archive/acme/part-1', '00000000-0000-0000-0000-0000000000aa', 7, sha256('m'),
                      '90d', '2026-01-01 00:00:00+00', gen_random_uuid(), gen_random_uuid(),
                      '2026-01-01 00:00:01+00', '2026-01-01 00:05:00+00', 40, 400, '{}', now()").await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let units = scene.units(id).await;
    let again: Vec<_> = units.iter().filter(|unit| unit.work == Work::Again).collect();
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].state, again[0].object.as_deref()),
        (UnitState::Sealed, Some("archive/acme/part-1"))
    );
    assert!(again[0].counters.planned.events > 10);
    let outbox = scene.outbox().await;
    let by: Vec<_> = outbox.iter().filter(|(kind, ..)| kind == "CLEANUP_ARCHIVED").collect();
    assert_eq!(by.len(), 1);
    assert_eq!(by[0].2["manifest_sequence"], 7);
    assert_eq!(by[0].2["unit_id"], json!(again[0].id));
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.counters.planned.events, 100, "each once, here or there");
}

#[tokio::test]
async fn a_run_that_cannot_be_planned_has_failed_and_says_why() {
    let scene = Scene::new(1).await;
    let mut spec = free();
    spec["notify"] = json!([{"type": "slack", "name": "ops"}]);
    scene.write(&acme(), &spec, 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.sql("UPDATE retention_runs SET plan = '{\"of\": \"another release\"}'").await;
    let Err(Failure::Reject(reason)) = scene.evaluate(id).await else { panic!("it was planned") };
    assert_eq!(reason.code.code, "run-not-planned");
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.state, RunState::Failed);
    assert!(run.failure.unwrap().contains("missing field"));
    assert_eq!(scene.outbox().await.last().unwrap().2["event"], "failed");
    let missing = scene.evaluate(Uuid::new_v4()).await;
    assert!(matches!(missing, Err(Failure::Reject(reason)) if reason.code.code == "run-unknown"));
}

#[tokio::test]
async fn a_cancelled_run_does_nothing_more() {
    let scene = Scene::new(100).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    let mut transaction = scene.api.tenant(&acme()).await.unwrap();
    let to = RunState::Cancelled;
    let step = store::stop_run(&mut transaction, &acme(), id, to, "not now").await.unwrap();
    assert_eq!(step, Step::Now);
    transaction.commit().await.unwrap();
    scene.evaluate(id).await.unwrap();
    assert_eq!((scene.run(id).await.unwrap().state, scene.units(id).await), (to, vec![]));
}

/// More hours than one plan has units: two parts, which together are all.
#[tokio::test]
async fn what_a_plan_does_not_cover_is_the_next_part() {
    let scene = Scene::new(0).await;
    scene
        .sql(
            "SELECT flotilla_make_partition('7y', month) FROM generate_series(
                 '2023-01-01'::timestamptz, '2026-03-01'::timestamptz, '1 month') month",
        )
        .await;
    scene.sql("INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                 actor_type, actor_id, action, outcome)
               SELECT 'acme', gen_random_uuid(), '7y', '2023-01-01'::timestamptz + n * interval '1 hour', '',
                      sha256(''), '', 'user', 'u', 'a', 'success' FROM generate_series(1, 20100) n").await;
    crate::retention::plans::settled(&scene.owner).await;
    scene.write(&acme(), &free(), 0).await;
    let id = scene.schedule(slot()).await.unwrap();
    scene.evaluate(id).await.unwrap();
    let run = scene.run(id).await.unwrap();
    assert_eq!(run.plan.as_ref().unwrap()["complete"], false);
    assert_eq!(run.units.all, u64::try_from(UNITS_MAX).unwrap());
    assert_eq!(scene.told("SCHEDULE_RETENTION").await, 0, "not before this one has done its part");
    // As workers end it, and the last one tells.
    assert_eq!(scene.end_all(id, false).await, None, "it got nowhere: so would another");
    let rest = scene.end_all(id, true).await;
    let rest = rest.expect("a slot for the rest");
    let next = scene.schedule(rest).await.unwrap();
    scene.evaluate(next).await.unwrap();
    let next = scene.run(next).await.unwrap();
    assert_eq!(next.new.basis, Basis::Policy { id: policy(), version: 1, slot: Some(rest) });
    assert_eq!(run.counters.planned.events + next.counters.planned.events, 20_100);
    assert_eq!(next.plan.unwrap()["complete"], true);
    // Nothing follows what was planned whole.
    assert_eq!(scene.end_all(next.new.id, true).await, Some(rest));
}
