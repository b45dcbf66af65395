//! Duty 7: a dead letter says everything, is sent before the original is settled, and a bad part of
//! a bulk message becomes one of its own.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::{ErrorCode, errors};
use queue_core::attempts::RecordedFailure;
use queue_core::dead_letter::{EnvelopeSummary, OnDeadLetterQueue, Parent};
use queue_core::delivery::reject::{CODE_ATTRIBUTE, REASON_ATTRIBUTE};
use queue_core::{DeadLetter, DriverError, Failure, Reason, RejectedPart};

use crate::broker_driver::{Fault, Kind};
use crate::rig::{QUEUE, Rig, Seen, bare, envelope, header};

fn reason(code: ErrorCode, message: &str) -> Reason {
    Reason { code, message: message.into() }
}

fn reject(message: &str) -> Failure {
    Failure::Reject(reason(errors::REJECTED_BY_STORE, message))
}

fn sample() -> DeadLetter {
    DeadLetter {
        flotilla_dead_letter: 1,
        queue: "jobs-queue".into(),
        worker: "test-worker 0.1.0".into(),
        code: "failures-exhausted".into(),
        message: "insert logs: value too long for Zo\u{eb}".into(),
        fingerprint: "0123456789abcdef".into(),
        message_id: "5fea7756-0ea4-451a-a703-a558b933e274".into(),
        envelope: Some(EnvelopeSummary::from(&header(1))),
        parent: Some(Parent { id: "p-1".into(), message_id: "m-1".into(), index: 4 }),
        failures: 1,
        receives: 2,
        attempts: vec![RecordedFailure {
            at: "2026-01-01T00:00:01Z".parse().unwrap(),
            code: "internal".into(),
            error: "a: b: c".into(),
            worker: "test-worker 0.1.0".into(),
            counts: true,
            receives: 2,
        }],
        first_seen: "2026-01-01T00:00:00Z".parse().unwrap(),
        rejected_at: "2026-01-01T00:00:02.000003Z".parse().unwrap(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        group: Some("acme".into()),
        edits: Vec::new(),
        attributes: vec![("type".into(), "JOB".into())],
        body: "{\"v\":1,\"type\":\"JOB\"}".into(),
    }
}

/// To change the shape: raise the version, run with `UPDATE_GOLDEN=1`, commit the new file beside the
/// old one.
#[test]
fn the_wire_shape_is_pinned() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/dead_letter/v1.json");
    let written = sample().to_json().unwrap();
    assert!(written.is_ascii());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{written}\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(golden.trim_end(), written);
    assert_eq!(DeadLetter::from_json(&golden).unwrap(), sample());
    let newer = golden.replacen('{', "{\"from_the_future\":1,", 1);
    assert_eq!(DeadLetter::from_json(&newer).unwrap(), sample(), "unknown fields are ignored");
}

