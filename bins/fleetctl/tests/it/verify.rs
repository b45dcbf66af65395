//! `fleetctl verify` on a small archive in a folder: what it says and how it ends, for an archive that
//! is whole, one without a head, and one that was changed.

use std::fs;
use std::path::PathBuf;

use contracts::Tenant;
use evidence::document::{
    Basis, Body, ChainEnd, Document, Header, KeyRecord, Manifest, document_name, head_name,
    object_name, seal,
};
use evidence::merkle::{Tree, leaf};
use evidence::object::ObjectWriter;
use evidence::{Codec, Head, MemorySigner, Signer, head, moment};
use tempfile::TempDir;

use crate::command::{Said, fleetctl};

/// One event, as an object holds it.
pub(crate) const LINE: &str = r#"{"id":"01940000-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-31T22:59:59.000000Z","class":"30d","source":{"key_id":"k1"},"event":{"action":"door.opened"}}"#;

/// The id in it.
pub(crate) const EVENT_ID: &str = "01940000-0000-7000-8000-000000000001";

/// Two documents, one object, one head.
pub(crate) struct Archive {
    dir: TempDir,
    pub(crate) key: String,
    pub(crate) object: String,
    pub(crate) head: String,
}

impl Archive {
    pub(crate) async fn write() -> Self {
        let tenant: Tenant = "acme".parse().unwrap();
        let signer = MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap();
        let now = moment::parse("2026-01-31T23:00:00.000000Z").unwrap();
        let object = object_name(&tenant, now, 1, Codec::Zstd);
        let mut writer = ObjectWriter::new(Vec::new(), Codec::Zstd, &tenant);
        writer.push(&[7; 16], LINE.as_bytes()).unwrap();
        let (bytes, contents) = writer.finish().unwrap();
        let key = signer.key().to_string();
        let first = KeyRecord { public_key: key.clone(), replaces: None, reason: "first".into() };
        let manifest = Manifest {
            object: object.clone(),
            unit: "run-1".to_owned().try_into().unwrap(),
            basis: Basis::Request { id: "r-1".into() },
            contents,
            locked_until: None,
            supersedes: None,
        };
        let (mut files, mut tree) = (vec![(object.clone(), bytes)], Tree::new());
        let mut end: Option<ChainEnd> = None;
        for body in [Body::Key(first), Body::Manifest(Box::new(manifest))] {
            let header = Header::next(&tenant, end, now, signer.key().id()).unwrap();
            let document = Document { header, body };
            end = Some(document.end());
            tree.push(leaf(&document.bytes()));
            let (sequence, kind) = (document.header.sequence, document.body.kind());
            let name = document_name(&tenant, sequence, kind);
            files.push((name, seal(&document, &[&signer]).await.unwrap()));
        }
        let head = Head {
            origin: head::origin("audit.example.com", &tenant),
            size: 2,
            root: tree.root(),
            at: now,
        };
        let name = head_name(&tenant, now, 2);
        files.push((name.clone(), head.sign(&signer).await.unwrap().into_bytes()));
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self { dir, key, object, head: name }
    }

    pub(crate) fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn verify(&self, more: &[&str]) -> Said {
        fleetctl(&[], &[&["verify", self.path(), "--key", &self.key], more].concat()).await
    }
}

#[tokio::test]
async fn a_whole_archive_is_verified_as_of_its_head() {
    let archive = Archive::write().await;
    let said = archive.verify(&[]).await.ok();
    assert!(said.out.starts_with("acme: verified\n"), "{said:?}");
    assert!(said.out.contains("complete to document 2 as of 2026-01-31T23:00:00"), "{said:?}");
    let keys = archive.file("keys.txt");
    fs::write(&keys, format!("# the auditor's copy\n{}\n", archive.key)).unwrap();
    let words = ["verify", archive.path(), "--key", keys.to_str().unwrap()];
    fleetctl(&[], &words).await.ok();
}

#[tokio::test]
async fn without_a_head_of_the_time_the_tail_is_unproven() {
    let archive = Archive::write().await;
    let said = archive.verify(&["--head-since", "2026-02-01T00:00:00Z"]).await;
    assert_eq!(said.code, 3, "{said:?}");
    fs::remove_file(archive.file(&archive.head)).unwrap();
    let said = archive.verify(&["--json"]).await;
    assert_eq!((said.code, &said.lines()[0]["verdict"]), (3, &"tail-unproven".into()), "{said:?}");
    assert!(said.err.contains("tail unproven"), "{said:?}");
}

#[tokio::test]
async fn a_flipped_byte_is_named_with_its_object() {
    let archive = Archive::write().await;
    let mut bytes = fs::read(archive.file(&archive.object)).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(archive.file(&archive.object), bytes).unwrap();
    let said = archive.verify(&[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains(&format!("object-corrupt  {}", archive.object)), "{said:?}");
    assert!(said.err.contains("not as it was: 1 findings"), "{said:?}");
    let json = archive.verify(&["--json"]).await;
    let finding = &json.lines()[0]["tenants"][0]["findings"][0];
    assert_eq!((json.code, &finding["code"]), (1, &"object-corrupt".into()));
    assert!(finding["meaning"].as_str().unwrap().contains("no longer unpacks"));
}

#[tokio::test]
async fn what_cannot_be_verified_is_wrong_usage_with_a_hint() {
    let archive = Archive::write().await;
    let (path, key) = (archive.path(), archive.key.as_str());
    let empty = tempfile::tempdir().unwrap();
    for (dir, key, hint) in [
        (path, "nonsense", "one key per line"),
        ("/nowhere/at/all", key, "s3://BUCKET/PREFIX"),
        ("s3:///x", key, "s3://BUCKET"),
        ("s3://bucket/a//b", key, "below the prefix"),
        (empty.path().to_str().unwrap(), key, "archive/ and proof/"),
    ] {
        let said = fleetctl(&[], &["verify", dir, "--key", key]).await;
        assert_eq!(said.code, 64, "{said:?}");
        assert!(said.err.contains(hint), "{said:?}");
    }
    let said = fleetctl(&[], &["verify", path]).await;
    assert_eq!(said.code, 64, "{said:?}");
}

#[tokio::test]
async fn the_evidence_for_an_event_stands_by_itself() {
    let (archive, out) = (Archive::write().await, tempfile::tempdir().unwrap());
    let case = out.path().join("case");
    let case_text = case.to_str().unwrap();
    let export = |id: &'static str| {
        let words =
            ["evidence", id, "--tenant", "acme", "--from", archive.path(), "--to", case_text];
        words.map(str::to_owned)
    };
    let run = async |words: [String; 8]| {
        fleetctl(&[], &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let unknown = run(export("01940000-0000-7000-8000-000000000002")).await;
    assert_eq!((unknown.code, case.exists()), (1, false), "{unknown:?}");
    run(export(EVENT_ID)).await.ok();
    let again = run(export(EVENT_ID)).await;
    assert_eq!(again.code, 64, "{again:?}");
    let page = fs::read_to_string(case.join("README.txt")).unwrap();
    assert!(page.contains("WHAT IS NOT PROVED"), "{page}");

    let words = ["verify", case_text, "--key", &archive.key];
    let said = fleetctl(&[], &words).await.ok();
    assert!(said.out.contains("archived unchanged"), "{said:?}");
    fs::write(case.join("event.json"), LINE.replace("opened", "closed") + "\n").unwrap();
    let said = fleetctl(&[], &words).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("DOUBT   event.json"), "{said:?}");
}
