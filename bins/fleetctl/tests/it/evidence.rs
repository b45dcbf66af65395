//! `fleetctl evidence` and what `fleetctl verify` says of it: an event that is archived, one that is deleted,
//! one that was never archived, one whose object is gone; and somebody who forged an entry.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use contracts::Tenant;
use evidence::document::{
    Basis, Body, ChainEnd, DeletedIds, Document, Header, HoldsChecked, KeyRecord, Manifest,
    ManifestRef, Receipt, Scope, Unit, deleted_ids_name, document_name, head_name, object_name,
    seal,
};
use evidence::merkle::{self, Tree};
use evidence::object::{Contents, ObjectWriter};
use evidence::{Codec, Hash, Head, MemorySigner, Signer, head, moment};
use tempfile::TempDir;
use uuid::Uuid;

use crate::command::{Said, fleetctl};

/// An archive as a bucket holds it, in a folder.
struct Archive {
    dir: TempDir,
    tenant: Tenant,
    signer: MemorySigner,
    now: DateTime<Utc>,
    end: Option<ChainEnd>,
    tree: Tree,
}

fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0194_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

fn line(number: u64) -> String {
    let id = id(number);
    format!(
        r#"{{"id":"{id}","tenant":"acme","recorded_at":"2026-01-31T22:59:59.000000Z","class":"30d","source":{{"key_id":"k1"}},"event":{{"action":"door.opened"}}}}"#
    )
}

fn unit(name: &str) -> Unit {
    name.to_owned().try_into().unwrap()
}

impl Archive {
    async fn new() -> Self {
        let mut archive = Self {
            dir: tempfile::tempdir().unwrap(),
            tenant: "acme".parse().unwrap(),
            signer: MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap(),
            now: moment::parse("2026-01-31T23:00:00.000000Z").unwrap(),
            end: None,
            tree: Tree::new(),
        };
        let public_key = archive.key();
        let first = KeyRecord { public_key, replaces: None, reason: "first".into() };
        archive.issue(Body::Key(first)).await;
        archive
    }

