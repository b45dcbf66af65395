//! An archive in memory, built by the crate's own writers, with the keys at hand, so that a test can do
//! to it what an attacker could, or whoever holds the keys.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use evidence::document::*;
use evidence::head::origin;
use evidence::merkle::{self, Salt, Tree};
use evidence::object::{ObjectWriter, survey};
use evidence::verify::{Options, Report, verify};
use evidence::{Codec, Document, Hash, Head, MemorySigner, Signer, VerifyKey};
use uuid::Uuid;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// An event and its salt.
pub(crate) type Salted = (Salt, String);

pub(crate) fn signer(seed: u8) -> MemorySigner {
    MemorySigner::from_seed("audit.example.com", &[seed; 32]).unwrap()
}

/// One tenant's archive, and what its writer knows.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) files: Files,
    pub(crate) tenant: Tenant,
    pub(crate) seed: u8,
    pub(crate) now: DateTime<Utc>,
    pub(crate) end: Option<ChainEnd>,
    pub(crate) leaves: Vec<Hash>,
    pub(crate) names: Vec<String>,
}

impl Scene {
    /// A chain with its first key.
    pub(crate) async fn new(tenant: &str, seed: u8) -> Self {
        let mut scene = Self {
            files: Files::new(),
            tenant: tenant.parse().unwrap(),
            seed,
            now: evidence::moment::parse("2026-01-31T23:00:00.000000Z").unwrap(),
            end: None,
            leaves: Vec::new(),
            names: Vec::new(),
        };
        let public_key = signer(seed).key().to_string();
        let record = KeyRecord { public_key, replaces: None, reason: "first".into() };
        scene.issue(Body::Key(record)).await;
        scene
    }

    pub(crate) fn key(&self) -> VerifyKey {
        signer(self.seed).key().clone()
    }

    pub(crate) fn verify(&self, keys: &[VerifyKey]) -> Report {
        verify(&self.files, keys, &Options::default(), |_| ()).unwrap()
    }

    /// A document's file, by its number.
    pub(crate) fn document(&self, sequence: u64) -> String {
        self.names[usize::try_from(sequence).unwrap() - 1].clone()
    }

    /// The sealed document of a number.
    pub(crate) fn sealed(&self, sequence: u64) -> Sealed {
        Sealed::parse(&self.files[&self.document(sequence)]).unwrap()
    }

    /// The object of a manifest.
    pub(crate) fn object(&self, sequence: u64) -> String {
        self.sealed(sequence).manifest().unwrap().object.clone()
    }

    fn reference(&self, sequence: u64) -> ManifestRef {
        ManifestRef { sequence, sha256: self.sealed(sequence).hash }
    }

    /// Issues the next document; it becomes the chain's end.
    pub(crate) async fn issue(&mut self, body: Body) -> u64 {
        self.issue_with(body, &[self.seed]).await
    }

    pub(crate) async fn issue_with(&mut self, body: Body, seeds: &[u8]) -> u64 {
        self.now += TimeDelta::minutes(1);
        let id = signer(seeds[0]).key().id();
        let header = Header::next(&self.tenant, self.end, self.now, id).unwrap();
        let document = Document { header, body };
        self.end = Some(document.end());
        self.leaves.push(merkle::leaf(&document.bytes()));
        let (sequence, kind) = (document.header.sequence, document.body.kind());
        let name = document_name(&self.tenant, sequence, kind);
        self.names.push(name.clone());
        self.files.insert(name, sealed(&document, seeds).await);
        sequence
    }

    /// A document in the place of another, without a change of what follows.
    pub(crate) async fn replace(&mut self, sequence: u64, document: &Document, seeds: &[u8]) {
        let name = self.document(sequence);
        self.files.insert(name, sealed(document, seeds).await);
    }

    /// Signs a head over the chain as it is.
    pub(crate) async fn head(&mut self) -> String {
        self.now += TimeDelta::minutes(1);
        let root = self.leaves.iter().copied().collect::<Tree>().root();
        let size = self.leaves.len() as u64;
        let origin = origin(signer(self.seed).key().name(), &self.tenant);
        let head = Head { origin, size, root, at: self.now };
        let name = head_name(&self.tenant, self.now, size);
        let file = head.sign(&signer(self.seed)).await.unwrap();
        self.files.insert(name.clone(), file.into_bytes());
        name
    }

