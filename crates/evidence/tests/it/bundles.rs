//! Evidence for single events: archived, archived and deleted, deleted with its object, and everything
//! that somebody could change in it.

use std::path::Path;

use evidence::bundle::{EVENT, Files, HEAD, INDEX, NoEvidence, PAGE, assemble, check, is_bundle};
use evidence::verify::Verdict;
use evidence::{Codec, Signer};

use crate::scene::{Scene, archive, event_id, signer};

fn bundle(scene: &Scene, number: u64) -> Files {
    assemble(&scene.files, &scene.tenant, event_id(number)).unwrap()
}

#[tokio::test]
async fn an_archived_event_is_proved_with_the_public_key_alone() {
    let scene = archive().await;
    let files = bundle(&scene, 405);
    assert!(is_bundle(&files).unwrap() && !is_bundle(&scene.files).unwrap());
    let line = scene.events(405, 1)[0].1.clone() + "\n";
    assert_eq!(files[EVENT], line.as_bytes());
    let report = check(&files, &[scene.key()]).unwrap();
    assert_eq!((report.verdict, &report.doubts[..]), (Verdict::Verified, &[][..]));
    let said = report.proved.join("\n");
    assert!(said.contains("line 6 of 10 of the object that manifest 10 describes"), "{said}");
    assert!(said.contains("a signed head over its 10 documents"), "{said}");
    let page = String::from_utf8(files[PAGE].clone()).unwrap();
    assert!(page.contains("WHAT IS NOT PROVED") && page.contains("manifest 10 states"), "{page}");
}

#[tokio::test]
async fn an_event_that_outlived_its_deletion_in_the_archive_has_both_proofs() {
    let scene = archive().await;
    // Number 0 was deleted from the rows, and is in the object that was written again.
    let report = check(&bundle(&scene, 0), &[scene.key()]).unwrap();
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let said = report.proved.join("\n");
    assert!(said.contains("manifest 7 describes"), "{said}");
    assert!(said.contains("deleted from the database and from search"), "{said}");
    assert!(said.contains("one of the 10 events of receipt 4, asked for by scheduler"), "{said}");
}

#[tokio::test]
async fn an_erased_event_is_proved_to_be_deleted() {
    let scene = archive().await;
    let files = bundle(&scene, 3);
    assert!(!files.contains_key(EVENT));
    let report = check(&files, &[scene.key()]).unwrap();
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    let said = report.proved.join("\n");
    assert!(said.contains("events of receipt 4") && said.contains("RDS snapshots"), "{said}");
    assert!(said.contains("part-00001.ndjson.gz was deleted"), "{said}");
}

#[tokio::test]
async fn what_no_head_counts_yet_is_said_to_be_unproven() {
    let mut scene = archive().await;
    scene.archive(40, Codec::Gzip, &scene.events(900, 3)).await;
    let report = check(&bundle(&scene, 901), &[scene.key()]).unwrap();
    assert_eq!((report.verdict, report.doubts.len()), (Verdict::TailUnproven, 0));
    scene.files.retain(|name, _| !name.contains("/heads/"));
    let report = check(&bundle(&scene, 405), &[scene.key()]).unwrap();
    assert_eq!((report.verdict, report.doubts.len()), (Verdict::TailUnproven, 0));
}

/// What an auditor can ask for, case by case: what is proved, and that nothing else is said.
#[tokio::test]
async fn each_fate_of_an_event_has_its_evidence_or_a_reason() {
    let mut scene = archive().await;
    let alone = scene.events(500, 3);
    assert_eq!(scene.delete_unarchived(&alone, &[500, 501, 502]).await, 11);
    assert_eq!(scene.delete_rows(9).await, 12);
    assert_eq!(scene.delete_object(9).await, 13);
    scene.head().await;
    let unchanged = "were archived unchanged";
    let deleted = "was deleted from the database and from search";
    let (unarchived, object) = ("deleted without an archive", "The archive object");
    let all = [unchanged, deleted, unarchived, object];
    for (fate, number, event, says) in [
        ("archived", 405, true, &[unchanged][..]),
        ("archived, and deleted from the rows", 0, true, &[unchanged, deleted, object][..]),
        ("deleted without an archive", 501, false, &[deleted, unarchived][..]),
        ("its object removed with a receipt", 304, false, &[deleted, object][..]),
        ("erased from the object, too", 3, false, &[deleted, object][..]),
    ] {
        let files = bundle(&scene, number);
        assert_eq!(files.contains_key(EVENT), event, "{fate}");
        let report = check(&files, &[scene.key()]).unwrap();
        assert_eq!(report.verdict, Verdict::Verified, "{fate}: {report:?}");
        let said = report.proved.join("\n");
        for part in all {
            assert_eq!(said.contains(part), says.contains(&part), "{fate}: {part}: {said}");
        }
        let page = String::from_utf8(files[PAGE].clone()).unwrap();
        assert_eq!(page.contains("Receipt"), says.contains(&deleted), "{fate}: {page}");
    }
    // Archived alone, and the object is past its term: there was no list, so there is no proof.
    let gone = assemble(&scene.files, &scene.tenant, event_id(104)).unwrap_err();
    assert!(matches!(gone, NoEvidence::Gone { receipt: 6, .. }), "{gone}");
    let unknown = assemble(&scene.files, &scene.tenant, event_id(77)).unwrap_err();
    assert!(matches!(unknown, NoEvidence::Unknown(..)), "{unknown}");
}

