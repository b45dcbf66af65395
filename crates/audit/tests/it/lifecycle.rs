//! Runs and units in a real database: each step once, by one worker, with counters that add up.

use audit::lifecycle::run::UnitCounts;
use audit::lifecycle::unit::NewWork;
use audit::lifecycle::{Basis, Counters, KeyRange, NewRun, NewUnit, RunState, Tally, UnitState};
use audit::store::{
    self, Begun, Claim, Claimed, Deletion, Planned, RunEnd, Sealing, Step, UnitError,
};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::{RunId, Then, UnitId};
use contracts::{RetentionClass, Tenant};
use database::{Database, Role};
use evidence::document::ManifestRef;
use evidence::object::{Contents, ObjectWriter};
use evidence::{Codec, Hash};
use serde_json::json;
use sqlx::PgConnection;
use testkit::TestDatabase;
use uuid::Uuid;

fn acme() -> Tenant {
    "acme".parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn tally(events: u64) -> Tally {
    Tally { events, bytes: events * 100 }
}

fn new_run(then: Then, basis: Basis) -> NewRun {
    NewRun {
        id: Uuid::new_v4(),
        tenant: acme(),
        basis,
        requester: json!({"key_id": "k1"}),
        then,
        archive: Some(json!({"codec": "zstd", "storage_class": "STANDARD"})),
        rules: None,
        as_of: at("2026-06-01T00:00:00Z"),
        notify: 2,
        correlation_id: "c1".into(),
    }
}

fn range(minute: i64) -> KeyRange {
    let begin = at("2026-01-31T23:00:00Z") + TimeDelta::minutes(minute);
    let key = |at| (at, contracts::ids::uuid_v7_at(at, [7; 10]));
    let end = begin + TimeDelta::seconds(59);
    KeyRange { class: RetentionClass::Days30, first: key(begin), last: key(end) }
}

fn new_unit(number: u32, events: u64) -> NewUnit {
    NewUnit {
        id: Uuid::new_v4(),
        number,
        work: NewWork::Archive(Codec::Zstd),
        range: range(number.into()),
        planned: tally(events),
    }
}

/// What an object of that many lines holds.
fn contents(lines: u64) -> Contents {
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Zstd, &acme());
    for line in 0..lines {
        let id = Uuid::from_u128(0x0194_0000_0000_7000_8000_0000_0000_0000 + u128::from(line));
        let text = format!(
            r#"{{"id":"{id}","tenant":"acme","recorded_at":"2026-01-31T23:00:00.000001Z","event":{{}}}}"#
        );
        writer.push(&[1; 16], text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().1
}

fn sealing(then: Then, sequence: u64) -> Sealing {
    Sealing {
        manifest: ManifestRef { sequence, sha256: Hash::of(sequence.to_be_bytes()) },
        then,
        archived_at: at("2026-06-01T00:00:00Z"),
        expires_at: None,
        locked_until: None,
    }
}

struct Scene {
    _cluster: TestDatabase,
    database: Database,
}

impl Scene {
    async fn new() -> Self {
        let cluster = TestDatabase::new().await;
        Self { database: cluster.connect(Role::Worker), _cluster: cluster }
    }

    async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.database.pool().acquire().await.unwrap()
    }

    /// A started run with units of so many events each.
    async fn running(&self, then: Then, units: &[u64]) -> (RunId, Vec<UnitId>) {
        let c = &mut *self.connection().await;
        let run = new_run(then, Basis::Request(json!({})));
        assert_eq!(store::begin_run(c, &run).await.unwrap(), Begun::New);
        let units: Vec<NewUnit> =
            (1..).zip(units).map(|(number, events)| new_unit(number, *events)).collect();
        assert_eq!(store::add_units(c, &acme(), run.id, &units).await.unwrap(), Step::Now);
        assert_eq!(store::start_run(c, &acme(), run.id).await.unwrap(), (Step::Now, None));
        (run.id, units.iter().map(|unit| unit.id).collect())
    }
}

async fn counters(c: &mut PgConnection, run: RunId) -> (RunState, Counters) {
    let run = store::run(c, &acme(), run).await.unwrap().unwrap();
    (run.state, run.counters)
}

async fn claim(c: &mut PgConnection, unit: UnitId) -> Claim {
    let claim = Claim { tenant: acme(), unit, token: Uuid::new_v4() };
    let claimed = store::claim_unit(c, &claim, 60.0).await.unwrap();
    assert!(matches!(claimed, Claimed::Ours(_)), "{claimed:?}");
    claim
}

/// Claims a unit and takes it up to its manifest.
async fn sealed(c: &mut PgConnection, unit: UnitId, lines: u64, then: Then) -> Option<RunEnd> {
    let claim = claim(c, unit).await;
    let sequence = u64::from(store::allot_part(c, &claim, 0).await.unwrap().part.unwrap());
    let contents = contents(lines);
    assert!(store::write_unit(c, &claim, &contents, tally(lines)).await.unwrap().now);
    assert!(!store::write_unit(c, &claim, &contents, tally(lines)).await.unwrap().now);
    store::seal_unit(c, &claim, &sealing(then, sequence + 1)).await.unwrap().run
}

#[tokio::test]
async fn a_run_is_begun_planned_and_started_once() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let slot = Some(at("2026-06-01T03:00:00Z"));
    let id = Uuid::new_v4();
    let basis = Basis::Policy { id, version: 3, slot };
    let (run, twin) =
        (new_run(Then::Archive, basis.clone()), new_run(Then::Archive, basis.clone()));
    assert_eq!(store::begin_run(c, &run).await.unwrap(), Begun::New);
    assert_eq!(store::begin_run(c, &run).await.unwrap(), Begun::There(run.id));
    assert_eq!(store::begin_run(c, &twin).await.unwrap(), Begun::There(run.id), "one per slot");

    let planned = |n: u8| Planned {
        rules: json!({"n": n}),
        plan: json!({"n": n}),
        fingerprint: [n; 32],
        snapshot_xmin: 77,
    };
    let keep = store::keep_plan(c, &acme(), run.id, &planned(1)).await.unwrap();
    assert_eq!(keep, Step::Now);
    let again = store::keep_plan(c, &acme(), run.id, &planned(2)).await.unwrap();
    assert_eq!(again, Step::Already, "the first plan stands");

    let units = [new_unit(1, 10), new_unit(2, 20)];
    assert_eq!(store::add_units(c, &acme(), run.id, &units[..1]).await.unwrap(), Step::Now);
    // A planning that is done again, with other ids for the same numbers.
    let retried = [new_unit(1, 10), new_unit(2, 20)];
    assert_eq!(store::add_units(c, &acme(), run.id, &retried).await.unwrap(), Step::Now);
    assert_eq!(store::add_units(c, &acme(), run.id, &units).await.unwrap(), Step::Already);
    let open = store::open_ranges(c, &acme(), id).await.unwrap();
    assert_eq!(open, [range(1), range(2)]);
    let open = store::open_ranges(c, &acme(), Uuid::new_v4()).await.unwrap();
    assert_eq!(open, [], "another policy takes none of its rows");

    let brake = store::brake_run(c, &acme(), run.id, "30 of 40 events").await.unwrap();
    assert_eq!(brake, Step::Now);
    let start = store::start_run(c, &acme(), run.id).await.unwrap();
    assert_eq!(start, (Step::Refused(RunState::Braked), None), "nobody has approved");
    let approval = json!({"by": "k2"});
    store::approve_run(c, &acme(), run.id, &approval).await.unwrap();
    assert_eq!(store::start_run(c, &acme(), run.id).await.unwrap(), (Step::Now, None));
    assert_eq!(store::start_run(c, &acme(), run.id).await.unwrap(), (Step::Already, None));
    let late = store::add_units(c, &acme(), run.id, &[new_unit(3, 1)]).await.unwrap();
    assert_eq!(late, Step::Refused(RunState::Running));

    let stored = store::run(c, &acme(), run.id).await.unwrap().unwrap();
    assert_eq!(stored.new.basis, basis);
    assert_eq!((stored.plan, stored.snapshot_xmin), (Some(json!({"n": 1})), Some(77)));
    assert_eq!(stored.fingerprint, Some([1; 32]));
    assert_eq!(stored.approvals, json!([approval]));
    assert_eq!(stored.units, UnitCounts { all: 2, open: 2, failed: 0 });
    assert_eq!(stored.counters, Counters { planned: tally(30), ..Counters::default() });
    let listed = store::runs(c, &acme(), None, at("2999-01-01T00:00:00Z"), 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    let foreign: Tenant = "globex".parse().unwrap();
    assert_eq!(store::run(c, &foreign, run.id).await.unwrap(), None);
}

#[tokio::test]
async fn a_run_without_units_is_done_when_it_starts() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let run = new_run(Then::Archive, Basis::Request(json!({})));
    store::begin_run(c, &run).await.unwrap();
    let (step, end) = store::start_run(c, &acme(), run.id).await.unwrap();
    let end = end.unwrap();
    assert_eq!((step, end.state, end.policy), (Step::Now, RunState::Done, None));
}