#[test]
fn raw_bodies_are_read_as_such() {
    for raw in ["", "not json", "{}", "[1]", &envelope(1)] {
        assert_eq!(DeadLetter::read(raw), OnDeadLetterQueue::Raw(raw.into()));
    }
    let letter = DeadLetter::read(&sample().to_json().unwrap());
    assert_eq!(letter, OnDeadLetterQueue::Letter(Box::new(sample())));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_keeps_everything_and_is_settled_after_its_letter() {
    let rig = Rig::new();
    rig.fill(5..6);
    tokio::time::sleep(Duration::from_secs(90)).await;
    let running = rig.start(|_| async { Err(reject("column 7 is too long")) });
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    assert_eq!(letter.queue, QUEUE.name);
    assert!(letter.worker.starts_with("test-worker "));
    assert_eq!(letter.code, "rejected-by-store");
    assert_eq!(letter.message, "column 7 is too long");
    assert_eq!(letter.envelope, Some(EnvelopeSummary::from(&header(5))));
    assert_eq!((letter.failures, letter.receives, letter.parent), (0, 1, None));
    assert_eq!(letter.rejected_at - letter.first_seen, chrono::TimeDelta::seconds(90));
    assert_eq!(letter.body, envelope(5), "verbatim");
    let (sent, deleted) = (rig.dlq.calls(Kind::Send), rig.queue.calls(Kind::Settle));
    assert!(sent[0].at <= deleted[0].at);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bare_message_keeps_its_identity_when_it_is_redriven() {
    let rig = Rig::new();
    rig.queue.put(&bare(7));
    let ids = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let ids = Arc::clone(&ids);
        move |delivery| {
            let mut ids = ids.lock().unwrap();
            ids.push((delivery.header.id, delivery.header.recorded_at, delivery.message));
            let first = ids.len() == 1;
            async move { if first { Err(reject("no")) } else { Ok(()) } }
        }
    });
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.queue.put(&letter.body);
    rig.until("handled again", || ids.lock().unwrap().len() == 2).await;
    let ids = ids.lock().unwrap().clone();
    assert_eq!(ids[0], ids[1], "the same message, although the broker gave it another id");
    assert_eq!(letter.envelope.unwrap().id, ids[0].0.to_string());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_dead_letter_queue_is_down_nothing_is_deleted() {
    let rig = Rig::new();
    rig.fill(0..5);
    let until = Duration::from_secs(1_200);
    rig.dlq.script(move |call| match call.kind {
        Kind::Send if call.at < until => Fault::Refuse(DriverError::Unavailable("down".into())),
        _ => Fault::None,
    });
    let running = rig.start(|_| async { Err(reject("no")) });
    tokio::time::sleep(until).await;
    let depth = rig.queue.depth();
    assert_eq!(depth.visible + depth.in_flight, 5);
    assert!(rig.queue.calls(Kind::Settle).is_empty());
    rig.until_empty().await;
    assert_eq!(rig.letters().len(), 5);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_not_sent_twice_when_the_delete_fails() {
    let rig = Rig::new();
    rig.fill(0..5);
    rig.queue.script(|call| match call.kind {
        Kind::Settle if call.at < Duration::from_secs(45) => {
            Fault::Refuse(DriverError::Unavailable("down".into()))
        }
        _ => Fault::None,
    });
    let running = rig.start(|_| async { Err(reject("no")) });
    rig.until_empty().await;
    assert_eq!(rig.letters().len(), 5);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bad_parts_become_dead_letters_of_their_own_and_the_rest_is_acknowledged() {
    let rig = Rig::new();
    rig.fill(3..4);
    let seen = Seen::default();
    let running = rig.start({
        let seen = seen.clone();
        move |delivery| {
            seen.note(&delivery);
            for index in [1, 4] {
                delivery.reject_part(RejectedPart {
                    index,
                    envelope_json: envelope(100 + index as u64),
                    reason: reason(errors::REJECTED_BY_SEARCH, "mapping"),
                });
            }
            // The first try fails: its parts are not sent.
            let first = seen.count() == 1;
            async move { if first { Err(reject_later()) } else { Ok(()) } }
        }
    });
    rig.until_empty().await;
    let mut letters = rig.letters();
    letters.sort_by_key(|letter| letter.parent.as_ref().unwrap().index);
    assert_eq!(letters.len(), 2, "once each, although the message was handled twice");
    for (letter, index) in letters.iter().zip([1, 4]) {
        let parent = letter.parent.clone().unwrap();
        assert_eq!((parent.id, parent.index), (header(3).id.to_string(), index));
        assert_eq!(letter.code, "rejected-by-search");
        assert_eq!(letter.body, envelope(100 + index as u64), "redriving it redoes only this item");
        assert_eq!(letter.envelope.as_ref().unwrap().id, header(100 + index as u64).id.to_string());
    }
    assert_eq!(running.status.snapshot().totals.settled, 1);
    assert_eq!(running.status.snapshot().totals.dead_lettered, 2);
    running.stop().await;
}

fn reject_later() -> Failure {
    crate::rig::handling("not yet")
}

#[tokio::test(start_paused = true)]
async fn parts_that_cannot_be_sent_keep_the_message() {
    let rig = Rig::new();
    rig.fill(0..1);
    let until = Duration::from_secs(600);
    rig.dlq.script(move |call| match call.kind {
        Kind::Send if call.at < until => Fault::Refuse(DriverError::Unavailable("down".into())),
        _ => Fault::None,
    });
    let running = rig.start(|delivery| {
        delivery.reject_part(RejectedPart {
            index: 0,
            envelope_json: envelope(9),
            reason: reason(errors::REJECTED_BY_SEARCH, "mapping"),
        });
        async { Ok(()) }
    });
    tokio::time::sleep(until).await;
    assert!(rig.queue.calls(Kind::Settle).is_empty());
    rig.until_empty().await;
    assert_eq!(rig.letters().len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_too_large_for_the_broker_travels_as_the_original() {
    let rig = Rig::new();
    // Quotes double when they are wrapped.
    let large = format!("{{{}", "\"".repeat(1_048_000));
    rig.queue.put(&large);
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    let letter = rig.dlq.take(1, Duration::from_secs(1)).remove(0);
    assert_eq!(letter.body, large);
    let attribute =
        |name| letter.attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    assert_eq!(attribute(CODE_ATTRIBUTE), Some("message-not-json"));
    assert!(attribute(REASON_ATTRIBUTE).is_some_and(|reason| reason.contains("not an envelope")));
    running.stop().await;
}