#[tokio::test]
async fn what_is_missing_from_the_archive_is_named_and_never_taken_for_nothing() {
    let mut scene = archive().await;
    scene.delete_unarchived(&scene.events(500, 1), &[500]).await;
    let is_list = |name: &&String| Path::new(name).extension().is_some_and(|end| end == "ids");
    let lists: Vec<String> = scene.files.keys().filter(is_list).cloned().collect();
    assert_eq!(lists.len(), 2);
    let object = scene.object(10);
    let (of_rows, alone) = (
        lists.iter().find(|name| name.contains("rows-of-2")),
        lists.iter().find(|name| name.contains("alone")),
    );
    for (file, number) in
        [(&object, 405), (of_rows.unwrap(), 3), (of_rows.unwrap(), 0), (alone.unwrap(), 500)]
    {
        let mut files = scene.files.clone();
        files.remove(file).unwrap();
        let missing = assemble(&files, &scene.tenant, event_id(number)).unwrap_err();
        assert!(matches!(&missing, NoEvidence::Missing(name) if name == file), "{missing}");
    }
    // Others are none the worse for it.
    scene.files.remove(&object);
    bundle(&scene, 205);
}

/// The list of an archive says that another event was deleted: whoever exports it proves nothing by it.
#[tokio::test]
async fn a_forged_entry_of_a_list_is_named_by_the_receipt_that_does_not_list_it() {
    let scene = archive().await;
    let ids = scene.sealed(4).receipt().unwrap().ids.clone().unwrap();
    let mut forged = scene.clone();
    let list = forged.files.get_mut(&ids.object).unwrap();
    // In the place of the last one, so that the list stays sorted.
    let at = list.len() - evidence::document::DELETED_ID_BYTES;
    list[at..at + 16].copy_from_slice(event_id(405).as_bytes());
    let report = check(&bundle(&forged, 3), &[scene.key()]).unwrap();
    assert_eq!(report.verdict, Verdict::Findings, "the list is not that of the receipt");
    assert_eq!(report.doubts[0].file, INDEX);
    assert!(report.doubts[0].detail.contains("receipt 4 does not list"), "{report:?}");
    // And an index that was made to name another event.
    let mut files = bundle(&scene, 3);
    let text = String::from_utf8(files[INDEX].clone()).unwrap();
    let other = text.replace(&event_id(3).to_string(), &event_id(4).to_string());
    files.insert(INDEX.to_owned(), other.into_bytes());
    let report = check(&files, &[scene.key()]).unwrap();
    assert_eq!(report.verdict, Verdict::Findings);
    assert!(report.doubts[0].detail.contains("receipt 4 does not list"), "{report:?}");
}

#[tokio::test]
async fn there_is_no_evidence_of_what_was_never_archived() {
    let scene = archive().await;
    let unknown = assemble(&scene.files, &scene.tenant, event_id(77)).unwrap_err();
    assert!(matches!(unknown, NoEvidence::Unknown(..)));
    let other = assemble(&scene.files, &"other".parse().unwrap(), event_id(405)).unwrap_err();
    assert!(matches!(other, NoEvidence::Unknown(..)));
}

#[tokio::test]
async fn evidence_under_an_old_key_is_checked_with_the_new_one() {
    let mut scene = archive().await;
    scene.rotate(2).await;
    scene.head().await;
    let files = bundle(&scene, 405);
    for seed in [1, 2] {
        let report = check(&files, std::slice::from_ref(signer(seed).key())).unwrap();
        assert_eq!(report.verdict, Verdict::Verified, "{seed}: {report:?}");
    }
    let stranger = check(&files, std::slice::from_ref(signer(3).key())).unwrap();
    assert_eq!((stranger.verdict, stranger.proved.len()), (Verdict::Findings, 0));
}

/// The page is no proof, and so it is the one file whose changes are not found.
#[tokio::test]
async fn any_change_of_the_evidence_is_found() {
    let scene = archive().await;
    for (first, number) in [(0, 0), (5, 3), (9, 405)] {
        let files = bundle(&scene, number);
        for name in files.keys().filter(|name| *name != PAGE) {
            // Every thirteenth byte; each event begins at another.
            for at in (first..files[name].len()).step_by(13) {
                let mut changed = files.clone();
                changed.get_mut(name).unwrap()[at] ^= 0x01;
                let found = check(&changed, &[scene.key()]);
                let same = name == INDEX && same_index(&files[INDEX], &changed[INDEX]);
                let fine = found.is_ok_and(|report| report.verdict == Verdict::Verified);
                assert!(!fine || same, "event {number}: {name} at {at}");
            }
        }
        let missing: Vec<String> = files.keys().filter(|name| *name != PAGE).cloned().collect();
        for name in missing {
            let mut fewer = files.clone();
            fewer.remove(&name);
            let found = check(&fewer, &[scene.key()]);
            assert!(found.is_err() || found.unwrap().verdict == Verdict::Findings, "{name}");
        }
    }
    assert!(bundle(&scene, 405).contains_key(HEAD));
}

/// A changed byte between two values of the index, e.g. of its indentation, changes nothing that is said.
fn same_index(one: &[u8], other: &[u8]) -> bool {
    let read = |bytes| serde_json::from_slice::<evidence::bundle::Evidence>(bytes).ok();
    read(one) == read(other)
}
