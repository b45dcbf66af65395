//! The decisions, one by one.

use contracts::EnvelopeId;
use contracts::audit::Requester;

use super::*;

const SALT: &str = "000102030405060708090a0b0c0d0e0f";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn record(tenant: &str, id: &str, recorded_at: &str, event: &str) -> Bytes {
    Bytes::from(format!(
        r#"{{"id":"{id}","tenant":"{tenant}","recorded_at":"{recorded_at}","class":"30d","source":{{"key_id":"k"}},"event":{event}}}"#
    ))
}

const EVENT: &str = r#"{"actor":{"type":"user","id":"u1"},"action":"a","metadata":{"n":"\u0000"}}"#;
/// The millisecond 2026-01-02T03:04:05.678Z.
const ID: &str = "019b7ca9-8f2e-7000-8000-000000000001";
const RECORDED: &str = "2026-01-02T03:04:05.678901Z";

#[test]
fn a_sound_record_is_admitted_with_its_own_bytes() {
    assert_eq!(
        contracts::ids::uuid_v7_at(at(RECORDED), [0; 10]).to_string()[..13],
        ID[..13],
        "the test's id is of the test's time"
    );
    let bytes = record("acme", ID, RECORDED, EVENT);
    let log = admit(&"acme".parse().unwrap(), bytes.clone(), SALT).unwrap();
    assert_eq!(log.record, bytes);
    assert_eq!(log.sha256[..], Sha256::digest(&bytes)[..]);
    assert_eq!(log.salt[15], 0x0f);
    assert_eq!(log.document.action, "a");
    assert_eq!(log.document.outcome, "unknown");
}

#[test]
fn what_could_never_be_stored_or_found_again_is_refused() {
    let acme: Tenant = "acme".parse().unwrap();
    let targets = |count: usize| {
        let list = vec![r#"{"type":"t","id":"i"}"#; count].join(",");
        format!(r#"{{"actor":{{"type":"user","id":"u"}},"action":"a","targets":[{list}]}}"#)
    };
    let refused = |bytes: Bytes, salt: &str| admit(&acme, bytes, salt).unwrap_err().to_string();
    assert!(refused(record("globex", ID, RECORDED, EVENT), SALT).contains("tenant globex"));
    let other_millisecond = "2026-01-02T03:04:05.679000Z";
    assert!(refused(record("acme", ID, other_millisecond, EVENT), SALT).contains("recorded_at"));
    let nanos = "2026-01-02T03:04:05.678901234Z";
    assert!(refused(record("acme", ID, nanos, EVENT), SALT).contains("microseconds"));
    assert!(refused(record("acme", ID, RECORDED, EVENT), "0f").contains("salt"));
    assert!(refused(record("acme", ID, RECORDED, "{}"), SALT).contains("actor"));
    let nul = r#"{"actor":{"type":"user","id":"u\u0000"},"action":"a"}"#;
    assert!(refused(record("acme", ID, RECORDED, nul), SALT).contains("U+0000"));
    assert!(admit(&acme, record("acme", ID, RECORDED, &targets(TARGETS_MAX)), SALT).is_ok());
    let over = refused(record("acme", ID, RECORDED, &targets(TARGETS_MAX + 1)), SALT);
    assert!(over.contains("33 targets"), "{over}");
    assert!(refused(Bytes::from_static(b"[]"), SALT).contains("record"));
}

#[test]
fn a_log_without_partition_waits_while_one_can_come() {
    let now = at("2026-06-15T12:00:00Z");
    let judge = |class, days: i64| unplaced(class, now + TimeDelta::days(days), now);
    assert_eq!(judge(RetentionClass::Days7, 0), Unplaced::Wait);
    assert_eq!(judge(RetentionClass::Days7, -7), Unplaced::Wait);
    assert_eq!(judge(RetentionClass::Days7, -8), Unplaced::Reject);
    assert_eq!(judge(RetentionClass::Days30, -8), Unplaced::Wait);
    assert_eq!(judge(RetentionClass::Years7, -2_000), Unplaced::Wait);
    assert_eq!(judge(RetentionClass::Days90, 14), Unplaced::Wait);
    assert_eq!(judge(RetentionClass::Days90, 15), Unplaced::Reject);
}

#[test]
fn a_change_waits_for_its_log_and_gives_up_at_last() {
    let waits: Vec<_> = (1..20).map_while(wait_for_log).collect();
    assert_eq!(waits.len(), 15);
    assert_eq!(waits[0], Duration::from_secs(1));
    assert_eq!(waits[9], Duration::from_secs(512));
    assert!(waits[10..].iter().all(|wait| *wait == MISSING_PAUSE_MAX));
    let minutes = waits.iter().sum::<Duration>().as_secs() / 60;
    assert!((90..=105).contains(&minutes), "{minutes}");
}

fn erasure(tenant: &str) -> NewErasure {
    NewErasure {
        tenant: tenant.parse().unwrap(),
        id: ID.parse().unwrap(),
        reason: "asked by \"the person\"\0".into(),
        requester: serde_json::json!({}),
        operation_id: EnvelopeId("019b7ca9-8f2e-7000-8000-00000000000a".parse().unwrap()),
        recorded_at: at("2026-01-02T03:04:05.678901234Z"),
    }
}

#[test]
fn an_erasure_writes_the_same_entries_each_time() {
    let requester = Requester { key_id: "k9".into(), ip: Some("192.0.2.1".into()) };
    let entries = |salt: u8| erasure_entries(&erasure("acme"), &requester, || [salt; 16]).unwrap();
    let (first, again) = (entries(1), entries(2));
    assert_eq!(first.len(), 2);
    let tenants: Vec<_> = first.iter().map(|log| log.key.tenant.as_str()).collect();
    assert_eq!(tenants, ["acme", "system"], "sorted, as inserts are");
    for (one, two) in first.iter().zip(&again) {
        assert_eq!((&one.key, &one.record), (&two.key, &two.record));
        assert_eq!(one.document.action, ERASED_ACTION);
        assert_eq!(one.document.targets[0].id, ID);
    }
    assert_ne!(first[0].key.id, first[1].key.id);
}

#[test]
fn an_erasure_by_the_system_itself_writes_one_entry() {
    let requester = Requester { key_id: "k9".into(), ip: None };
    let entries = erasure_entries(&erasure("system"), &requester, || [0; 16]).unwrap();
    assert_eq!(entries.len(), 1);
}
