//! One golden envelope per message type and version. To change a shape: raise the version, run with
//! `UPDATE_GOLDEN=1`, commit the new file beside the old ones.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::{
    ArchiveByDate, ArchiveByPolicy, ArchiveMessage, BulkArchive, CleanupArchived, CleanupByPolicy,
    CleanupExpired, CleanupMessage, EvaluatePolicy, PolicyNotification, RetentionMessage, RunEvent,
    ScheduleRetention, Then,
};
use contracts::audit::{BulkIndex, Delete, IndexMessage, LogItem, Requester, Update};
use contracts::{Body, DecodeError, Envelope, EnvelopeId, Header, LogId, Message};
use serde_json::value::RawValue;
use uuid::Uuid;

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

const POLICY: Uuid = Uuid::from_u128(0x0194_1f29_7c02_7000_8000_0000_0000_00b0);
const RUN: Uuid = Uuid::from_u128(0x0194_1f29_7c03_7000_8000_0000_0000_00b1);
const UNIT: Uuid = Uuid::from_u128(0x0194_1f29_7c04_7000_8000_0000_0000_00b2);

fn archive() -> Vec<ArchiveMessage> {
    let (from, to) = (time("2025-01-01T00:00:00Z"), time("2025-02-01T00:00:00Z"));
    vec![
        ArchiveMessage::ByPolicy(ArchiveByPolicy {
            run_id: RUN,
            unit_id: UNIT,
            policy_id: POLICY,
            policy_version: 3,
        }),
        ArchiveMessage::ByDate(ArchiveByDate {
            run_id: RUN,
            from,
            to,
            then: Then::ArchiveAndDelete,
            requester: requester(),
        }),
        ArchiveMessage::Bulk(BulkArchive {
            run_id: RUN,
            log_ids: vec![log_id()],
            then: Then::Archive,
            requester: requester(),
        }),
    ]
}

fn cleanup() -> Vec<CleanupMessage> {
    vec![
        CleanupMessage::Archived(CleanupArchived {
            run_id: RUN,
            unit_id: UNIT,
            manifest_sequence: 17,
            manifest_sha256: "ab".repeat(32),
        }),
        CleanupMessage::ByPolicy(CleanupByPolicy {
            run_id: RUN,
            unit_id: UNIT,
            policy_id: POLICY,
            policy_version: 3,
        }),
        CleanupMessage::Expired(CleanupExpired {
            run_id: RUN,
            policy_id: POLICY,
            policy_version: 3,
            manifest_sequence: 17,
            object: "archive/acme/year=2025/month=01/day=01/hour=00/part-00001.ndjson.zst".into(),
        }),
    ]
}

fn retention() -> Vec<RetentionMessage> {
    vec![
        RetentionMessage::Schedule(ScheduleRetention {
            policy_id: POLICY,
            slot: time("2025-03-30T01:30:00Z"),
        }),
        RetentionMessage::Evaluate(EvaluatePolicy { policy_id: POLICY, run_id: RUN }),
        RetentionMessage::Notify(PolicyNotification {
            policy_id: POLICY,
            run_id: RUN,
            event: RunEvent::Braked,
            target: 1,
        }),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn each_equals_its_golden_file<M: Message>(samples: Vec<M>) {
    for message in samples {
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
fn what_is_written_equals_the_golden_file_of_its_version() {
    each_equals_its_golden_file(samples());
    each_equals_its_golden_file(archive());
    each_equals_its_golden_file(cleanup());
    each_equals_its_golden_file(retention());
}

/// The envelope as this build writes what it has read; `None` for another queue's message.
fn read_and_written<M: Message>(envelope: &Envelope) -> Option<String> {
    let Body::Inline(body) = &envelope.body else { panic!("inline") };
    match M::decode(&envelope.header, body) {
        Ok(message) => {
            let again = Envelope::wrap(envelope.header.clone(), &message).unwrap();
            Some(again.to_json().unwrap())
        }
        Err(DecodeError::UnknownType(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_golden_file_reads_and_writes_back_to_the_byte_on_one_queue() {
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
            let queues = [
                read_and_written::<IndexMessage>(&envelope),
                read_and_written::<ArchiveMessage>(&envelope),
                read_and_written::<CleanupMessage>(&envelope),
                read_and_written::<RetentionMessage>(&envelope),
            ];
            let written: Vec<String> = queues.into_iter().flatten().collect();
            assert_eq!(written, [golden.trim_end()], "{}", path.display());
            read += 1;
        }
    }
    let samples = samples().len() + archive().len() + cleanup().len() + retention().len();
    assert!(read >= samples);
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
