//! Events come out of the archive by range: only the blocks that may hold them are read, each is checked,
//! and pages put together are the whole.

use audit::archive::Reader;
use audit::archive::reader::{ArchivedLine, Position, ReadError, Wanted};
use chrono::TimeDelta;
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use uuid::Uuid;

use super::scene::{Scene, acme, v7};
use crate::scene::tenant;

fn wanted(scene: &Scene, from_millis: i64, to_millis: i64) -> Wanted {
    let at = |millis| scene.hour + TimeDelta::milliseconds(millis);
    Wanted { from: at(from_millis), to: at(to_millis), action: None, actor: None }
}

/// Two objects; the second has several blocks.
async fn archived(scene: &Scene) -> Vec<LogId> {
    let mut ids = scene.logs(&[0, 1, 2, 3]).await;
    let large = (0..24).map(|n| {
        let at = 3_600_000 + n * 1_000;
        scene.log(
            at,
            LogId(v7(scene.hour, at)),
            if n % 2 == 0 { "a.even" } else { "a.odd" },
            150_000,
        )
    });
    ids.extend(scene.insert(large.collect()).await);
    scene.revise(ids[1], "looked at").await;
    let (run, _) = scene.run(Then::Archive, Codec::Zstd).await;
    scene.archive(&run).await.unwrap();
    ids
}

fn ids(lines: &[ArchivedLine]) -> Vec<Uuid> {
    lines.iter().filter(|line| line.revision == 0).map(|line| line.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_is_found_with_its_revisions_and_by_its_tenant_alone() {
    let scene = Scene::new().await;
    let all = archived(&scene).await;
    let reader = Reader::new(&scene.database, scene.store.clone());
    let found = reader.find(&acme(), all[1].0).await.unwrap();
    assert_eq!(found.iter().map(|line| line.revision).collect::<Vec<_>>(), [0, 1]);
    assert!(String::from_utf8_lossy(&found[1].bytes).contains("looked at"));
    let found = reader.find(&acme(), all[20].0).await.unwrap();
    assert_eq!(ids(&found), [all[20].0]);
    assert_eq!(reader.find(&tenant("globex"), all[1].0).await.unwrap(), []);
    assert_eq!(reader.find(&acme(), v7(scene.hour, 2)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_put_together_are_the_whole_and_read_only_what_may_match() {
    let scene = Scene::new().await;
    let all: Vec<Uuid> = {
        let mut all: Vec<Uuid> = archived(&scene).await.iter().map(|id| id.0).collect();
        all.sort();
        all
    };
    let reader = Reader::new(&scene.database, scene.store.clone());
    let every = wanted(&scene, 0, 7_200_000);
    for limit in [1, 3, 1_000] {
        let (mut found, mut at) = (Vec::new(), Position::default());
        loop {
            let page = reader.search(&acme(), &every, &at, limit).await.unwrap();
            assert!(page.lines.len() <= limit);
            found.extend(page.lines);
            let Some(next) = page.next else { break };
            at = next;
        }
        let mut seen = ids(&found);
        seen.sort();
        assert_eq!(seen, all, "{limit}");
        assert_eq!(found.len(), all.len() + 1, "{limit}: and a revision");
    }
    // One second of the second object: one of its blocks, and that one whose revision came later.
    let second = wanted(&scene, 3_600_000 + 20_000, 3_600_000 + 21_000);
    let page = reader.search(&acme(), &second, &Position::default(), 10).await.unwrap();
    assert_eq!((page.lines.len(), page.blocks, page.next), (1, 2, None));
    let odd = Wanted { action: Some("a.odd".into()), ..every.clone() };
    let page = reader.search(&acme(), &odd, &Position::default(), 100).await.unwrap();
    assert_eq!(page.lines.len(), 12);
    let some = Wanted { action: Some("a.*".into()), actor: Some("u1".into()), ..every.clone() };
    let page = reader.search(&acme(), &some, &Position::default(), 100).await.unwrap();
    assert_eq!(ids(&page.lines).len(), all.len());
    let nobody = Wanted { actor: Some("u2".into()), ..every.clone() };
    let page = reader.search(&acme(), &nobody, &Position::default(), 100).await.unwrap();
    assert_eq!((page.lines.len(), page.next), (0, None));
    let foreign = reader.search(&tenant("globex"), &every, &Position::default(), 10).await;
    assert_eq!(foreign.unwrap().lines, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_the_one_that_was_signed_is_an_error() {
    let scene = Scene::new().await;
    let all = archived(&scene).await;
    let reader = Reader::new(&scene.database, scene.store.clone());
    let object = scene.objects().await.remove(0);
    let path = scene.dir.path().join(&object);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = reader.find(&acme(), all[0].0).await.unwrap_err();
    assert!(matches!(&error, ReadError::Damaged { object: of, .. } if *of == object), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = reader.find(&acme(), all[0].0).await.unwrap_err();
    assert!(error.to_string().contains("it is not there"), "{error}");
}
