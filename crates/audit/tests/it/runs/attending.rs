//! Units whose message is lost: told again in an hour, each once, whoever looks and however often; and
//! never what somebody is at, what waits for an approval, or what has ended.

use std::collections::BTreeSet;

use audit::attendance::{self, Attended, ROUND_MAX};
use audit::lifecycle::unit::NewWork;
use audit::lifecycle::{Basis, KeyRange, NewRun, NewUnit, RunState, Tally, Unit};
use audit::store;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::RetentionClass;
use contracts::audit::lifecycle::{RunId, Then};
use evidence::{Codec, Hash};
use serde_json::{Value, json};
use uuid::Uuid;

use super::scene::{Scene, acme, policy, slot};
use crate::retention::{at, now};

impl Scene {
    /// The messages that a round puts; nothing else is left in the outbox.
    async fn attend(&self) -> (Attended, Vec<(String, Value)>) {
        self.sql("DELETE FROM outbox").await;
        let attended = attendance::attend(&self.database, now()).await.unwrap();
        let told = self.outbox().await.into_iter().map(|(kind, _, body)| (kind, body));
        (attended, told.collect())
    }

    /// Units that were told of by these messages, each once.
    async fn attended(&self, kind: &str) -> BTreeSet<Uuid> {
        let (attended, told) = self.attend().await;
        let units = told.iter().map(|(of, body)| {
            assert_eq!(of, kind, "{body}");
            body["unit_id"].as_str().unwrap().parse().unwrap()
        });
        let units: BTreeSet<Uuid> = units.collect();
        assert_eq!((attended.units, attended.failed), (told.len() as u64, 0));
        assert_eq!(units.len(), told.len(), "each once");
        units
    }

    /// A run of the policy whose units were told of.
    async fn told_run(&self, then: &str) -> (RunId, Vec<Unit>) {
        let brake = json!({"share_max": 1, "growth_max": 1_000});
        self.write(&acme(), &json!({"keep": "P1D", "then": then, "brake": brake}), 0).await;
        let run = self.schedule(slot()).await.unwrap();
        self.evaluate(run).await.unwrap();
        (run, self.units(run).await)
    }

    async fn an_hour_later(&self) {
        self.sql("UPDATE archive_units SET updated_at = updated_at - interval '61 minutes'").await;
    }

    /// A request's run that was started, with so many units to archive.
    async fn requested(&self, id: u128, request: Value, units: u32) -> RunId {
        let mut connection = self.database.pool().acquire().await.unwrap();
        let run = NewRun {
            id: Uuid::from_u128(id),
            tenant: acme(),
            basis: Basis::Request(request),
            requester: json!({"key_id": "k1"}),
            then: Then::ArchiveAndDelete,
            archive: None,
            rules: None,
            as_of: now(),
            notify: 0,
            correlation_id: "c1".into(),
        };
        store::begin_run(&mut connection, &run).await.unwrap();
        let units: Vec<_> = (1..=units).map(|number| unit(id, number)).collect();
        store::add_units(&mut connection, &acme(), run.id, &units).await.unwrap();
        store::start_run(&mut connection, &acme(), run.id).await.unwrap();
        run.id
    }
}

fn unit(run: u128, number: u32) -> NewUnit {
    let key = |second: u32| -> (DateTime<Utc>, Uuid) {
        let at = at("2026-01-31T23:00:00Z") + TimeDelta::seconds(second.into());
        (at, contracts::ids::uuid_v7_at(at, [7; 10]))
    };
    NewUnit {
        id: Uuid::from_u128((run << 64) | u128::from(number)),
        number,
        work: NewWork::Archive(Codec::Zstd),
        range: KeyRange { class: RetentionClass::Days30, first: key(0), last: key(1) },
        planned: Tally { events: 1, bytes: 1 },
    }
}

fn ids(units: &[Unit]) -> BTreeSet<Uuid> {
    units.iter().map(|unit| unit.id).collect()
}