#[tokio::test]
async fn counters_add_up_at_the_end_whatever_becomes_of_the_units() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let (run, units) = scene.running(Then::ArchiveAndDelete, &[10, 20, 5, 7]).await;
    let then = Then::ArchiveAndDelete;
    assert_eq!(sealed(c, units[0], 9, then).await, None);
    let (_, now) = counters(c, run).await;
    assert_eq!((now.archived, now.verified, now.gone), (tally(9), tally(9), tally(1)));

    // One that is written again: what was counted is taken back.
    let held = claim(c, units[1]).await;
    let part = store::allot_part(c, &held, 0).await.unwrap().part;
    store::write_unit(c, &held, &contents(20), tally(20)).await.unwrap();
    store::unwrite_unit(c, &held).await.unwrap();
    assert_eq!(counters(c, run).await.1.archived, tally(9));
    store::release_claim(c, &held).await.unwrap();
    assert_eq!(sealed(c, units[1], 20, then).await, None);
    let second = store::unit(c, &acme(), units[1]).await.unwrap().unwrap();
    assert!(second.part > part && second.state == UnitState::Sealed && second.contents.is_none());
    let object = store::archived_object(c, &acme(), second.object.as_ref().unwrap()).await;
    assert_eq!(object.unwrap().unwrap().contents, contents(20));

    let deletion = Deletion { deleted: tally(6), held: tally(2), gone: tally(1) };
    assert!(store::delete_unit(c, &acme(), units[0], deletion).await.unwrap().now);
    assert!(!store::delete_unit(c, &acme(), units[0], deletion).await.unwrap().now);
    assert!(store::finish_unit(c, &acme(), units[0], 9).await.unwrap().now);
    assert!(!store::finish_unit(c, &acme(), units[0], 9).await.unwrap().now);
    assert!(store::keep_unit(c, &acme(), units[1]).await.unwrap().now);
    let empty = claim(c, units[2]).await;
    assert_eq!(store::empty_unit(c, &empty).await.unwrap().run, None);
    let failed = store::fail_unit(c, &acme(), units[3], "line 3: no record\0").await.unwrap();
    assert!(!store::fail_unit(c, &acme(), units[3], "again").await.unwrap().now);
    assert_eq!(failed.run.unwrap().state, RunState::Failed);

    let stored = store::run(c, &acme(), run).await.unwrap().unwrap();
    assert_eq!(stored.failure.as_deref(), Some("line 3: no record"));
    assert_eq!(stored.units, UnitCounts { all: 4, open: 0, failed: 1 });
    let expected = Counters {
        planned: tally(42),
        archived: tally(29),
        verified: tally(29),
        deleted: tally(6),
        held: tally(22),
        gone: tally(7),
        failed: tally(7),
    };
    assert_eq!(stored.counters, expected);
    assert!(stored.counters.adds_up(then));
    let open = store::open_ranges(c, &acme(), Uuid::new_v4()).await.unwrap();
    assert_eq!(open, []);
}

