//! Evidence out of a live archive: what the archive and cleanup workers left, as an auditor asks for it.

use audit::model::NewLog;
use contracts::audit::lifecycle::Then;
use evidence::bundle::{EVENT, Files, NoEvidence, assemble, check};
use evidence::source::Directory;
use evidence::verify::Verdict;
use evidence::{Codec, MemorySigner, Signer};

use super::scene::Scene;
use crate::archive::scene::acme;

impl Scene {
    /// The evidence for a log, as the archive is now, a head and all.
    async fn evidence(&self, log: &NewLog) -> Result<Files, NoEvidence> {
        self.audited().await;
        let source = Directory::open(self.archive.dir.path()).unwrap();
        assemble(&source, &acme(), log.key.id.0)
    }
}

/// Checked with the public key alone; what is proved.
fn proved(files: &Files) -> String {
    let signer = MemorySigner::from_seed("audit.example.com", &[1; 32]).unwrap();
    let report = check(files, std::slice::from_ref(signer.key())).unwrap();
    assert_eq!(report.verdict, Verdict::Verified, "{report:?}");
    report.proved.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_its_evidence_before_and_after_its_deletion() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2, 3]).await;
    let run = scene.sealed().await;
    let files = scene.evidence(&logs[1]).await.unwrap();
    assert_eq!(files[EVENT], [&logs[1].record[..], b"\n"].concat());
    assert!(!proved(&files).contains("deleted"));
    scene.clean(&run).await.unwrap();
    let files = scene.evidence(&logs[1]).await.unwrap();
    let said = proved(&files);
    assert!(said.contains("archived unchanged"), "{said}");
    assert!(said.contains("one of the 3 events of receipt"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_deleted_without_an_archive_has_its_receipt() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    scene.policy(Then::Delete).await;
    let (run, _) = scene.archive.run(Then::Delete, Codec::Zstd).await;
    scene.delete(&run).await.unwrap();
    let files = scene.evidence(&logs[0]).await.unwrap();
    assert!(!files.contains_key(EVENT));
    let said = proved(&files);
    assert!(said.contains("deleted without an archive"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_object_past_its_term_the_receipt_is_named() {
    let scene = Scene::new().await;
    let logs = scene.logs([1, 2]).await;
    let run = scene.archive_only().await;
    scene.expire().await;
    scene.remove(&run).await.unwrap();
    let gone = scene.evidence(&logs[0]).await.unwrap_err();
    assert!(matches!(gone, NoEvidence::Gone { .. }), "{gone}");
}