    /// The next key takes over.
    pub(crate) async fn rotate(&mut self, seed: u8) -> u64 {
        let (old, new) = (signer(self.seed), signer(seed));
        let record = KeyRecord {
            public_key: new.key().to_string(),
            replaces: Some(old.key().id()),
            reason: "rotation".into(),
        };
        let sequence = self.issue_with(Body::Key(record), &[self.seed, seed]).await;
        self.seed = seed;
        sequence
    }

    /// `count` events of this tenant from number `from` on.
    pub(crate) fn events(&self, from: u64, count: u64) -> Vec<Salted> {
        (from..from + count).map(|number| event(self.tenant.as_str(), number)).collect()
    }

    /// Archives lines as a part; answers the manifest's number.
    pub(crate) async fn archive(&mut self, part: u32, codec: Codec, lines: &[Salted]) -> u64 {
        self.archive_instead(part, codec, lines, None).await
    }

    pub(crate) async fn archive_instead(
        &mut self,
        part: u32,
        codec: Codec,
        lines: &[Salted],
        supersedes: Option<Supersedes>,
    ) -> u64 {
        let object = object_name(&self.tenant, self.now, part, codec);
        let (bytes, contents) = packed(&self.tenant, codec, lines, 400);
        self.files.insert(object.clone(), bytes);
        let manifest = Manifest {
            object,
            unit: format!("run-7.part-{part}").try_into().unwrap(),
            basis: Basis::Policy { id: "keep-30-days".into(), version: 3 },
            contents,
            locked_until: None,
            supersedes,
        };
        self.issue(Body::Manifest(Box::new(manifest))).await
    }

    /// The rows of an archived object are deleted, with the list of their ids.
    pub(crate) async fn delete_rows(&mut self, manifest: u64) -> u64 {
        let sealed = self.sealed(manifest);
        let (contents, mut list) = (&sealed.manifest().unwrap().contents, Vec::new());
        survey(&self.files[&self.object(manifest)][..], contents.codec, |entry| {
            list.extend(entry.line.key.id.as_bytes());
            list.extend(entry.leaf.0);
        })
        .unwrap();
        let unit = format!("rows-of-{manifest}").try_into().unwrap();
        self.delete_listed(Some(manifest), unit, list).await
    }

    /// Rows are deleted that no object holds.
    pub(crate) async fn delete_unarchived(&mut self, events: &[Salted], numbers: &[u64]) -> u64 {
        let mut list = Vec::new();
        for ((salt, line), number) in events.iter().zip(numbers) {
            list.extend(event_id(*number).as_bytes());
            list.extend(merkle::salted_leaf(salt, line.as_bytes()).0);
        }
        self.delete_listed(None, "rows-alone".to_owned().try_into().unwrap(), list).await
    }

    async fn delete_listed(&mut self, manifest: Option<u64>, unit: Unit, list: Vec<u8>) -> u64 {
        let object = deleted_ids_name(&self.tenant, &unit);
        let entries = list.as_chunks::<DELETED_ID_BYTES>().0;
        let root = entries.iter().map(|entry| merkle::leaf(entry)).collect::<Tree>().root();
        let (sha256, deleted) = (Hash::of(&list), entries.len() as u64);
        let ids = Some(DeletedIds { object: object.clone(), sha256, root });
        self.files.insert(object, list);
        let receipt = Receipt {
            scope: Scope::Rows,
            ids,
            deleted,
            search_empty_at: Some(self.now),
            ..self.receipt(manifest, unit)
        };
        self.issue(Body::Receipt(Box::new(receipt))).await
    }

    /// An archived object is deleted.
    pub(crate) async fn delete_object(&mut self, manifest: u64) -> u64 {
        let unit = format!("object-of-{manifest}").try_into().unwrap();
        let receipt = self.receipt(Some(manifest), unit);
        self.files.remove(&self.object(manifest));
        self.issue(Body::Receipt(Box::new(receipt))).await
    }

