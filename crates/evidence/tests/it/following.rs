//! A chain that is followed from an end that is known: every document as it was published is taken, and
//! nothing else is.

use evidence::document::{DocumentName, parse_document_name};
use evidence::verify::{Begin, Code, Follower};
use evidence::{Codec, Sealed, Signer as _};

use crate::scene::{Files, Scene, signer};

/// A key, two manifests, a rotation, a receipt, a manifest; and heads.
async fn scene() -> Scene {
    let mut scene = Scene::new("acme", 1).await;
    let lines = scene.events(0, 20);
    let first = scene.archive(1, Codec::Zstd, &lines).await;
    scene.archive(2, Codec::Gzip, &scene.events(20, 5)).await;
    scene.rotate(2).await;
    scene.delete_rows(first).await;
    scene.archive(3, Codec::Lz4, &scene.events(30, 5)).await;
    scene
}

fn name(scene: &Scene, sequence: u64) -> DocumentName {
    let name = scene.document(sequence);
    parse_document_name(name.rsplit('/').next().unwrap()).unwrap()
}

/// From the beginning, trusting the first key.
fn follower(scene: &Scene) -> Follower {
    let records: Vec<Sealed> = [1, 4].map(|sequence| scene.sealed(sequence)).into();
    Follower::new(&scene.tenant, &[signer(1).key().clone()], &records, Begin::default())
}

/// Takes documents up to that number.
fn taken(scene: &Scene, to: u64) -> Follower {
    let mut follower = follower(scene);
    for sequence in 1..=to {
        let file = &scene.files[&scene.document(sequence)];
        follower.next(name(scene, sequence), file).unwrap();
    }
    follower
}

#[tokio::test]
async fn a_published_chain_is_followed_over_a_rotation_and_heads_commit_to_it() {
    let mut scene = scene().await;
    let head = scene.head().await;
    let follower = taken(&scene, 6);
    assert_eq!(follower.end(), scene.end);
    assert_eq!(follower.signer(), Some(scene.key().id().as_str()));
    let read = follower.head(&head, &scene.files[&head]).unwrap();
    assert!(follower.fits(&read));
    assert!(!taken(&scene, 5).fits(&read), "of another size");
    let mut other = read.clone();
    other.root = evidence::Hash::of("other");
    assert!(!follower.fits(&other));
    // From the middle as from the beginning.
    let middle = taken(&scene, 3);
    let begin = Begin {
        end: middle.end(),
        signer: middle.signer().map(str::to_owned),
        tree: middle.tree().clone(),
    };
    let records = [scene.sealed(4)];
    let keys = [signer(1).key().clone()];
    let mut later = Follower::new(&scene.tenant, &keys, &records, begin);
    for sequence in 4..=6 {
        later.next(name(&scene, sequence), &scene.files[&scene.document(sequence)]).unwrap();
    }
    assert_eq!((later.end(), later.fits(&read)), (follower.end(), true));
}

#[tokio::test]
async fn what_is_not_the_next_document_is_named_and_not_taken() {
    let scene = scene().await;
    let other = {
        let mut other = Scene::new("globex", 1).await;
        other.archive(1, Codec::Zstd, &other.events(0, 3)).await;
        other
    };
    let file = |sequence: u64| scene.files[&scene.document(sequence)].clone();
    let edited = String::from_utf8(file(3)).unwrap().replace("keep-30-days", "keep-31-days");
    let foreign = other.files[&other.document(2)].clone();
    // The same number under a chain that went another way.
    let mut fork = Scene::new("acme", 1).await;
    fork.archive(9, Codec::Zstd, &fork.events(50, 2)).await;
    fork.archive(2, Codec::Gzip, &fork.events(20, 5)).await;
    let mut stranger = Scene::new("acme", 9).await;
    stranger.archive(1, Codec::Zstd, &stranger.events(0, 2)).await;
    stranger.archive(2, Codec::Zstd, &stranger.events(2, 2)).await;
    for (given, expected) in [
        (file(4), Code::DocumentMisplaced),
        (file(2), Code::DocumentMisplaced),
        (edited.into_bytes(), Code::ManifestEdited),
        (foreign, Code::DocumentOfAnotherTenant),
        (fork.files[&fork.document(3)].clone(), Code::ChainBroken),
        (stranger.files[&stranger.document(3)].clone(), Code::ManifestResigned),
        (b"nothing".to_vec(), Code::DocumentUnreadable),
    ] {
        let mut follower = taken(&scene, 2);
        let broken = follower.next(name(&scene, 3), &given).unwrap_err();
        assert_eq!(broken.code, expected, "{broken}");
        assert_eq!(follower.end().unwrap().sequence, 2, "it stands where it stood");
        follower.next(name(&scene, 3), &file(3)).unwrap();
    }
    // After the rotation the old key signs nothing more.
    let mut old = scene.clone();
    old.files = taken_back(&scene).await;
    let mut follower = taken(&scene, 4);
    let broken = follower.next(name(&scene, 5), &old.files[&scene.document(5)]).unwrap_err();
    assert_eq!(broken.code, Code::SignedByRetiredKey, "{broken}");
    let mut head = stranger;
    let file = head.head().await;
    let forged = follower.head(&file, &head.files[&file]).unwrap_err();
    assert_eq!(forged.code, Code::HeadForged);
}

/// Its fifth document signed by the key that was replaced.
async fn taken_back(scene: &Scene) -> Files {
    let mut again = scene.clone();
    let mut document = again.sealed(5).document;
    document.header.key_id = signer(1).key().id();
    again.replace(5, &document, &[1]).await;
    again.files
}
