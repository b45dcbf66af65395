//! What can be done to an archive, by somebody with the files alone or with the keys too, and the name
//! that the verification gives it. Each row lists every finding that the deed leads to, and no other.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use evidence::document::{Body, KeyRecord, Kind, Receipt, document_name};
use evidence::verify::{Code, Verdict};
use evidence::{Codec, Signer};

use crate::scene::{Salted, Scene, archive, packed, signer, without};

/// A deed's findings, as `code file`.
type Found = Vec<(Code, String)>;

struct Table {
    clean: Scene,
    other: Scene,
    rows: BTreeMap<&'static str, Found>,
    expected: BTreeMap<&'static str, Found>,
}

impl Table {
    /// A deed was done to `scene`: `expected` are its findings.
    fn row(&mut self, deed: &'static str, scene: &Scene, expected: &[(Code, String)]) {
        let report = scene.verify(&[self.clean.key()]);
        let acme = report.tenants.iter().find(|report| report.tenant == scene.tenant).unwrap();
        let found: Found = acme.findings.iter().map(|f| (f.code, f.file.clone())).collect();
        let worst = if expected.is_empty() { acme.verdict } else { Verdict::Findings };
        assert_eq!(acme.verdict, worst, "{deed}");
        let sorted = |mut found: Found| {
            found.sort();
            found
        };
        self.rows.insert(deed, sorted(found));
        self.expected.insert(deed, sorted(expected.to_vec()));
    }

    fn copy(&self) -> Scene {
        self.clean.clone()
    }
}

#[tokio::test]
async fn every_attack_is_named_as_itself() {
    let mut other = Scene::new("other", 1).await;
    for part in 1..12 {
        other.archive(part, Codec::Gzip, &other.events(400, 10)).await;
    }
    let clean = archive().await;
    let mut table = Table { clean, other, rows: BTreeMap::new(), expected: BTreeMap::new() };
    objects(&mut table);
    documents(&mut table).await;
    receipts(&mut table).await;
    with_the_keys(&mut table).await;
    key_records(&mut table).await;
    superseding(&mut table).await;
    heads(&mut table).await;
    assert_eq!(table.rows, table.expected);
    let named: BTreeSet<Code> = table.rows.values().flatten().map(|(code, _)| *code).collect();
    let never: Vec<_> = Code::ALL.iter().filter(|code| !named.contains(code)).collect();
    assert!(never.is_empty(), "no row leads to {never:?}");
}

fn objects(table: &mut Table) {
    use Code::*;
    for (deed, manifest) in [("gzip", 10), ("lz4", 9), ("zstd", 5)] {
        let mut scene = table.copy();
        let object = scene.object(manifest);
        let bytes = scene.files.get_mut(&object).unwrap();
        // Past the salts, inside the first block's packed lines.
        bytes[180] ^= 0x10;
        table.row(deed, &scene, &[(ObjectCorrupt, object)]);
    }
    let mut scene = table.copy();
    let object = scene.object(10);
    let bytes = scene.files.get_mut(&object).unwrap();
    bytes.truncate(bytes.len() - 40);
    table.row("object cut", &scene, &[(ObjectCorrupt, object.clone())]);

    let repack = |table: &Table, change: &dyn Fn(&mut Vec<Salted>), block| {
        let mut scene = table.copy();
        let mut lines = scene.events(400, 10);
        change(&mut lines);
        let (bytes, _) = packed(&scene.tenant, Codec::Gzip, &lines, block);
        scene.files.insert(scene.object(10), bytes);
        scene
    };
    let edited = repack(table, &|lines| lines[7].1 = lines[7].1.replace("success", "failure"), 400);
    table.row("event edited and packed again", &edited, &[(EventsEdited, object.clone())]);
    let fewer = repack(table, &|lines| drop(lines.remove(3)), 400);
    table.row("event removed and packed again", &fewer, &[(EventsEdited, object.clone())]);
    let salted = repack(table, &|lines| lines[2].0[0] ^= 1, 400);
    table.row("salt changed and packed again", &salted, &[(SaltsEdited, object.clone())]);
    let repacked = repack(table, &|_| (), 900);
    table.row("packed again", &repacked, &[(ObjectRepacked, object.clone())]);

    let mut scene = table.copy();
    scene.files.remove(&object);
    table.row("object dropped", &scene, &[(ObjectMissing, object.clone())]);

    let mut scene = table.copy();
    let (five, ten) = (scene.object(5), scene.object(10));
    let (a, b) = (scene.files[&five].clone(), scene.files[&ten].clone());
    scene.files.extend([(five.clone(), b), (ten.clone(), a)]);
    table.row("objects swapped", &scene, &[(ObjectMisplaced, five), (ObjectMisplaced, ten)]);

    let mut scene = table.copy();
    let foreign = table.other.files[&table.other.object(2)].clone();
    scene.files.insert(object.clone(), foreign);
    table.row("another tenant's object", &scene, &[(ObjectOfAnotherTenant, object.clone())]);

    let mut scene = table.copy();
    let added = format!("{object}.bak");
    scene.files.insert(added.clone(), scene.files[&object].clone());
    table.row("object added", &scene, &[(ObjectUnlisted, added)]);

    let mut scene = table.copy();
    let back = scene.object(3);
    let (bytes, _) = packed(&scene.tenant, Codec::Lz4, &scene.events(100, 10), 400);
    scene.files.insert(back.clone(), bytes);
    table.row("deleted object is back", &scene, &[(ObjectStillThere, back)]);
}