    fn receipt(&self, manifest: Option<u64>, unit: Unit) -> Receipt {
        let lines = |number| self.sealed(number).manifest().unwrap().contents.lines;
        Receipt {
            scope: Scope::Object,
            unit,
            basis: Basis::Policy { id: "keep-30-days".into(), version: 3 },
            requester: "scheduler".into(),
            manifest: manifest.map(|number| self.reference(number)),
            deleted: manifest.map_or(0, lines),
            already_gone: 0,
            held: 0,
            ids: None,
            holds: HoldsChecked { at: self.now, in_force: 2 },
            deleted_at: self.now,
            search_empty_at: None,
            survives: vec![Survivor {
                place: "RDS snapshots".into(),
                until: Some(self.now + TimeDelta::days(35)),
            }],
        }
    }
}

pub(crate) async fn sealed(document: &Document, seeds: &[u8]) -> Vec<u8> {
    let signers: Vec<_> = seeds.iter().map(|seed| signer(*seed)).collect();
    let signers: Vec<&dyn Signer> = signers.iter().map(|one| one as &dyn Signer).collect();
    seal(document, &signers).await.unwrap()
}

pub(crate) fn event_id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0194_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

pub(crate) fn event(tenant: &str, number: u64) -> Salted {
    let mut salt = [7; 16];
    salt[..8].copy_from_slice(&number.to_be_bytes());
    let id = event_id(number);
    let at = format!("2026-01-31T22:{:02}:00.000000Z", number % 60);
    let line = format!(
        r#"{{"id":"{id}","tenant":"{tenant}","recorded_at":"{at}","class":"30d","source":{{"key_id":"k"}},"event":{{"action":"door.opened","actor":{{"type":"user","id":"u{number}"}},"outcome":"success"}}}}"#
    );
    (salt, line)
}

pub(crate) fn packed(
    tenant: &Tenant,
    codec: Codec,
    lines: &[Salted],
    block_bytes: usize,
) -> (Vec<u8>, evidence::object::Contents) {
    let writer = ObjectWriter::new(Vec::new(), codec, tenant);
    let mut writer = writer.with_block_bytes(block_bytes);
    for (salt, line) in lines {
        writer.push(salt, line.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// An archive with every kind of document: see the numbers.
pub(crate) async fn archive() -> Scene {
    let mut acme = Scene::new("acme", 1).await;
    let first = acme.events(0, 10);
    let two = acme.archive(1, Codec::Gzip, &first).await;
    let three = acme.archive(2, Codec::Lz4, &acme.events(100, 10)).await;
    assert_eq!((two, three, acme.delete_rows(two).await), (2, 3, 4));
    assert_eq!(acme.archive(3, Codec::Zstd, &acme.events(200, 20)).await, 5);
    acme.head().await;
    assert_eq!(acme.delete_object(three).await, 6);
    let (left, supersedes) = without(&first, two, two, &[3, 7]);
    let seven = acme.archive_instead(4, Codec::Gzip, &left, Some(supersedes)).await;
    assert_eq!((seven, acme.delete_object(two).await), (7, 8));
    assert_eq!(acme.archive(5, Codec::Lz4, &acme.events(300, 10)).await, 9);
    assert_eq!(acme.archive(6, Codec::Gzip, &acme.events(400, 10)).await, 10);
    acme.head().await;
    acme
}

/// The lines without those at `gone`, and what the superseding manifest says of it.
pub(crate) fn without(
    lines: &[Salted],
    replaces: u64,
    original: u64,
    gone: &[usize],
) -> (Vec<Salted>, Supersedes) {
    let leaf = |at: &usize| merkle::salted_leaf(&lines[*at].0, lines[*at].1.as_bytes());
    let erased = gone.iter().map(|at| Erased { index: *at as u64, leaf: leaf(at) }).collect();
    let left = (0..).zip(lines).filter(|(at, _)| !gone.contains(at)).map(|(_, l)| l.clone());
    (left.collect(), Supersedes { replaces, original, erased })
}