#[tokio::test]
async fn a_unit_that_stands_still_is_told_again_and_once_in_an_hour() {
    let scene = Scene::new(2_000).await;
    let (run, units) = scene.told_run("archive_and_delete").await;
    assert!(units.len() > 3);
    assert_eq!(scene.attended("").await.len(), 0, "its message may wait for its turn");
    scene.an_hour_later().await;
    let (attended, told) = scene.attend().await;
    assert_eq!(attended.units, units.len() as u64);
    assert!(!attended.more);
    let of = |unit: &Unit| json!({"run_id": run, "unit_id": unit.id, "policy_id": policy(), "policy_version": 1});
    for unit in &units {
        assert!(told.contains(&("ARCHIVE_BY_POLICY".into(), of(unit))), "{unit:?}");
    }
    assert_eq!(scene.attended("").await.len(), 0, "not again before another hour");
    // Somebody is at the first one; the second one has ended.
    scene.an_hour_later().await;
    scene
        .sql(
            "UPDATE archive_units SET claimed_by = gen_random_uuid(),
                    claimed_until = clock_timestamp() + interval '1 minute' WHERE number = 1;
             UPDATE archive_units SET state = 'failed' WHERE number = 2;
             UPDATE archive_units SET state = 'written' WHERE number = 3",
        )
        .await;
    assert_eq!(scene.attended("ARCHIVE_BY_POLICY").await, ids(&units[2..]));
    scene.sql("UPDATE archive_units SET claimed_until = clock_timestamp()").await;
    assert_eq!(scene.attended("ARCHIVE_BY_POLICY").await, ids(&units[..1]), "its worker died");
}

#[tokio::test]
async fn what_is_to_be_deleted_is_told_by_what_it_is_deleted_by() {
    let scene = Scene::new(2_000).await;
    let (_, units) = scene.told_run("delete").await;
    scene.an_hour_later().await;
    scene.sql("UPDATE archive_units SET state = 'deleting' WHERE number = 1").await;
    assert_eq!(scene.attended("CLEANUP_BY_POLICY").await, ids(&units));

    let scene = Scene::new(2_000).await;
    let (run, units) = scene.told_run("archive_and_delete").await;
    scene.an_hour_later().await;
    let sha256 = Hash::of(b"manifest");
    let sealed = "UPDATE archive_units SET manifest_sequence = 7, manifest_sha256 = $1,
                         state = CASE WHEN number = 1 THEN 'sealed' ELSE 'deleting' END";
    sqlx::query(sealed).bind(sha256.0.to_vec()).execute(scene.owner.pool()).await.unwrap();
    // One was taken over from an earlier unit's object.
    scene.sql("UPDATE archive_units SET work = 'again' WHERE number = 2").await;
    let (_, told) = scene.attend().await;
    for unit in &units {
        let body = json!({"run_id": run, "unit_id": unit.id, "manifest_sequence": 7,
            "manifest_sha256": sha256.to_string()});
        assert!(told.contains(&("CLEANUP_ARCHIVED".into(), body)), "{unit:?}");
    }
    assert_eq!(told.len(), units.len());
}

#[tokio::test]
async fn a_run_that_was_not_started_waits_and_one_that_was_stopped_ends_its_units() {
    let scene = Scene::new(2_000).await;
    let (_, units) = scene.told_run("archive_and_delete").await;
    for (state, expected) in [
        (RunState::Planning, 0),
        (RunState::Braked, 0),
        (RunState::Running, units.len()),
        (RunState::Cancelled, units.len()),
        (RunState::Failed, units.len()),
    ] {
        scene.an_hour_later().await;
        sqlx::query("UPDATE retention_runs SET state = $1")
            .bind(state.as_str())
            .execute(scene.owner.pool())
            .await
            .unwrap();
        let (attended, told) = scene.attend().await;
        assert_eq!((attended.units, told.len()), (expected as u64, expected), "{state:?}");
    }
}