async fn documents(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    let file = |number| clean.document(number);
    let without_files = |numbers: &[u64]| {
        let mut scene = clean.clone();
        for number in numbers {
            scene.files.remove(&scene.document(*number));
        }
        scene
    };
    table.row("first manifest dropped", &without_files(&[2]), &[(ChainStartMissing, file(3))]);
    table.row("start dropped", &without_files(&[1, 2]), &[(ChainStartMissing, file(3))]);
    let orphan = (ObjectUnlisted, clean.object(5));
    let missing = [(DocumentMissing, file(6)), orphan.clone()];
    table.row("manifest dropped", &without_files(&[5]), &missing);
    let tail = "proof/acme/chain/".to_owned();
    let last = (ObjectUnlisted, clean.object(10));
    table.row("last dropped", &without_files(&[10]), &[(TailMissing, tail), last.clone()]);

    let mut scene = clean.clone();
    let (a, b) = (scene.files[&file(9)].clone(), scene.files[&file(10)].clone());
    scene.files.extend([(file(9), b), (file(10), a)]);
    let swapped = [
        (DocumentMisplaced, file(9)),
        (DocumentMisplaced, file(10)),
        (ObjectUnlisted, clean.object(9)),
        last.clone(),
    ];
    table.row("documents swapped", &scene, &swapped);

    let mut scene = clean.clone();
    let twice = document_name(&scene.tenant, 6, Kind::Manifest);
    scene.files.insert(twice.clone(), scene.files[&file(5)].clone());
    let expected = [
        (DocumentMisplaced, twice),
        (DocumentMisplaced, file(6)),
        (ReceiptMissing, clean.object(3)),
    ];
    table.row("document copied", &scene, &expected);

    let mut scene = clean.clone();
    scene.replace(10, &clean.sealed(10).document, &[9]).await;
    let resigned = [(ManifestResigned, file(10)), last.clone()];
    table.row("manifest signed by another key", &scene, &resigned);
    let mut document = clean.sealed(10).document;
    document.header.key_id = signer(9).key().id();
    scene.replace(10, &document, &[9]).await;
    table.row("manifest signed by another key that it names", &scene, &resigned);

    let mut scene = clean.clone();
    let text = String::from_utf8(scene.files[&file(10)].clone()).unwrap();
    scene.files.insert(file(10), text.replace("keep-30-days", "keep-31-days").into_bytes());
    table.row("manifest edited", &scene, &[(ManifestEdited, file(10)), last.clone()]);

    let mut scene = clean.clone();
    let foreign = table.other.files[&table.other.document(10)].clone();
    scene.files.insert(file(10), foreign);
    let foreign = [(DocumentOfAnotherTenant, file(10)), last.clone()];
    table.row("another tenant's manifest", &scene, &foreign);

    let mut scene = clean.clone();
    scene.files.insert(file(10), b"nonsense".to_vec());
    table.row("document overwritten", &scene, &[(DocumentUnreadable, file(10)), last.clone()]);
    let mut scene = clean.clone();
    scene.files.insert("proof/acme/chain/readme.txt".into(), vec![]);
    let stray = (DocumentUnreadable, "proof/acme/chain/readme.txt".into());
    table.row("stray file in the chain", &scene, &[stray]);
}