#[tokio::test]
async fn an_archive_only_run_ends_with_the_last_manifest_and_its_logs_can_go_later() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let (run, units) = scene.running(Then::Archive, &[3]).await;
    let end = sealed(c, units[0], 3, Then::Archive).await.unwrap();
    assert_eq!((end.id, end.state), (run, RunState::Done));
    assert!(counters(c, run).await.1.adds_up(Then::Archive));
    let object = store::unit(c, &acme(), units[0]).await.unwrap().unwrap().object.unwrap();

    // A later run finds them due: its unit begins with that object, sealed.
    let later = new_run(Then::ArchiveAndDelete, Basis::Request(json!({})));
    store::begin_run(c, &later).await.unwrap();
    let again = NewUnit { work: NewWork::Again(object.clone()), ..new_unit(1, 3) };
    let missing = NewUnit { work: NewWork::Again("archive/none".into()), ..new_unit(2, 3) };
    store::add_units(c, &acme(), later.id, &[again.clone(), missing]).await.unwrap();
    store::start_run(c, &acme(), later.id).await.unwrap();
    let stored = store::unit(c, &acme(), again.id).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.object), (UnitState::Sealed, Some(object)));
    assert!(stored.manifest.is_some());
    assert_eq!(store::unit(c, &acme(), units[0]).await.unwrap().unwrap().state, UnitState::Kept);
    let all = Deletion { deleted: tally(3), ..Deletion::default() };
    store::delete_unit(c, &acme(), again.id, all).await.unwrap();
    let end = store::finish_unit(c, &acme(), again.id, 12).await.unwrap().run.unwrap();
    assert_eq!(end.state, RunState::Done, "the unit whose object is gone was never one");
    assert!(counters(c, later.id).await.1.adds_up(Then::ArchiveAndDelete));
}