    fn key(&self) -> String {
        self.signer.key().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    async fn issue(&mut self, body: Body) -> ManifestRef {
        let header =
            Header::next(&self.tenant, self.end, self.now, self.signer.key().id()).unwrap();
        let document = Document { header, body };
        let (sequence, bytes) = (document.header.sequence, document.bytes());
        self.end = Some(document.end());
        self.tree.push(merkle::leaf(&bytes));
        let name = document_name(&self.tenant, sequence, document.body.kind());
        self.write(&name, seal(&document, &[&self.signer]).await.unwrap());
        ManifestRef { sequence, sha256: Hash::of(&bytes) }
    }

    /// Archives events as a part; answers the object's name and its manifest.
    async fn archive(&mut self, part: u32, numbers: &[u64]) -> (String, ManifestRef, Contents) {
        let object = object_name(&self.tenant, self.now, part, Codec::Zstd);
        let mut writer = ObjectWriter::new(Vec::new(), Codec::Zstd, &self.tenant);
        for number in numbers {
            writer.push(&[7; 16], line(*number).as_bytes()).unwrap();
        }
        let (bytes, contents) = writer.finish().unwrap();
        self.write(&object, bytes);
        let manifest = Manifest {
            object: object.clone(),
            unit: unit(&format!("run-1.part-{part}")),
            basis: Basis::Policy { id: "old-ones".into(), version: 2 },
            contents: contents.clone(),
            locked_until: None,
            supersedes: None,
        };
        let manifest = self.issue(Body::Manifest(Box::new(manifest))).await;
        (object, manifest, contents)
    }

    /// Deletes rows, those of an object or of none; answers the name of their list.
    async fn delete(&mut self, manifest: Option<ManifestRef>, numbers: &[u64]) -> String {
        let entries: Vec<Vec<u8>> = numbers
            .iter()
            .map(|number| {
                let leaf = merkle::salted_leaf(&[7; 16], line(*number).as_bytes());
                [&id(*number).as_bytes()[..], &leaf.0].concat()
            })
            .collect();
        let unit = unit(&format!("rows-{}", numbers[0]));
        let (object, list) = (deleted_ids_name(&self.tenant, &unit), entries.concat());
        let root = entries.iter().map(|entry| merkle::leaf(entry)).collect::<Tree>().root();
        let ids = DeletedIds { object: object.clone(), sha256: Hash::of(&list), root };
        self.write(&object, list);
        self.receipt(unit, manifest, numbers.len() as u64, Some(ids)).await;
        object
    }

    /// Deletes an object.
    async fn remove(&mut self, (object, manifest, contents): &(String, ManifestRef, Contents)) {
        fs::remove_file(self.path(object)).unwrap();
        let unit = unit(&format!("object-{}", manifest.sequence));
        self.receipt(unit, Some(*manifest), contents.lines, None).await;
    }

    async fn receipt(
        &mut self,
        unit: Unit,
        manifest: Option<ManifestRef>,
        deleted: u64,
        ids: Option<DeletedIds>,
    ) {
        let rows = ids.is_some();
        let receipt = Receipt {
            scope: if rows { Scope::Rows } else { Scope::Object },
            unit,
            basis: Basis::Policy { id: "old-ones".into(), version: 2 },
            requester: "scheduler".into(),
            manifest,
            deleted,
            already_gone: 0,
            held: 0,
            ids,
            holds: HoldsChecked { at: self.now, in_force: 0 },
            deleted_at: self.now,
            search_empty_at: rows.then_some(self.now),
            survives: Vec::new(),
        };
        self.issue(Body::Receipt(Box::new(receipt))).await;
    }

    async fn head(&self) {
        let (size, root) = (self.tree.size(), self.tree.root());
        let head = Head {
            origin: head::origin("audit.example.com", &self.tenant),
            size,
            root,
            at: self.now,
        };
        let file = head.sign(&self.signer).await.unwrap();
        self.write(&head_name(&self.tenant, self.now, size), file);
    }

    /// Exports an event, from the archive in use, which a variable names.
    async fn export(&self, number: u64, to: &Path) -> Said {
        let (id, to) = (id(number).to_string(), to.to_str().unwrap());
        let named = [("ARCHIVE_DIR", self.dir.path().to_str().unwrap().to_owned())];
        fleetctl(&named, &["evidence", &id, "--tenant", "acme", "--to", to]).await
    }

    async fn verify(&self, case: &Path) -> Said {
        fleetctl(&[], &["verify", case.to_str().unwrap(), "--key", &self.key()]).await
    }
}

#[tokio::test]
async fn each_fate_of_an_event_is_exported_and_verified_with_the_public_key_alone() {
    let (mut archive, out) = (Archive::new().await, tempfile::tempdir().unwrap());
    archive.archive(1, &[1, 2]).await;
    let (_, second, _) = archive.archive(2, &[11, 12]).await;
    archive.delete(Some(second), &[11, 12]).await;
    archive.delete(None, &[21, 22]).await;
    let third = archive.archive(3, &[31, 32]).await;
    archive.delete(Some(third.1), &[31, 32]).await;
    archive.remove(&third).await;
    let fourth = archive.archive(4, &[41, 42]).await;
    archive.remove(&fourth).await;
    archive.head().await;
    let (unchanged, deleted) = ("were archived unchanged", "deleted from the database");
    for (number, event, says, not) in [
        (2, true, vec![unchanged], deleted),
        (12, true, vec![unchanged, deleted], "without an archive"),
        (21, false, vec![deleted, "deleted without an archive"], unchanged),
        (31, false, vec![deleted, "The archive object"], unchanged),
    ] {
        let case = out.path().join(number.to_string());
        archive.export(number, &case).await.ok();
        assert_eq!(case.join("event.json").exists(), event, "{number}");
        let said = archive.verify(&case).await.ok();
        for part in says {
            assert!(said.out.contains(part), "{number}: {part}: {said:?}");
        }
        assert!(!said.out.contains(not), "{number}: {said:?}");
    }
    for (number, why, hint) in [
        (42, "which was deleted whole, as receipt 10 says", "an earlier export"),
        (99, "no object holds event", "check the id and --tenant"),
    ] {
        let case = out.path().join(number.to_string());
        let said = archive.export(number, &case).await;
        assert_eq!((said.code, case.exists()), (1, false), "{said:?}");
        assert!(said.err.contains(why) && said.err.contains(hint), "{said:?}");
    }
    let one = id(1).to_string();
    let nowhere = fleetctl(&[], &["evidence", &one, "--tenant", "acme", "--to", "/x"]).await;
    assert_eq!(nowhere.code, 64, "{nowhere:?}");
    assert!(nowhere.err.contains("ARCHIVE_BUCKET"), "{nowhere:?}");
}

#[tokio::test]
async fn a_forged_entry_and_a_missing_list_are_named() {
    let (mut archive, out) = (Archive::new().await, tempfile::tempdir().unwrap());
    let list = archive.delete(None, &[21, 22]).await;
    archive.head().await;
    // Somebody has the list say that another event was deleted.
    let mut bytes = fs::read(archive.path(&list)).unwrap();
    bytes[48..64].copy_from_slice(id(23).as_bytes());
    fs::write(archive.path(&list), bytes).unwrap();
    let case = out.path().join("forged");
    archive.export(23, &case).await.ok();
    let said = archive.verify(&case).await;
    assert_eq!(said.code, 1, "{said:?}");
    let doubt = "DOUBT   evidence.json: receipt 2 does not list the event";
    assert!(said.out.contains(doubt), "{said:?}");

    fs::remove_file(archive.path(&list)).unwrap();
    let said = archive.export(21, &out.path().join("missing")).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(&format!("{list} is missing")), "{said:?}");
    assert!(said.err.contains("fleetctl verify"), "{said:?}");
}

#[tokio::test]
async fn what_no_head_counts_yet_is_exported_and_said_to_be_unproven() {
    let (mut archive, out) = (Archive::new().await, tempfile::tempdir().unwrap());
    archive.head().await;
    let (_, manifest, _) = archive.archive(1, &[1]).await;
    archive.delete(Some(manifest), &[1]).await;
    let case = out.path().join("case");
    archive.export(1, &case).await.ok();
    let said = archive.verify(&case).await;
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("after the next head"), "{said:?}");
}