async fn receipts(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    let (file, object) = (clean.document(6), clean.object(3));
    let missing = (ReceiptMissing, object.clone());

    let mut scene = clean.clone();
    let text = String::from_utf8(scene.files[&file].clone()).unwrap();
    scene.files.insert(file.clone(), text.replace("scheduler", "auditor1").into_bytes());
    table.row("receipt edited", &scene, &[(ReceiptForged, file.clone()), missing.clone()]);

    let mut scene = clean.clone();
    scene.replace(6, &clean.sealed(6).document, &[9]).await;
    table.row("receipt forged", &scene, &[(ReceiptForged, file.clone()), missing.clone()]);

    let mut scene = clean.clone();
    scene.files.remove(&file);
    let expected = [(DocumentMissing, clean.document(7)), missing];
    table.row("receipt dropped", &scene, &expected);

    let ids = clean.sealed(4).receipt().unwrap().ids.clone().unwrap().object;
    let mut scene = clean.clone();
    scene.files.remove(&ids);
    table.row("list of deleted ids dropped", &scene, &[(DeletedIdsMissing, ids.clone())]);
    let mut scene = clean.clone();
    scene.files.get_mut(&ids).unwrap()[20] ^= 1;
    table.row("list of deleted ids edited", &scene, &[(ReceiptWrong, clean.document(4))]);
}

/// What whoever holds the private key could do, and the heads or the documents themselves show.
async fn with_the_keys(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    let newest = clean.files.keys().rfind(|name| name.contains("/heads/")).unwrap().clone();
    let rewritten = (HistoryRewritten, newest.clone());

    let mut scene = clean.clone();
    let mut document = clean.sealed(10).document;
    if let Body::Manifest(manifest) = &mut document.body {
        manifest.locked_until = Some(scene.now);
    }
    scene.replace(10, &document, &[1]).await;
    table.row("last document written anew", &scene, std::slice::from_ref(&rewritten));

    let mut scene = clean.clone();
    let mut document = clean.sealed(9).document;
    document.header.issued_at -= TimeDelta::seconds(1);
    scene.replace(9, &document, &[1]).await;
    let expected = [(ChainBroken, scene.document(10)), rewritten.clone()];
    table.row("document written anew", &scene, &expected);

    let mut scene = clean.clone();
    let mut document = clean.sealed(10).document;
    document.header.issued_at -= TimeDelta::minutes(2);
    scene.replace(10, &document, &[1]).await;
    let expected = [(ClockSetBack, scene.document(10)), rewritten.clone()];
    table.row("clock set back", &scene, &expected);

    let mut scene = clean.clone();
    let mut document = clean.sealed(10).document;
    if let Body::Manifest(manifest) = &mut document.body {
        manifest.contents.lines += 1;
    }
    scene.replace(10, &document, &[1]).await;
    let wrong = (ManifestWrong, scene.document(10));
    let expected = [wrong, (ManifestWrong, scene.object(10)), rewritten];
    table.row("manifest that does not add up", &scene, &expected);

    let mut scene = clean.clone();
    let mut receipt: Receipt = clean.sealed(8).receipt().unwrap().clone();
    receipt.deleted -= 1;
    let eleven = scene.issue(Body::Receipt(Box::new(receipt))).await;
    let file = scene.document(eleven);
    table.row("receipt that does not add up", &scene, &[(ReceiptWrong, file)]);
}

