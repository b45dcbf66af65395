//! What is no message of ours: each case is told apart, none panics.

use std::path::Path;

use contracts::audit::IndexMessage;
use contracts::legacy::{BareMessage, UNKNOWN_KIND, legacy_id};
use contracts::message::{Bare, in_envelope};
use contracts::{Body, DecodeError, Envelope, Message};
use proptest::prelude::*;

fn envelope(kind: &str, v: u32, body: &str) -> String {
    format!(
        r#"{{"v":{v},"type":"{kind}","id":"01941f29-7c01-7000-8000-000000000001","tenant":"acme","recorded_at":"2025-01-01T00:00:00Z","correlation_id":"r","body":{body}}}"#
    )
}

fn decode(text: &str) -> Result<IndexMessage, DecodeError> {
    let envelope = Envelope::from_json(text).unwrap();
    let Body::Inline(body) = &envelope.body else { panic!("inline") };
    IndexMessage::decode(&envelope.header, body)
}

#[test]
fn an_unknown_type_an_unknown_version_and_a_bad_body_are_three_errors() {
    assert_eq!(
        decode(&envelope("SHRED", 1, "{}")).unwrap_err(),
        DecodeError::UnknownType("SHRED".into())
    );
    assert_eq!(
        decode(&envelope("INDEX", 9, "{}")).unwrap_err(),
        DecodeError::UnknownVersion { kind: "INDEX".into(), version: 9 }
    );
    let DecodeError::Malformed { kind, reason } =
        decode(&envelope("INDEX", 1, r#"{"salt":7}"#)).unwrap_err()
    else {
        panic!("malformed")
    };
    assert_eq!(kind, "INDEX");
    assert!(reason.contains("expected a string"), "{reason}");
}

#[test]
fn a_body_and_a_claim_are_one_too_many_and_none_is_one_too_few() {
    let both = envelope("INDEX", 1, r#"{},"claim":{"bucket":"b","key":"k","sha256":"s","size":1}"#);
    assert!(Envelope::from_json(&both).unwrap_err().to_string().contains("both"));
    let neither = envelope("INDEX", 1, "null");
    assert!(Envelope::from_json(&neither).unwrap_err().to_string().contains("neither"));
}

#[test]
fn a_bare_message_is_understood_on_the_legacy_queue_and_keeps_its_identity() {
    let text = r#"{"type":"INDEX","tenant_id":"acme","data":{"action":"login"},"more":1}"#;
    let sent_at = "2025-01-01T00:00:00Z".parse().unwrap();
    let from = Bare { message_id: "5fea7756-0ea4-451a-a703-a558b933e274", sent_at };
    let (header, message) = BareMessage::decode_bare(text, &from).unwrap().unwrap();
    let (again, _) = BareMessage::decode_bare(text, &from).unwrap().unwrap();
    assert_eq!(header.id.0, legacy_id(from.message_id));
    assert_eq!(header, again);
    assert_eq!(header.tenant.as_str(), "acme");
    assert_eq!(message.data.get(), r#"{"action":"login"}"#);
    assert!(IndexMessage::decode_bare(text, &from).is_none(), "not on the index queue");
}

#[test]
fn a_bare_message_in_an_envelope_is_the_same_message_word_for_word() {
    let text =
        "{\"type\":\"INDEX\", \"tenant_id\":\"acme\",\"data\":{\"n\":1e400,\"é\":1},\"more\":1}";
    let sent_at = "2025-01-01T00:00:00.123Z".parse().unwrap();
    let from = Bare { message_id: "5fea7756-0ea4-451a-a703-a558b933e274", sent_at };
    let (header, message) = BareMessage::decode_bare(text, &from).unwrap().unwrap();

    let wrapped = in_envelope::<BareMessage>(text, &from).unwrap();
    let Envelope { header: again, body } = Envelope::from_json(&wrapped).unwrap();
    let Body::Inline(body) = body else { panic!("inline") };
    assert_eq!((again, body.get()), (header.clone(), text));
    assert_eq!(BareMessage::decode(&header, &body).unwrap().data.get(), message.data.get());

    let elsewhere = Bare { message_id: "another", sent_at };
    assert_eq!(in_envelope::<BareMessage>(&wrapped, &elsewhere), None, "it has its identity");
    assert_eq!(in_envelope::<IndexMessage>(text, &from), None, "not on the index queue");
    assert_eq!(in_envelope::<BareMessage>("not json", &from), None);
}

#[test]
fn a_bare_message_of_an_unknown_type_is_one_that_says_so_and_other_text_is_none() {
    let from = Bare { message_id: "m", sent_at: "2025-01-01T00:00:00Z".parse().unwrap() };
    let unknown = r#"{"type":"SHRED","tenant_id":"acme","data":{}}"#;
    let (header, message) = BareMessage::decode_bare(unknown, &from).unwrap().unwrap();
    assert_eq!((header.kind.as_str(), message.kind()), (UNKNOWN_KIND, UNKNOWN_KIND));
    assert_eq!(message.kind, "SHRED");
    // Redriven it travels in an envelope, and is the same.
    let wrapped = in_envelope::<BareMessage>(unknown, &from).unwrap();
    let Envelope { header: again, body: Body::Inline(body) } =
        Envelope::from_json(&wrapped).unwrap()
    else {
        panic!("inline")
    };
    assert_eq!(again, header);
    assert_eq!(BareMessage::decode(&header, &body).unwrap().kind(), UNKNOWN_KIND);
    assert!(BareMessage::decode_bare("not json", &from).is_none());
    assert!(BareMessage::decode_bare(r#"{"type":"INDEX"}"#, &from).is_none());
}

#[test]
fn every_type_of_the_newer_queues_is_known_on_the_legacy_queue() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let types = std::fs::read_dir(golden).unwrap();
    let types = types.map(|entry| entry.unwrap().file_name().to_string_lossy().to_uppercase());
    let mut known = 0;
    for kind in types.filter(|kind| kind != "PACKED") {
        let text = format!(r#"{{"type":"{kind}","tenant_id":"acme","data":{{}}}}"#);
        let from = Bare { message_id: "m", sent_at: "2025-01-01T00:00:00Z".parse().unwrap() };
        let (_, message) = BareMessage::decode_bare(&text, &from).unwrap().unwrap();
        assert_eq!(message.kind(), kind);
        known += 1;
    }
    assert_eq!(known, 13);
}

#[test]
fn an_envelope_cannot_lend_a_listed_tenants_name_to_another() {
    let decode = |tenant: &str| {
        let body = format!(r#"{{"type":"DELETE","tenant_id":"{tenant}","data":{{}}}}"#);
        let envelope = Envelope::from_json(&envelope("DELETE", 1, &body)).unwrap();
        let Body::Inline(body) = &envelope.body else { panic!("inline") };
        BareMessage::decode(&envelope.header, body)
    };
    assert_eq!(decode("acme").unwrap().tenant_id.as_str(), "acme");
    let DecodeError::Malformed { reason, .. } = decode("listed").unwrap_err() else {
        panic!("malformed")
    };
    assert!(reason.contains("listed") && reason.contains("acme"), "{reason}");
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in ".{0,200}", kind in "[A-Z_]{0,12}", v in 0u32..4, body in ".{0,80}") {
        let _ = Envelope::from_json(&text);
        let from = Bare { message_id: &kind, sent_at: chrono::DateTime::UNIX_EPOCH };
        let _ = BareMessage::decode_bare(&text, &from);
        if let Ok(read) = Envelope::from_json(&envelope(&kind, v, &body))
            && let Body::Inline(body) = &read.body
        {
            let _ = IndexMessage::decode(&read.header, body);
        }
    }

    #[test]
    fn a_tenant_is_its_pattern(text in "[a-z0-9A-Z_-]{0,70}") {
        let valid = text.len() <= 63
            && text.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        prop_assert_eq!(text.parse::<contracts::Tenant>().is_ok(), valid);
    }
}
