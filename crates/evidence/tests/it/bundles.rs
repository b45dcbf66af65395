//! Evidence for single events: archived, archived and deleted, deleted with its object, and everything
//! that somebody could change in it.

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