async fn key_records(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    // Somebody else's key declares itself the next one, and goes on.
    let mut scene = clean.clone();
    let record = KeyRecord {
        public_key: signer(9).key().to_string(),
        replaces: Some(signer(1).key().id()),
        reason: "rotation".into(),
    };
    let eleven = scene.issue_with(Body::Key(record), &[9]).await;
    scene.seed = 9;
    let twelve = scene.archive(60, Codec::Gzip, &scene.events(900, 3)).await;
    let expected = [
        (KeyRecordForged, scene.document(eleven)),
        (ManifestResigned, scene.document(twelve)),
        (ObjectUnlisted, scene.object(twelve)),
    ];
    table.row("key that declares itself", &scene, &expected);

    let mut scene = clean.clone();
    let eleven = scene.rotate(2).await;
    let document = scene.sealed(eleven).document;
    scene.replace(eleven, &document, &[1]).await;
    let file = scene.document(eleven);
    table.row("key record without the new key's consent", &scene, &[(KeyRecordForged, file)]);

    let mut scene = clean.clone();
    scene.rotate(2).await;
    scene.seed = 1;
    let document = clean.sealed(10).document;
    let twelve = scene.issue(document.body).await;
    let file = scene.document(twelve);
    table.row("retired key used", &scene, &[(SignedByRetiredKey, file)]);
}

async fn superseding(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    let mut scene = clean.clone();
    let lines = scene.events(400, 10);
    let (mut left, supersedes) = without(&lines, 10, 10, &[0]);
    left[4].1 = left[4].1.replace("success", "failure");
    let eleven = scene.archive_instead(9, Codec::Zstd, &left, Some(supersedes)).await;
    let object = scene.object(eleven);
    table.row("more changed than erased", &scene, &[(SupersedesWrong, object)]);

    let mut scene = clean.clone();
    let (left, mut supersedes) = without(&lines, 10, 10, &[0, 1]);
    supersedes.erased.pop();
    let eleven = scene.archive_instead(9, Codec::Zstd, &left, Some(supersedes)).await;
    let file = scene.document(eleven);
    let object = scene.object(eleven);
    let expected = [(SupersedesWrong, file), (SupersedesWrong, object)];
    table.row("more erased than admitted", &scene, &expected);

    let mut scene = clean.clone();
    let (left, supersedes) = without(&lines, 7, 7, &[0]);
    let eleven = scene.archive_instead(9, Codec::Zstd, &left, Some(supersedes)).await;
    let expected =
        [(SupersedesWrong, scene.document(eleven)), (SupersedesWrong, scene.object(eleven))];
    table.row("another object superseded", &scene, &expected);
}

async fn heads(table: &mut Table) {
    use Code::*;
    let clean = table.copy();
    let newest = clean.files.keys().rfind(|name| name.contains("/heads/")).unwrap().clone();

    let mut scene = clean.clone();
    scene.seed = 9;
    let head = scene.head().await;
    table.row("head forged", &scene, &[(HeadForged, head)]);

    let mut scene = clean.clone();
    scene.tenant = "other".parse().unwrap();
    let foreign = scene.head().await;
    let mut scene = clean.clone();
    let bytes = {
        let mut other = table.other.clone();
        let name = other.head().await;
        other.files[&name].clone()
    };
    let name = foreign.replace("other", "acme");
    scene.files.insert(name.clone(), bytes);
    table.row("another tenant's head", &scene, &[(HeadForged, name)]);

    let mut scene = clean.clone();
    scene.files.insert(newest.clone(), b"nonsense".to_vec());
    table.row("head overwritten", &scene, &[(HeadUnreadable, newest.clone())]);

    let mut scene = clean.clone();
    scene.now -= TimeDelta::minutes(3);
    let early = scene.head().await;
    table.row("head with a made-up time", &scene, &[(ClockSetBack, early)]);
}
