//! What the journal and a snapshot hold is the state: a broker made from either cannot be told from
//! the one that lived through it.

use proptest::prelude::*;
use sqs_emulator::model::{AttributeValue, MessageAttribute};
use sqs_emulator::operations::Receive;
use sqs_emulator::{Broker, BrokerConfig, Draft, QueueArn, QueueId, Request};

use crate::support::{Bench, in_group, texts};

/// Every queue of a test, after time has passed for it.
fn snapshot(broker: &mut Broker, now: i64) -> Vec<u8> {
    for queue in 1..=4 {
        broker.ready(now, QueueId(queue));
    }
    let mut bytes = Vec::new();
    broker
        .snapshot(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    bytes
}

fn check(bench: &mut Bench, journal: &[u8]) {
    let live = snapshot(&mut bench.broker, bench.now);
    let mut replayed = Broker::new(BrokerConfig::default());
    replayed.replay(journal).unwrap();
    assert!(snapshot(&mut replayed, bench.now) == live, "the journal gives another state");
    let mut restored = Broker::new(BrokerConfig::default());
    restored.replay(&live).unwrap();
    assert!(snapshot(&mut restored, bench.now) == live, "the snapshot gives another state");
}

fn queues(bench: &mut Bench) -> [QueueArn; 4] {
    let dead = bench.create("dead", &[]);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":2}}"#);
    let queue = bench.create("q", &[("RedrivePolicy", &policy), ("MessageRetentionPeriod", "60")]);
    let fifo =
        bench.create("q.fifo", &[("FifoQueue", "true"), ("DeduplicationScope", "messageGroup")]);
    bench.set(&fifo, &[("DeduplicationScope", "queue")]).unwrap();
    let gone = bench.create("gone", &[]);
    bench.call(Request::DeleteQueue { queue: Some(gone.clone()) }).unwrap();
    bench
        .call(Request::TagQueue { queue: Some(dead.clone()), tags: texts(&[("k", "v")]) })
        .unwrap();
    [dead, queue, fifo, gone]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn journal_and_snapshot_are_the_state(
        steps in prop::collection::vec((0_u8..8, 0_u8..4, 0_i64..20), 1..80)
    ) {
        let mut bench = Bench::new();
        bench.broker.keep_journal();
        let [dead, queue, fifo, _] = queues(&mut bench);
        let mut receipts = Vec::new();
        for (number, (step, which, seconds)) in steps.into_iter().enumerate() {
            let target = if which % 2 == 0 { &queue } else { &fifo };
            match step {
                0 | 1 => {
                    let mut draft = in_group(&number.to_string(), &which.to_string(), &(number % 7).to_string());
                    draft.attributes = vec![MessageAttribute {
                        name: "a".to_owned(),
                        data_type: "Binary.x".to_owned(),
                        value: Some(AttributeValue::Binary(vec![which, 255].into())),
                    }];
                    draft.trace_header = Some("Root=1".to_owned());
                    if target == &queue {
                        draft = Draft { deduplication: None, delay_seconds: Some(seconds), ..draft };
                    }
                    bench.send(target, draft).unwrap();
                }
                2 | 3 => {
                    let receive = Receive {
                        queue: Some(target.clone()),
                        max: Some(3),
                        visibility_seconds: Some(seconds),
                        attempt: Some(which.to_string()),
                        ..Receive::default()
                    };
                    let got = bench.receive_with(receive).unwrap();
                    receipts.extend(got.into_iter().map(|got| (target.clone(), got.receipt)));
                }
                4 => if let Some((queue, receipt)) = receipts.pop() {
                    // Late handles are errors on FIFO: also a step.
                    let _ignored = bench.delete(&queue, &receipt);
                },
                5 => if let Some((queue, receipt)) = receipts.last().cloned() {
                    let _ignored = bench.hide(&queue, &receipt, seconds);
                },
                6 => bench.wait(seconds),
                _ => {
                    let source = Some(dead.as_str().to_owned());
                    let start = Request::StartMessageMoveTask { source, destination: None, rate: Some(1 + seconds) };
                    let _ignored = bench.call(start);
                    bench.broker.advance(bench.now);
                }
            }
        }
        let journal = bench.broker.take_journal();
        check(&mut bench, &journal);
    }
}

#[test]
fn the_same_seed_gives_the_same_replies() {
    let run = || {
        let mut bench = Bench::new();
        let queue = bench.create("q", &[]);
        let sent = bench.send(&queue, Draft::text("one")).unwrap();
        let got = bench.receive(&queue, 1, 30).remove(0);
        (sent.id, got.receipt)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_foreign_record_is_an_error_not_a_crash() {
    let mut broker = Broker::new(BrokerConfig::default());
    assert!(broker.replay(&[200, 1, 2, 3]).is_err());
    assert!(broker.replay(&[6, 1]).is_err());
    assert!(broker.replay(&[1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).is_err());
}