#[tokio::test]
async fn a_request_is_told_again_as_one_message() {
    let scene = Scene::new(0).await;
    let (from, to) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let time = json!({"kind": "time", "from": from, "to": to, "filter": {}});
    let run = scene.requested(10, time, 3).await;
    let log = "01940000-0000-7000-8000-000000000001";
    let logs = scene.requested(11, json!({"kind": "logs", "ids": [log]}), 2).await;
    scene.an_hour_later().await;
    let (attended, mut told) = scene.attend().await;
    assert_eq!((attended.units, attended.failed), (5, 0));
    told.sort_by_key(|(kind, _)| kind.clone());
    let requester = json!({"key_id": "k1"});
    let of_time = json!({"run_id": run, "from": from, "to": to, "then": "archive_and_delete",
        "requester": requester});
    let of_logs = json!({"run_id": logs, "log_ids": [log], "then": "archive_and_delete",
        "requester": requester});
    let expected = [("ARCHIVE_BY_DATE".into(), of_time), ("BULK_ARCHIVE".into(), of_logs)];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn one_that_cannot_be_told_holds_up_no_other() {
    let scene = Scene::new(2_000).await;
    let (_, units) = scene.told_run("archive_and_delete").await;
    scene.requested(10, json!({"kind": "of another release"}), 2).await;
    scene.an_hour_later().await;
    // Deleted by an object, which it does not name; and in a word of another release.
    scene
        .sql(
            "UPDATE archive_units SET work = 'again', state = 'sealed' WHERE number = 1
                AND run_id <> '00000000-0000-0000-0000-00000000000a';
             UPDATE archive_units SET codec = 'brotli' WHERE number = 2
                AND run_id <> '00000000-0000-0000-0000-00000000000a'",
        )
        .await;
    let (attended, told) = scene.attend().await;
    // The second of a request's units stands behind the same message as its first.
    assert_eq!(attended.units, units.len() as u64 + 2);
    assert_eq!(attended.failed, 3, "one per request");
    let told: BTreeSet<Uuid> =
        told.iter().map(|(_, body)| body["unit_id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(told, ids(&units[2..]));
}

#[tokio::test]
async fn schedulers_at_the_same_time_tell_a_unit_once_and_a_round_is_bounded() {
    let scene = Scene::new(0).await;
    let logs = json!({"kind": "logs", "ids": []});
    let most = u32::try_from(ROUND_MAX).unwrap();
    scene.requested(10, logs, most + 20).await;
    // Units of their own messages: a policy's.
    scene
        .sql(
            "UPDATE retention_runs SET request = NULL, policy_id = gen_random_uuid(),
                    policy_version = 1",
        )
        .await;
    scene.an_hour_later().await;
    let rounds = (0..4).map(|_| attendance::attend(&scene.database, now()));
    let rounds = futures_util::future::join_all(rounds).await;
    let rounds: Vec<Attended> = rounds.into_iter().map(Result::unwrap).collect();
    let units: u64 = rounds.iter().map(|round| round.units).sum();
    assert!(rounds.iter().all(|round| round.units <= u64::from(most)), "{rounds:?}");
    // Who looks away from what another is at may have seen its round's end early.
    let rest = attendance::attend(&scene.database, now()).await.unwrap();
    assert_eq!((units + rest.units, rest.more), (u64::from(most) + 20, false));
    assert_eq!(scene.told("ARCHIVE_BY_POLICY").await as u64, units + rest.units);
    // Alone, a round takes no more than it may, and says that there is more.
    scene.an_hour_later().await;
    let alone = attendance::attend(&scene.database, now()).await.unwrap();
    assert_eq!((alone.units, alone.more), (u64::from(most), true));
    let rest = attendance::attend(&scene.database, now()).await.unwrap();
    assert_eq!((rest.units, rest.more), (20, false));
}
