//! A store that fails, loses answers or stores other bytes: no attempt is used, nothing is counted that
//! was not read back, and nothing is left behind.

use audit::lifecycle::{RunState, UnitState};
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use queue_core::{ErrorClass, Failure};
use sinks::objects::SinkErrorKind;

use super::double::{Call, Trick};
use super::scene::{Scene, v7};

fn infrastructure(outcome: Result<(), Failure>) {
    match outcome {
        Err(Failure::Retry(error) | Failure::RetryAfter(error, _)) => {
            assert_eq!(error.class, ErrorClass::Infrastructure, "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_trouble_costs_no_attempt_and_the_unit_goes_on() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2, 3]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    for (call, trick) in [
        (Call::Put, Trick::Fail(SinkErrorKind::Unavailable)),
        (Call::Put, Trick::Fail(SinkErrorKind::Throttled)),
        // It is there, and nobody knows.
        (Call::Put, Trick::Lose),
        (Call::Read, Trick::Fail(SinkErrorKind::Timeout)),
    ] {
        scene.store.next(call, trick);
        infrastructure(scene.archive(&run).await);
    }
    // What was there is adopted, then read back once more: the second time it is away.
    scene.store.next(Call::Read, Trick::First(Box::pin(async {})));
    scene.store.next(Call::Read, Trick::Fail(SinkErrorKind::Unavailable));
    infrastructure(scene.archive(&run).await);
    let unit = scene.units(run.new.id).await.remove(0);
    assert_eq!(unit.state, UnitState::Written);
    scene.archive(&run).await.unwrap();
    assert!(scene.store.met_all());
    assert_eq!(scene.objects().await.len(), 1);
    assert_eq!(scene.state(run.new.id).await.counters.verified.events, 3);
    scene.holds(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_what_was_written_is_written_again() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2, 3]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    scene.store.next(Call::Put, Trick::Flip);
    scene.archive(&run).await.unwrap();
    assert_eq!(scene.objects().await.len(), 1);
    assert_eq!(scene.units(run.new.id).await.remove(0).part, Some(2), "under a name of its own");
    scene.holds(&ids).await;
}

/// A worker that sleeps while it reads back finds another one at its unit: what is in the store may be
/// what that one relies on.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_lost_its_claim_removes_nothing() {
    let scene = Scene::new().await;
    scene.logs(&[1, 2, 3]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    let owner = scene.owner();
    let another = Box::pin(async move {
        let taken = "UPDATE archive_units SET claimed_by = gen_random_uuid(),
                            claimed_until = now() + interval '1 hour'";
        sqlx::query(taken).execute(owner.pool()).await.unwrap();
    });
    scene.store.next(Call::Put, Trick::Flip);
    scene.store.next(Call::Read, Trick::First(another));
    let outcome = scene.archive(&run).await;
    assert!(matches!(&outcome, Err(Failure::Snooze(_))), "{outcome:?}");
    assert!(scene.store.met_all());
    assert_eq!(scene.objects().await.len(), 1);
}

/// The store is away just when an object is to be discarded: the unit goes on under another name, and a
/// later sweep finds the object. A name is watched for a day, for a write that arrives late.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_discarded_at_once_is_swept() {
    let scene = Scene::new().await;
    let ids = scene.logs(&[1, 2, 3]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    scene.store.next(Call::Put, Trick::Flip);
    scene.store.next(Call::Delete, Trick::Fail(SinkErrorKind::Unavailable));
    scene.archive(&run).await.unwrap();
    assert!(scene.store.met_all());
    assert_eq!(scene.objects().await.len(), 2);
    assert_eq!(scene.worker.sweep().await.unwrap(), 1);
    assert_eq!(scene.objects().await.len(), 1);
    let watched = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM archive_discards");
        count.fetch_one(scene.owner().pool()).await.unwrap()
    };
    assert_eq!((scene.worker.sweep().await.unwrap(), watched().await), (0, 1));
    let earlier = "UPDATE archive_discards
                      SET since = now() - interval '25 hours', look_at = now()";
    sqlx::query(earlier).execute(scene.owner().pool()).await.unwrap();
    assert_eq!((scene.worker.sweep().await.unwrap(), watched().await), (0, 0));
    scene.holds(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_stores_what_it_is_given_fails_the_unit() {
    let scene = Scene::new().await;
    scene.logs(&[1]).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    for _ in 0..3 {
        scene.store.next(Call::Put, Trick::Flip);
    }
    let failure = scene.archive(&run).await.unwrap_err();
    assert!(matches!(&failure, Failure::Reject(_)), "{failure:?}");
    let run = scene.state(run.new.id).await;
    assert_eq!(run.state, RunState::Failed);
    assert!(run.counters.adds_up(Then::ArchiveAndDelete), "{:?}", run.counters);
    assert_eq!(scene.objects().await.len(), 0, "what was wrong is gone");
}

/// 40 MiB that do not compress: three parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_goes_on_after_the_parts_that_are_there() {
    let scene = Scene::new().await;
    let logs = (0..170).map(|at| {
        let id = LogId(v7(scene.hour, at));
        scene.log(at, id, "a.b", 200_000)
    });
    let ids = scene.insert(logs.collect()).await;
    let (run, _) = scene.run(Then::ArchiveAndDelete, Codec::Lz4).await;
    // The first part is stored; the second one's answer is lost, then it is not taken.
    scene.store.next(Call::Part, Trick::First(Box::pin(async {})));
    scene.store.next(Call::Part, Trick::Lose);
    infrastructure(scene.archive(&run).await);
    let unit = scene.units(run.new.id).await.remove(0);
    let noted = unit.upload.unwrap();
    assert_eq!(noted["checkpoint"]["parts"].as_array().unwrap().len(), 1, "{noted}");
    scene.store.next(Call::Complete, Trick::Lose);
    infrastructure(scene.archive(&run).await);
    let again = scene.units(run.new.id).await.remove(0).upload.unwrap();
    assert_eq!(again["checkpoint"]["upload"], noted["checkpoint"]["upload"], "the same upload");
    scene.archive(&run).await.unwrap();
    assert_eq!(scene.objects().await.len(), 1);
    scene.holds(&ids).await;
}