#[tokio::test]
async fn one_worker_has_a_unit_and_who_lost_it_changes_nothing() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let (_, units) = scene.running(Then::Archive, &[1]).await;
    let first = claim(c, units[0]).await;
    let second = Claim { token: Uuid::new_v4(), ..first.clone() };
    let busy = store::claim_unit(c, &second, 60.0).await.unwrap();
    assert!(matches!(busy, Claimed::Busy(left) if left > 0.0 && left <= 60.0), "{busy:?}");
    // The first one sleeps through its term.
    store::renew_claim(c, &first, 0.0).await.unwrap();
    let taken = store::claim_unit(c, &second, 60.0).await.unwrap();
    assert!(matches!(taken, Claimed::Ours(_)), "{taken:?}");
    let lost = |error: UnitError| matches!(error, UnitError::Lost(_));
    assert!(lost(store::renew_claim(c, &first, 60.0).await.unwrap_err()));
    assert!(lost(store::allot_part(c, &first, 0).await.unwrap_err()));
    assert!(lost(store::note_upload(c, &first, None).await.unwrap_err()));
    assert!(lost(store::write_unit(c, &first, &contents(1), tally(1)).await.unwrap_err()));
    assert!(lost(store::empty_unit(c, &first).await.unwrap_err()));
    store::release_claim(c, &first).await.unwrap();
    let busy = store::claim_unit(c, &first, 60.0).await.unwrap();
    assert!(matches!(busy, Claimed::Busy(_)), "{busy:?}");
    let unwritten = store::seal_unit(c, &second, &sealing(Then::Archive, 2)).await.unwrap_err();
    assert!(matches!(unwritten, UnitError::State { state: UnitState::Planned, .. }));
    let nowhere = Claim { unit: Uuid::new_v4(), ..second };
    let missing = store::claim_unit(c, &nowhere, 60.0).await.unwrap();
    assert!(matches!(missing, Claimed::Missing), "{missing:?}");
}

#[tokio::test]
async fn a_unit_that_nobody_works_on_is_seen_and_one_in_hand_is_not() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let (_, units) = scene.running(Then::Archive, &[1, 1]).await;
    let held = claim(c, units[0]).await;
    let seen = store::attend_units(c, 0.0, 10).await.unwrap();
    assert_eq!(seen.into_iter().map(|unit| unit.unwrap().id).collect::<Vec<_>>(), units[1..]);
    store::release_claim(c, &held).await.unwrap();
    assert_eq!(store::attend_units(c, 0.0, 10).await.unwrap().len(), 2);
    let again = store::attend_units(c, 3_600.0, 10).await.unwrap();
    assert!(again.is_empty(), "that it was seen is something that happened to it");
}

