//! Documents against their golden files, and everything that a file on disk may be instead.

use super::*;
use crate::codec::Codec;
use crate::head::{Head, origin};
use crate::key::{MemorySigner, Signer};
use crate::object::ObjectWriter;

const LINE: &str = r#"{"id":"01940000-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-31T22:59:59.000000Z","class":"30d","source":{"key_id":"k1"},"event":{"action":"door.opened","actor":{"type":"user","id":"u1"},"outcome":"success"}}"#;

fn signer(seed: u8) -> MemorySigner {
    MemorySigner::from_seed("audit.example.com", &[seed; 32]).unwrap()
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn time(text: &str) -> DateTime<Utc> {
    moment::parse(&format!("2026-01-31T{text}.000000Z")).unwrap()
}

fn key_record() -> Body {
    let public_key = signer(1).key().to_string();
    Body::Key(KeyRecord { public_key, replaces: None, reason: "first".into() })
}

fn manifest() -> Body {
    // LZ4: what it packs to depends on no C library's version.
    let mut writer = ObjectWriter::new(Vec::new(), Codec::Lz4, &tenant());
    writer.push(&[7; 16], LINE.as_bytes()).unwrap();
    let contents = writer.finish().unwrap().1;
    let erased = vec![Erased { index: 1, leaf: Hash::of("leaf") }];
    Body::Manifest(Box::new(Manifest {
        object: object_name(&tenant(), time("22:00:00"), 1, Codec::Lz4),
        unit: "run-7.part-1".to_owned().try_into().unwrap(),
        basis: Basis::Policy { id: "keep-30-days".into(), version: 3 },
        contents,
        locked_until: Some(time("23:59:00")),
        supersedes: Some(Supersedes { replaces: 1, original: 1, erased }),
    }))
}

fn receipt() -> Body {
    let unit: Unit = "run-7.part-1".to_owned().try_into().unwrap();
    let object = deleted_ids_name(&tenant(), &unit);
    Body::Receipt(Box::new(Receipt {
        scope: Scope::Rows,
        unit,
        basis: Basis::Request { id: "erasure-12".into() },
        requester: "Zoë \"the auditor\"".into(),
        manifest: Some(ManifestRef { sequence: 2, sha256: Hash::of("manifest") }),
        deleted: 1,
        already_gone: 0,
        held: 0,
        ids: Some(DeletedIds { object, sha256: Hash::of("list"), root: Hash::of("root") }),
        holds: HoldsChecked { at: time("23:00:01"), in_force: 2 },
        deleted_at: time("23:00:02"),
        search_empty_at: Some(time("23:00:03")),
        survives: vec![Survivor { place: "RDS snapshots".into(), until: None }],
    }))
}

fn document(body: Body) -> Document {
    let end = ChainEnd { sequence: 16, hash: Hash::of("16"), issued_at: time("23:00:00") };
    let id = signer(1).key().id();
    Document { header: Header::next(&tenant(), Some(end), time("23:00:04"), id).unwrap(), body }
}

#[tokio::test]
async fn the_formats_are_their_golden_files() {
    for (golden, body) in [
        (include_str!("../../golden/key.note"), key_record()),
        (include_str!("../../golden/manifest.note"), manifest()),
        (include_str!("../../golden/receipt.note"), receipt()),
    ] {
        let document = document(body);
        let sealed = seal(&document, &[&signer(1)]).await.unwrap();
        assert_eq!(String::from_utf8(sealed).unwrap(), golden);
        assert_eq!(Sealed::parse(golden.as_bytes()).unwrap().document, document);
    }
    let origin = origin(signer(1).key().name(), &tenant());
    let head = Head { origin, size: 17, root: Hash::of("root"), at: time("23:00:00") };
    let golden = include_str!("../../golden/head.checkpoint");
    assert_eq!(head.sign(&signer(1)).await.unwrap(), golden);
}

#[tokio::test]
async fn what_is_signed_is_short_whatever_the_document_holds() {
    let sealed = seal(&document(manifest()), &[&signer(1)]).await.unwrap();
    let sealed = Sealed::parse(&sealed).unwrap();
    assert!(sealed.note.text.len() < 200, "{}", sealed.note.text);
    assert_eq!(sealed.note.signed_by(signer(1).key()), crate::note::Signed::Valid);
}

#[tokio::test]
async fn a_later_release_may_add_members_but_not_another_spelling() {
    let bytes = document(key_record()).bytes();
    let text = String::from_utf8(bytes).unwrap();
    let seal_of = async |line: &str| {
        let hash = Hash::of(line);
        let statement = format!("flotilla.key/v1\nacme\n17\n{hash}\n");
        let note = crate::note::Note::sign(statement, &[&signer(1)]).await.unwrap();
        Sealed::parse(format!("{line}\n{note}").as_bytes())
    };
    assert!(seal_of(&text).await.is_ok());
    let added = text.replace("\"type\"", "\"then\":1,\"type\"");
    assert!(seal_of(&added).await.is_ok());
    let spaced = text.replace("\"type\":", "\"type\": ");
    assert!(matches!(seal_of(&spaced).await, Err(BadDocument::NotCanonical)));
    let twice = text.replace("\"tenant\"", "\"tenant\":\"other\",\"tenant\"");
    assert!(matches!(seal_of(&twice).await, Err(BadDocument::NotCanonical)));
    let newer = text.replace("flotilla.key/v1", "flotilla.key/v2");
    assert!(matches!(seal_of(&newer).await, Err(BadDocument::Unknown(_))));
    let elsewhere = text.replace("\"sequence\":17", "\"sequence\":18");
    assert!(matches!(seal_of(&elsewhere).await, Err(BadDocument::Edited { .. })));
}

#[test]
fn times_do_not_go_back_along_a_chain() {
    let end = ChainEnd { sequence: 1, hash: Hash::of("1"), issued_at: time("23:00:00") };
    let next = |now| Header::next(&tenant(), Some(end), now, "k".into());
    assert_eq!(next(time("23:00:05")).unwrap().issued_at, time("23:00:05"));
    assert_eq!(next(time("22:59:30")).unwrap().issued_at, time("23:00:00"));
    assert!(next(time("22:58:59")).is_err());
    let first = Header::next(&tenant(), None, time("23:00:00"), "k".into()).unwrap();
    assert_eq!((first.sequence, first.previous), (1, None));
}

#[test]
fn names_say_what_a_document_is() {
    for kind in [Kind::Key, Kind::Manifest, Kind::Receipt] {
        let name = document_name(&tenant(), 17, kind);
        let file = name.strip_prefix(&chain_prefix(&tenant())).unwrap();
        assert_eq!(parse_document_name(file), Some(DocumentName { sequence: 17, kind }));
    }
    for bad in [
        "17-key.note",
        "000000000000-key.note",
        "+00000000017-key.note",
        "000000000017-head.note",
        "000000000017-key.json",
        "",
    ] {
        assert_eq!(parse_document_name(bad), None, "{bad}");
    }
    for bad in ["", "a/b", "..", "a b", &"x".repeat(101)] {
        assert!(Unit::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let golden = include_str!("../../golden/receipt.note");
    proptest::proptest!(|(at in 0..golden.len(), with: Vec<u8>, any: Vec<u8>)| {
        let mut changed = golden.as_bytes().to_vec();
        changed.splice(at..(at + with.len()).min(golden.len()), with);
        let read = Sealed::parse(&changed);
        proptest::prop_assert!(read.is_err() || changed.len() >= 100);
        let _ = Sealed::parse(&any);
        let _ = crate::SignedHead::parse(&any);
    });
}
