//! What an archive comes to as a whole: verified, unproven at its end, or not as it was; under old keys
//! and new ones, and whatever byte of it is changed.

use evidence::verify::{Code, Options, Verdict, verify};
use evidence::{Codec, Signer};

use crate::scene::{Scene, archive, event, signer, without};

#[tokio::test]
async fn an_archive_that_nobody_touched_is_verified() {
    let scene = archive().await;
    let report = scene.verify(&[scene.key()]);
    let acme = &report.tenants[0];
    assert!(acme.findings.is_empty(), "{:#?}", acme.findings);
    assert_eq!((report.verdict, acme.complete_to, acme.heads), (Verdict::Verified, 10, 2));
    assert_eq!(acme.proven.as_ref().unwrap().documents, 10);
    let (totals, documents) = (acme.totals, acme.documents);
    assert_eq!((totals.objects, totals.deleted_objects, totals.lines), (4, 2, 48));
    assert_eq!((documents.keys, documents.manifests, documents.receipts), (1, 6, 3));
}

#[tokio::test]
async fn without_a_head_the_tail_is_unproven() {
    let clean = archive().await;
    let mut scene = clean.clone();
    scene.files.retain(|name, _| !name.contains("/heads/"));
    let report = scene.verify(&[scene.key()]);
    assert_eq!(report.verdict, Verdict::TailUnproven);
    // Nor is it seen that the last document is gone, with its object.
    let (document, object) = (scene.document(10), scene.object(10));
    scene.files.retain(|name, _| *name != document && *name != object);
    let report = scene.verify(&[scene.key()]);
    assert_eq!((report.verdict, report.tenants[0].complete_to), (Verdict::TailUnproven, 9));
}

#[tokio::test]
async fn a_head_that_went_with_the_tail_is_missed_by_whoever_knows_its_time() {
    let mut scene = archive().await;
    let newest = scene.files.keys().rfind(|name| name.contains("/heads/")).unwrap().clone();
    let at = scene.now;
    let gone = [newest, scene.document(10), scene.object(10)];
    scene.files.retain(|name, _| !gone.contains(name));
    let since = |head_since| {
        let options = Options { head_since, ..Options::default() };
        verify(&scene.files, &[scene.key()], &options, |_| ()).unwrap()
    };
    assert_eq!(since(None).verdict, Verdict::Verified);
    assert_eq!(since(None).tenants[0].proven.as_ref().unwrap().documents, 5);
    assert_eq!(since(Some(at)).verdict, Verdict::TailUnproven);
}

#[tokio::test]
async fn either_key_of_a_rotation_verifies_the_whole_chain() {
    let mut scene = archive().await;
    scene.rotate(2).await;
    scene.archive(20, Codec::Zstd, &scene.events(500, 5)).await;
    scene.rotate(3).await;
    scene.archive(21, Codec::Zstd, &scene.events(600, 5)).await;
    scene.head().await;
    for seed in [1, 2, 3] {
        let report = scene.verify(std::slice::from_ref(signer(seed).key()));
        assert_eq!(report.verdict, Verdict::Verified, "{seed} {:#?}", report.tenants[0].findings);
    }
    let stranger = scene.verify(std::slice::from_ref(signer(4).key()));
    let findings = &stranger.tenants[0].findings;
    assert!(findings.iter().any(|finding| finding.code == Code::KeyRecordForged));
    assert_eq!(stranger.tenants[0].documents.manifests, 0);
}

#[tokio::test]
async fn an_object_that_was_written_again_twice_is_held_against_the_first() {
    let mut scene = archive().await;
    let lines = scene.events(400, 10);
    let (left, once) = without(&lines, 10, 10, &[2]);
    let eleven = scene.archive_instead(30, Codec::Zstd, &left, Some(once)).await;
    scene.delete_object(10).await;
    let (left, twice) = without(&lines, eleven, 10, &[2, 9]);
    scene.archive_instead(31, Codec::Zstd, &left, Some(twice)).await;
    scene.delete_object(eleven).await;
    scene.head().await;
    let report = scene.verify(&[scene.key()]);
    assert_eq!(report.verdict, Verdict::Verified, "{:#?}", report.tenants[0].findings);

    let (left, forgets) = without(&lines, eleven, 10, &[9]);
    scene.archive_instead(32, Codec::Zstd, &left, Some(forgets)).await;
    let report = scene.verify(&[scene.key()]);
    assert_eq!(report.tenants[0].findings[0].code, Code::SupersedesWrong);
}

#[tokio::test]
async fn tenants_do_not_spoil_one_another() {
    let (mut acme, mut other) = (archive().await, Scene::new("other", 1).await);
    other.archive(1, Codec::Gzip, &[event("other", 1)]).await;
    other.head().await;
    other.files.remove(&other.object(2));
    acme.files.extend(other.files);
    let report = acme.verify(&[acme.key()]);
    let verdicts: Vec<_> = report.tenants.iter().map(|report| report.verdict).collect();
    assert_eq!(verdicts, [Verdict::Verified, Verdict::Findings]);
    assert_eq!(report.verdict, Verdict::Findings);
}

#[tokio::test]
async fn any_changed_byte_of_any_file_is_found() {
    let clean = archive().await;
    let keys = [clean.key()];
    for name in clean.files.keys() {
        let size = clean.files[name].len();
        for at in (0..size).step_by(size / 7 + 1) {
            let mut scene = clean.clone();
            scene.files.get_mut(name).unwrap()[at] ^= 0x04;
            assert_eq!(scene.verify(&keys).verdict, Verdict::Findings, "{name} at {at}");
        }
    }
}