#[tokio::test]
async fn part_numbers_of_an_hour_are_given_once_under_contention() {
    let scene = Scene::new().await;
    let (_, units) = scene.running(Then::Archive, &[1; 12]).await;
    let parts = units.iter().map(async |unit| {
        let mut c = scene.connection().await;
        let claim = claim(&mut c, *unit).await;
        let part = store::allot_part(&mut c, &claim, 0).await.unwrap().part.unwrap();
        let again = store::allot_part(&mut c, &claim, 0).await.unwrap();
        assert_eq!(again.part, Some(part), "once per unit");
        let name = format!("year=2026/month=01/day=31/hour=23/part-{part:05}.ndjson.zst");
        assert!(again.object.unwrap().ends_with(&name));
        part
    });
    let mut parts = futures_util::future::join_all(parts).await;
    parts.sort_unstable();
    assert_eq!(parts, (1..=12).collect::<Vec<u32>>());
    // The store has other objects under the next names.
    let c = &mut *scene.connection().await;
    let held = claim_of(c, units[0]).await;
    store::release_claim(c, &held).await.unwrap();
    let claim = claim(c, units[0]).await;
    assert_eq!(store::allot_part(c, &claim, 40).await.unwrap().part, Some(40));
}

/// The claim that a unit is under.
async fn claim_of(c: &mut PgConnection, unit: UnitId) -> Claim {
    let token = sqlx::query_scalar("SELECT claimed_by FROM archive_units WHERE id = $1");
    Claim { tenant: acme(), unit, token: token.bind(unit).fetch_one(c).await.unwrap() }
}

#[tokio::test]
async fn a_cancelled_run_keeps_what_nobody_has_begun() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let (run, units) = scene.running(Then::Archive, &[1, 1]).await;
    let begun = claim(c, units[0]).await;
    let stop = store::stop_run(c, &acme(), run, RunState::Cancelled, "by k2").await.unwrap();
    assert_eq!(stop, Step::Now);
    let stop = store::stop_run(c, &acme(), run, RunState::Cancelled, "by k3").await.unwrap();
    assert_eq!(stop, Step::Already);
    let stored = store::run(c, &acme(), run).await.unwrap().unwrap();
    assert_eq!((stored.units.open, stored.failure.as_deref()), (1, Some("by k2")));
    assert_eq!(store::unit(c, &acme(), units[1]).await.unwrap().unwrap().state, UnitState::Kept);
    let end = store::keep_unit(c, &acme(), begun.unit).await.unwrap();
    assert_eq!(end.run, None, "it has ended before");
    let (state, _) = counters(c, run).await;
    assert_eq!(state, RunState::Cancelled);
}

#[tokio::test]
async fn marks_say_what_the_archive_holds_as_well() {
    let scene = Scene::new().await;
    let c = &mut *scene.connection().await;
    let logs: Vec<_> = (0..3_u8)
        .map(|n| (at("2026-01-31T23:00:00Z") + TimeDelta::seconds(n.into()), Uuid::new_v4()))
        .collect();
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(store::mark_archived(c, &acme(), one, &logs[..2]).await.unwrap(), 2);
    assert_eq!(store::mark_archived(c, &acme(), two, &logs).await.unwrap(), 1, "the first stands");
    let found = store::archived_among(c, &acme(), &logs).await.unwrap();
    let expected = [(logs[0].1, one), (logs[1].1, one), (logs[2].1, two)];
    assert!(found.len() == 3 && expected.iter().all(|mark| found.contains(mark)), "{found:?}");
    assert_eq!(store::unmark_archived(c, &acme(), &logs[1..]).await.unwrap(), 2);
    assert_eq!(store::archived_among(c, &acme(), &logs).await.unwrap(), [(logs[0].1, one)]);
    let foreign: Tenant = "globex".parse().unwrap();
    assert_eq!(store::archived_among(c, &foreign, &logs).await.unwrap(), []);
}
