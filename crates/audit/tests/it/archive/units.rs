//! Units of a policy's run: rows become objects that prove themselves, once, whatever happens at the
//! same time.

use audit::lifecycle::{RunState, Tally, UnitState};
use chrono::TimeDelta;
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use queue_core::Failure;
use sinks::objects::{ArchiveConfig, LockMode, Objects, Write};
use uuid::Uuid;

use super::double::{Call, Trick};
use super::scene::{Scene, acme, v7};

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_objects_that_an_auditor_verifies() {
    for codec in Codec::ALL {
        let scene = Scene::new().await;
        // Many of one millisecond, whose order by time is not that of the ids.
        let mut ids = scene.logs(&[5; 40]).await;
        ids.extend(scene.logs(&[0, 6, 7, 7, 3_599_000]).await);
        // Ids that carry no time, as those of the legacy queue: before and behind all others.
        let legacy = [1_u128, 0xffff_0000_0000_0000_0000_0000_0000_0000];
        let legacy = legacy.map(|high| LogId(Uuid::new_v5(&Uuid::from_u128(high), b"x")));
        let rows = legacy.iter().map(|id| scene.log(100, *id, "a.b", 10));
        ids.extend(scene.insert(rows.collect()).await);
        scene.revise(ids[3], "looked at").await;
        scene.revise(ids[3], "twice").await;
        // Another's: not this policy's.
        let other = scene.log(9, LogId(v7(scene.hour, 9)), "other", 10);
        scene.insert(vec![other]).await;

        let (run, plan) = scene.run(Then::ArchiveAndDelete, codec).await;
        assert_eq!((plan.events, plan.units.len()), (47, 1));
        scene.archive(&run).await.unwrap();
        scene.holds(&ids).await;

        let unit = scene.units(run.new.id).await.remove(0);
        assert_eq!(unit.state, UnitState::Sealed);
        let planned = Tally { events: plan.events, bytes: plan.bytes };
        let run = scene.state(run.new.id).await;
        assert_eq!(run.state, RunState::Running, "its rows are not deleted yet");
        assert_eq!(run.counters.archived, planned);
        assert_eq!((run.counters.verified, run.counters.gone), (planned, Tally::default()));
        let messages = scene.outbox("audit-cleanup").await;
        assert_eq!(messages.len(), 1);
        let body = &messages[0]["body"];
        assert_eq!(body["unit_id"], unit.id.to_string());
        assert_eq!(body["manifest_sequence"], unit.manifest.unwrap().sequence);
        assert_eq!(messages[0]["correlation_id"], "c-1");
        // Handled again: nothing more.
        scene.archive(&run).await.unwrap();
        assert_eq!(scene.outbox("audit-cleanup").await.len(), 1);
        assert_eq!(scene.objects().await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_says_what_it_is() {
    let archive = ArchiveConfig {
        archive_lock_mode: Some(LockMode::Governance),
        archive_lock_days: Some(10),
        ..ArchiveConfig::default()
    };
    let scene = Scene::stored_as(archive).await;
    scene.logs(&[0, 1_500]).await;
    let (run, _) = scene.run(Then::Archive, Codec::Gzip).await;
    scene.archive(&run).await.unwrap();
    let unit = scene.units(run.new.id).await.remove(0);
    let name = unit.object.clone().unwrap();
    let expected =
        scene.hour.format("archive/acme/year=%Y/month=%m/day=%d/hour=%H/part-00001.ndjson.gz");
    assert_eq!(name, expected.to_string());
    let head = scene.store.head(&name.parse().unwrap()).await.unwrap().unwrap();
    let mut metadata = head.metadata.clone();
    let of_run = |name: &str| metadata.get(name).cloned().unwrap_or_default();
    assert_eq!(of_run("run"), run.new.id.to_string());
    assert_eq!(of_run("unit"), unit.id.to_string());
    assert_eq!(of_run("policy"), scene.policy.to_string());
    for hash in ["plain-sha256", "packed-sha256", "merkle-root"] {
        assert_eq!(of_run(hash).len(), 64, "{hash}");
    }
    for own in ["run", "unit", "policy", "plain-sha256", "packed-sha256", "merkle-root"] {
        metadata.remove(own);
    }
    for time in ["recorded-from", "recorded-to"] {
        assert!(metadata.remove(time).unwrap().ends_with('Z'));
    }
    let plain = metadata.remove("plain-bytes").unwrap();
    assert!(plain.parse::<u64>().unwrap() > 400);
    let rest: Vec<String> =
        metadata.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        rest,
        [
            "codec: gz",
            "correlation-id: c-1",
            "events: 2",
            "policy-version: 3",
            "retention-class: 90d",
            "revisions: 0",
            "tenant: acme",
        ]
    );
    let lock = head.lock.unwrap();
    assert_eq!(lock.mode, LockMode::Governance);
    let mut connection = scene.database.pool().acquire().await.unwrap();
    let object = audit::store::archived_object(&mut connection, &acme(), &name).await.unwrap();
    let object = object.unwrap();
    let near = (object.locked_until.unwrap() - lock.until).abs() < TimeDelta::seconds(1);
    assert!(near && object.events == 2);
    assert!(object.expires_at.unwrap() > object.archived_at + TimeDelta::days(7 * 365));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_rows_become_the_next_part_and_nothing_is_archived_twice() {
    let scene = Scene::new().await;
    let mut ids = scene.logs(&[0, 10]).await;
    let (run, _) = scene.run(Then::Archive, Codec::Zstd).await;
    // Between plan and work: the next run's.
    ids.extend(scene.logs(&[5, 20]).await);
    scene.archive(&run).await.unwrap();
    let ended = scene.state(run.new.id).await;
    assert_eq!(ended.state, RunState::Done);
    assert!(ended.counters.adds_up(Then::Archive), "{:?}", ended.counters);
    assert_eq!(ended.counters.archived.events, 2);
    assert_eq!(scene.outbox("audit-cleanup").await.len(), 0, "archive only");
    let told = scene.outbox("audit-retention").await;
    let told: Vec<_> = told.iter().map(|message| message["body"]["target"].clone()).collect();
    assert_eq!(told, [0, 1]);

    let (second, _) = scene.run(Then::Archive, Codec::Zstd).await;
    scene.archive(&second).await.unwrap();
    assert_eq!(scene.state(second.new.id).await.counters.archived.events, 2);
    let objects = scene.objects().await;
    assert_eq!(objects.len(), 2);
    assert!(objects[1].ends_with("part-00002.ndjson.zst"));
    scene.holds(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_messages_for_a_unit_at_once_are_one_object() {
    let scene = Scene::new().await;
    let ids = scene.logs(&(0..200).collect::<Vec<i64>>()).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Lz4).await;
    let unit = scene.units(run.new.id).await[0].id;
    let both = futures_util::future::join_all((0..6).map(|_| scene.archive_unit(&run, unit))).await;
    let done = both.iter().filter(|outcome| outcome.is_ok()).count();
    let waiting = both.iter().all(|o| matches!(o, Ok(()) | Err(Failure::Snooze(_))));
    assert!(done >= 1 && waiting, "{both:?}");
    scene.archive_unit(&run, unit).await.unwrap();
    assert_eq!(scene.outbox("audit-cleanup").await.len(), 1);
    scene.holds(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_which_nothing_is_left_is_empty() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    for id in ids {
        scene.erase(id).await;
    }
    scene.archive(&run).await.unwrap();
    let run = scene.state(run.new.id).await;
    assert_eq!((run.state, run.counters.gone.events), (RunState::Done, 2));
    assert!(run.counters.adds_up(Then::ArchiveAndDelete));
    assert_eq!(scene.objects().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_before_the_manifest_is_in_no_object() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2, 3]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    // The object is complete; it is about to be read back.
    let (database, erased) = (scene.database.clone(), ids[1]);
    let first = Box::pin(async move { super::scene::erase(&database, erased).await });
    scene.store.next(Call::Read, Trick::First(first));
    scene.archive(&run).await.unwrap();
    scene.holds(&[ids[0], ids[2]]).await;
    let run = scene.state(run.new.id).await;
    assert_eq!((run.counters.archived.events, run.counters.gone.events), (2, 1));
    assert_eq!(scene.objects().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_object_under_the_name_stays_and_the_unit_takes_the_next() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    // After a restore of the database the store knows of parts that the database does not.
    for part in ["part-00001.ndjson.zst", "part-00009.ndjson.gz"] {
        let name = scene.hour.format("archive/acme/year=%Y/month=%m/day=%d/hour=%H/").to_string();
        let key = format!("{name}{part}").parse().unwrap();
        scene.store.put(&key, b"theirs".to_vec(), Write::IfAbsent).await.unwrap();
    }
    scene.archive(&run).await.unwrap();
    let unit = scene.units(run.new.id).await.remove(0);
    assert_eq!((unit.part, unit.state), (Some(10), UnitState::Sealed));
    let mut objects = scene.objects().await;
    assert_eq!(objects.len(), 3);
    let ours = objects.remove(1);
    let theirs = scene.store.get(&objects[0].parse().unwrap(), 100).await.unwrap().unwrap();
    assert!(theirs == b"theirs" || ours.ends_with("part-00009.ndjson.gz"));
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_no_archive_holds_fails_its_unit_and_says_why() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    sqlx::query("UPDATE logs SET leaf_salt = '\\x01' WHERE id = $1")
        .bind(ids[0].0)
        .execute(scene.owner().pool())
        .await
        .unwrap();
    let failure = scene.archive(&run).await.unwrap_err();
    let Failure::Reject(reason) = failure else { panic!("{failure:?}") };
    assert!(reason.message.contains("a salt of 1 bytes"), "{reason:?}");
    assert_eq!(reason.code.code, "archive-unit-failed");
    let run = scene.state(run.new.id).await;
    assert_eq!((run.state, run.counters.failed.events), (RunState::Failed, 2));
    assert!(run.failure.unwrap().contains("a salt of 1 bytes"));
    assert!(run.counters.adds_up(Then::ArchiveAndDelete));
    // Redriven: it is over.
    scene.archive(&scene.state(run.new.id).await).await.unwrap();
    assert_eq!(scene.objects().await.len(), 0);
}
