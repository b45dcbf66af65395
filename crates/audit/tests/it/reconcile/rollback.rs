//! PostgreSQL restored to a point before an archive run and its deletions: found from what was published,
//! taken forward again, and rows that came back deleted again only where that is asked for and proved.

use audit::lifecycle::{RunState, UnitState};
use audit::reconcile::{ChainState, Depth, FindingKind, Findings, ReconcileError, Removed};
use audit::store::holds;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use serde_json::json;

use super::scene::{author, dies_after, mend, of, restore, snapshot, window};
use crate::archive::scene::acme;
use crate::cleanup::scene::{Scene, ids};
use crate::retention::hold;

const TOMBSTONES: &str = "SELECT count(*) FROM tombstones";
const DOCUMENTS: &str = "SELECT count(*) FROM chain_documents";
const MENDED_ENTRIES: &str = "SELECT count(*) FROM logs WHERE action = 'flotilla.chain.mended'";
const BURIED: &str = "SELECT count(*) FROM tombstones WHERE reason LIKE 'deletion receipt %'";

/// A first run that is over, and logs of a second one that is not begun; then a restore to that point
/// after the second one was archived, deleted and published.
async fn rolled_back() -> (Scene, Vec<audit::model::NewLog>) {
    let scene = Scene::new().await;
    scene.logs([1, 2]).await;
    let first = scene.sealed().await;
    scene.clean(&first).await.unwrap();
    scene.audited().await;
    let logs = scene.logs([10, 11, 12, 13, 14]).await;
    snapshot(&scene.archive.owner()).await;
    let second = scene.sealed().await;
    scene.clean(&second).await.unwrap();
    scene.audited().await;
    assert_eq!((scene.stored().await.len(), scene.found(&logs).await), (0, 0));
    restore(&scene.archive.owner()).await;
    assert_eq!(scene.stored().await, ids(&logs), "they are back");
    (scene, logs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_found_from_the_published_chain_and_mended() {
    let (scene, logs) = rolled_back().await;
    let reconciler = of(&scene);
    let report = reconciler.look(&acme(), window(&scene), Depth::Tail).await.unwrap();
    let chain = report.chain.unwrap();
    // Key, manifest, receipt; then manifest and receipt.
    assert_eq!((chain.state, chain.database, chain.published), (ChainState::RolledBack, 3, 5));
    assert_eq!(chain.head, 5);
    assert_eq!(report.findings.found(FindingKind::ChainRolledBack), 1);
    let shown = &report.findings.shown[0];
    assert!(shown.detail.contains("chain rolled back from 5 to 3"), "{shown:?}");
    assert_eq!(report.findings.found(FindingKind::NotSearchable), 5, "search was not restored");
    assert_eq!(scene.count(DOCUMENTS).await, 3, "looking changes nothing");

    let mended = mend(&reconciler, &acme()).await.unwrap().unwrap();
    assert_eq!((mended.from, mended.to, mended.receipts), (3, 5, 1));
    assert_eq!((mended.indexed, mended.marked, mended.buried), (1, 5, 5));
    assert_eq!(scene.count(TOMBSTONES).await, 2 + 5);
    assert_eq!(scene.count("SELECT count(*) FROM archive_objects").await, 2);
    assert_eq!(scene.stored().await, ids(&logs), "nothing is deleted by that");
    assert_eq!(scene.count(MENDED_ENTRIES).await, 2, "one for the tenant, one for `system`");
    scene.audited().await;

    let mut findings = Findings::default();
    let whole = reconciler.standing(&acme(), Depth::Whole, &mut findings).await.unwrap();
    assert_eq!((whole.state, whole.database, whole.published), (ChainState::Whole, 5, 5));
    let hours = reconciler.hours(&acme(), window(&scene), true, &mut findings).await.unwrap();
    assert_eq!((hours[0].stored, hours[0].searchable, hours[0].deleted), (0, 0, 5));
    assert_eq!(hours[0].archived, 7);
    assert_eq!(findings.found(FindingKind::StoredAndDeleted), 5);
    assert_eq!(findings.left(), 5, "{findings:?}");
    assert_eq!(scene.found(&logs).await, 0, "what is deleted is not found again");
    assert_eq!(mend(&reconciler, &acme()).await.unwrap(), None, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_back_go_by_their_receipt_and_the_chain_goes_on() {
    let (scene, logs) = rolled_back().await;
    let reconciler = of(&scene);
    mend(&reconciler, &acme()).await.unwrap().unwrap();
    let mut findings = Findings::default();
    let removed = reconciler.remove_proved(&acme(), &author(), &mut findings).await.unwrap();
    assert_eq!(removed, Removed { deleted: 5, held: 0, differing: 0 });
    assert!(findings.is_clean(), "{findings:?}");
    assert_eq!(scene.stored().await.len(), 0);
    assert_eq!(scene.count("SELECT count(*) FROM archived_logs").await, 0);
    let entries = "SELECT count(*) FROM logs WHERE action = 'flotilla.receipt.applied'";
    assert_eq!(scene.count(entries).await, 2);
    let again = reconciler.remove_proved(&acme(), &author(), &mut findings).await.unwrap();
    assert_eq!(again, Removed::default());

    // A message that comes again brings nothing back.
    scene.archive.insert(logs).await;
    assert_eq!(scene.stored().await.len(), 0);
    let later = scene.logs([20, 21]).await;
    let run = scene.sealed().await;
    scene.clean(&run).await.unwrap();
    scene.ended(&run, RunState::Done).await;
    assert_eq!((scene.stored().await.len(), scene.found(&later).await), (0, 0));
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_another_and_one_that_is_held_stay() {
    let (scene, logs) = rolled_back().await;
    let reconciler = of(&scene);
    mend(&reconciler, &acme()).await.unwrap().unwrap();
    let owner = scene.archive.owner();
    sqlx::query("UPDATE logs SET leaf_salt = sha256('other') WHERE id = $1")
        .bind(logs[0].key.id.0)
        .execute(owner.pool())
        .await
        .unwrap();
    let mut findings = Findings::default();
    let mut connection = owner.pool().acquire().await.unwrap();
    let placed = hold(1, &json!({"actions": ["a.*"]}));
    let id = placed.id;
    holds::place(&mut connection, &acme(), placed).await.unwrap();
    let held = reconciler.remove_proved(&acme(), &author(), &mut findings).await.unwrap();
    assert_eq!(held, Removed { deleted: 0, held: 4, differing: 1 });
    assert_eq!(scene.stored().await, ids(&logs));

    sqlx::query(
        "UPDATE holds SET released_at = now(), released_by = '{}', release_reason = 'over'
          WHERE id = $1",
    )
    .bind(id)
    .execute(owner.pool())
    .await
    .unwrap();
    let gone = reconciler.remove_proved(&acme(), &author(), &mut findings).await.unwrap();
    assert_eq!(gone, Removed { deleted: 4, held: 0, differing: 1 });
    assert_eq!(scene.stored().await, ids(&logs[..1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_deleted_ids_that_was_changed_deletes_nothing() {
    let (scene, logs) = rolled_back().await;
    let reconciler = of(&scene);
    let lists = scene.archive.dir.path().join("proof/acme/deleted");
    for list in std::fs::read_dir(lists).unwrap() {
        let path = list.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let mut findings = Findings::default();
    let watch = |_: u64, _: u64| ();
    let mended = reconciler.mend(&acme(), &author(), &mut findings, &watch).await.unwrap();
    assert_eq!(mended.unwrap().buried, 0);
    assert_eq!(findings.found(FindingKind::ReceiptUnproved), 1);
    let removed = reconciler.remove_proved(&acme(), &author(), &mut findings).await.unwrap();
    assert_eq!((removed, scene.stored().await), (Removed::default(), ids(&logs)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mend_that_dies_anywhere_is_gone_on_with() {
    let (scene, logs) = rolled_back().await;
    let reconciler = of(&scene);
    let (mut polls, mut deaths) = (1, 0);
    while dies_after(polls, mend(&reconciler, &acme())).await.is_none_or(|done| {
        done.unwrap();
        false
    }) {
        (polls, deaths) = (polls + 1 + polls / 8, deaths + 1);
    }
    assert!(deaths > 3, "{deaths}");
    let mut findings = Findings::default();
    let (mut polls, mut deaths) = (1, 0);
    while dies_after(polls, reconciler.remove_proved(&acme(), &author(), &mut findings))
        .await
        .is_none_or(|done| {
            done.unwrap();
            false
        })
    {
        (polls, deaths) = (polls + 1 + polls / 8, deaths + 1);
    }
    assert!(deaths > 3, "{deaths}");
    assert_eq!((scene.stored().await.len(), scene.found(&logs).await), (0, 0));
    assert_eq!((scene.count(DOCUMENTS).await, scene.count(BURIED).await), (5, 5));
    assert_eq!(scene.count("SELECT count(*) FROM archive_objects").await, 2);
    assert_eq!(scene.count(MENDED_ENTRIES).await, 2, "told once");
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_in_the_middle_of_its_work_is_over_and_its_rows_are_the_next_runs() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let (run, _) = scene.archive.run(Then::ArchiveAndDelete, Codec::Zstd).await;
    snapshot(&scene.archive.owner()).await;
    scene.archive.archive(&run).await.unwrap();
    scene.audited().await;
    restore(&scene.archive.owner()).await;
    let reconciler = of(&scene);
    let mended = mend(&reconciler, &acme()).await.unwrap().unwrap();
    assert_eq!((mended.from, mended.to, mended.indexed, mended.marked), (0, 2, 1, 3));
    let units = scene.archive.units(run.new.id).await;
    assert_eq!(units[0].state, UnitState::Failed);
    assert_eq!(scene.archive.state(run.new.id).await.state, RunState::Failed);
    // The message of before the restore finds nothing to do, and the object stays one.
    scene.archive.archive(&run).await.unwrap();
    assert_eq!(scene.archive.objects().await.len(), 1);
    assert_eq!(scene.count(DOCUMENTS).await, 2);
    assert_eq!(scene.stored().await, ids(&logs), "archived, marked, and not deleted yet");
    scene.audited().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_went_on_after_the_restore_is_two_and_nothing_is_touched() {
    let (scene, logs) = rolled_back().await;
    // Somebody let the workers run: the run appends where the published chain has another document.
    let (run, _) = scene.archive.run(Then::Archive, Codec::Lz4).await;
    scene.archive.archive(&run).await.unwrap();
    let reconciler = of(&scene);
    let mut findings = Findings::default();
    let standing = reconciler.standing(&acme(), Depth::Tail, &mut findings).await.unwrap();
    assert_eq!(standing.state, ChainState::Broken);
    assert_eq!(findings.found(FindingKind::ChainBroken), 1);
    let detail = &findings.shown[0].detail;
    assert!(detail.contains("document 4 of acme is one in PostgreSQL and another"), "{detail}");
    let before = (scene.count(DOCUMENTS).await, scene.count(TOMBSTONES).await);
    let refused = mend(&reconciler, &acme()).await.unwrap_err();
    assert!(matches!(refused, ReconcileError::Broken(_)), "{refused}");
    assert_eq!((scene.count(DOCUMENTS).await, scene.count(TOMBSTONES).await), before);
    assert_eq!(scene.stored().await, ids(&logs));
}
