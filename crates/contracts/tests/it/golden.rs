//! One golden envelope per message type and version. To change a shape: raise the version, run with
//! `UPDATE_GOLDEN=1`, commit the new file beside the old ones.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use contracts::audit::{BulkIndex, Delete, IndexMessage, LogItem, Requester, Update};
use contracts::{Body, Envelope, EnvelopeId, Header, LogId, Message};
use serde_json::value::RawValue;

const RECORD: &str = r#"{"id":"01941f29-7c00-7aaa-8bbb-123456789abc","tenant":"acme","recorded_at":"2025-01-01T00:00:00.123456Z","class":"90d","source":{"key_id":"k1","ip":"192.0.2.7","user_agent":"curl/8"},"event":{"actor":{"type":"user","id":"u-1","name":"Zo\u00eb"},"action":"invoice.paid","targets":[{"type":"invoice","id":"i-9"}],"outcome":"success","metadata":{"amount":12.50}}}"#;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn header() -> Header {
    Header {
        v: 0,
        kind: String::new(),
        id: EnvelopeId("01941f29-7c01-7000-8000-000000000001".parse().unwrap()),
        tenant: "acme".parse().unwrap(),
        recorded_at: time("2025-01-01T00:00:00.123456Z"),
        correlation_id: "req-1".into(),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    }
}

fn item() -> LogItem {
    LogItem {
        salt: "000102030405060708090a0b0c0d0e0f".into(),
        record: RawValue::from_string(RECORD.into()).unwrap(),
    }
}

fn requester() -> Requester {
    Requester { key_id: "k1".into(), ip: Some("192.0.2.7".into()) }
}

fn log_id() -> LogId {
    "01941f29-7c00-7aaa-8bbb-123456789abc".parse().unwrap()
}

fn samples() -> Vec<IndexMessage> {
    let recorded_at = time("2025-01-02T03:04:05.000006Z");
    vec![
        IndexMessage::Index(item()),
        IndexMessage::BulkIndex(BulkIndex { items: vec![item(), item()] }),
        IndexMessage::Update(Update {
            log_id: log_id(),
            tags: Some(vec!["reviewed".into()]),
            annotation: Some("checked by Zo\u{eb}".into()),
            requester: requester(),
            recorded_at,
        }),
        IndexMessage::Delete(Delete {
            log_id: log_id(),
            reason: "erasure request 17".into(),
            requester: requester(),
            recorded_at,
        }),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn what_is_written_equals_the_golden_file_of_its_version() {
    for message in samples() {
        let written = Envelope::wrap(header(), &message).unwrap().to_json().unwrap() + "\n";
        let kind = message.kind().to_lowercase();
        let path = folder().join(kind).join(format!("v{}.json", message.version()));
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &written).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; a new type or version needs its golden file", path.display())
        });
        assert_eq!(written, golden, "{} changed its shape without a new version", path.display());
    }
}

#[test]
fn every_golden_file_reads_and_writes_back_to_the_byte() {
    let mut read = 0;
    for kind in std::fs::read_dir(folder()).unwrap() {
        let kind = kind.unwrap().path();
        if kind.ends_with("packed") {
            continue;
        }
        for file in std::fs::read_dir(kind).unwrap() {
            let path = file.unwrap().path();
            let golden = std::fs::read_to_string(&path).unwrap();
            let envelope = Envelope::from_json(golden.trim_end()).unwrap();
            let Body::Inline(body) = &envelope.body else { panic!("{}", path.display()) };
            let message = IndexMessage::decode(&envelope.header, body).unwrap();
            let again = Envelope::wrap(envelope.header.clone(), &message).unwrap();
            assert_eq!(again.to_json().unwrap(), golden.trim_end(), "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= samples().len());
}

#[test]
fn unknown_fields_are_ignored_and_the_record_keeps_its_bytes() {
    let text = Envelope::wrap(header(), &samples()[0]).unwrap().to_json().unwrap();
    let newer = text.replacen('{', r#"{"added_next_year":[1,2],"#, 1);
    let newer = newer.replacen(r#""salt""#, r#""hue":"blue","salt""#, 1);
    let envelope = Envelope::from_json(&newer).unwrap();
    let Body::Inline(body) = &envelope.body else { panic!("inline") };
    let IndexMessage::Index(item) = IndexMessage::decode(&envelope.header, body).unwrap() else {
        panic!("INDEX")
    };
    assert_eq!(item.record.get(), RECORD);
}
