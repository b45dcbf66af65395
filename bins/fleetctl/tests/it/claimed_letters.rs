//! Dead letters whose body did not fit: compressed, or an object in a directory. What they hold is
//! shown where it can be reached; where not, the place and the reason are.

use contracts::{Body, Claimed, Encoding, Envelope, Gzipped, packing};
use queue_core::{DeadLetter, Outgoing};
use serde_json::Value;
use sinks::objects::{ClaimConfig, open};
use tempfile::TempDir;

use crate::command::{Said, fleetctl};
use crate::dead_letters::{Rig, envelope_id, letter, original};

/// A letter whose original travels with another body, and the body that it had.
fn repacked(at: usize, pack: impl FnOnce(&Envelope, &str) -> Body) -> (Outgoing, Value) {
    let envelope = Envelope::from_json(&original(at, "acme")).unwrap();
    let Body::Inline(inline) = &envelope.body else { panic!("packed") };
    let body = pack(&envelope, inline.get());
    let value = serde_json::from_str(inline.get()).unwrap();
    let packed = Envelope { header: envelope.header.clone(), body }.to_json().unwrap();
    let sent = letter(at, "failures-exhausted", "acme");
    let mut letter: DeadLetter = serde_json::from_str(&sent.body).unwrap();
    letter.body = packed;
    (Outgoing { body: letter.to_json().unwrap(), ..sent }, value)
}

async fn show(rig: &Rig, claims: Option<&TempDir>, at: usize, json: bool) -> Said {
    let rows = rig.list(&[]).await;
    let reason = format!("attempt failed: {at}");
    let row = rows.iter().find(|row| row["reason"] == reason.as_str()).unwrap();
    let mut variables = rig.sqs.environment().to_vec();
    variables.extend(claims.map(|dir| ("CLAIM_DIR", dir.path().to_string_lossy().into_owned())));
    let mut words = vec!["dlq", "show", "audit-index", row["id"].as_str().unwrap()];
    words.extend(json.then_some("--json"));
    fleetctl(&variables, &words).await.ok()
}

#[tokio::test]
async fn a_body_that_travels_otherwise_is_shown_as_its_type() {
    let (rig, directory) = (Rig::new().await, tempfile::tempdir().unwrap());
    let config =
        ClaimConfig { claim_dir: Some(directory.path().to_owned()), ..ClaimConfig::default() };
    let store = open(&config).await.unwrap();
    let (zipped, body) =
        repacked(1, |_, body| Body::Gzip(Gzipped::new(body.len(), &packing::compress(body))));
    let text = body.to_string();
    let mut letters = vec![zipped];
    let mut claims = Vec::new();
    for at in [2, 3, 4, 5] {
        let inline = original(at, "acme");
        let envelope = Envelope::from_json(&inline).unwrap();
        let Body::Inline(plain) = &envelope.body else { panic!("packed") };
        let object = packing::compress(plain.get());
        let bytes = plain.get().len() as u64;
        let claim = store.put(&envelope.header.tenant, object).await.unwrap();
        claims.push((envelope.header, claim.clone()));
        letters.push(
            repacked(at, |_, _| Body::Claim(Claimed { claim, encoding: Encoding::Gzip, bytes })).0,
        );
    }
    rig.put(&letters).await;

    for at in [1, 2] {
        let shown = show(&rig, Some(&directory), at, true).await.lines().remove(0);
        let decoded = &shown["decoded"];
        assert_eq!((&decoded["type"], &decoded["not_decoded"]), (&"INDEX".into(), &Value::Null));
        assert_eq!(
            decoded["body"]["record"],
            serde_json::from_str::<Value>(&text).unwrap()["record"]
        );
    }
    let shown = show(&rig, Some(&directory), 2, false).await.out;
    assert!(shown.contains("body, as INDEX version 1, from object claims/acme/"), "{shown}");

    // Lost, changed, settled since.
    let [_, lost, changed, settled] = &claims[..] else { panic!("four") };
    store.remove(&lost.0.tenant, &lost.1).await.unwrap();
    std::fs::write(directory.path().join(&changed.1.key), b"another").unwrap();
    store.settle(&settled.0.tenant, &settled.1, settled.0.id).await.unwrap();
    for (at, why, fails_again) in
        [(3, "its body is gone", true), (4, "has 7 bytes", true), (5, "was settled since", false)]
    {
        let shown = show(&rig, Some(&directory), at, true).await.lines().remove(0);
        let told = shown["decoded"]["not_decoded"].as_str().unwrap();
        assert!(told.contains(why), "{at}: {told}");
        assert_eq!(shown["decoded"]["claim"]["key"], claims[at - 2].1.key.as_str());
        assert_eq!(shown["would_fail_again"].is_null(), !fails_again, "{at}: {shown}");
    }

    // No store, and another one.
    let elsewhere = tempfile::tempdir().unwrap();
    for (store, why) in
        [(None, "set CLAIM_BUCKET or CLAIM_DIR"), (Some(&elsewhere), "bodies are in")]
    {
        let shown = show(&rig, store, 2, false).await.out;
        assert!(shown.contains(why) && shown.contains(&claims[0].1.key), "{shown}");
        assert!(shown.contains(&envelope_id(2)), "the envelope is shown: {shown}");
    }
}
