//! What a queue holds back, and how it says so: messages in flight, groups beyond the lookahead, move
//! tasks. Small limits stand for the real ones, whose figures are checked here.

use sqs_emulator::operations::Receive;
use sqs_emulator::{Broker, BrokerConfig, Draft, ErrorKind, QueueArn, Request, limits};

use crate::support::{Bench, bodies, in_group};

fn bench(config: BrokerConfig) -> Bench {
    Bench { broker: Broker::new(config), now: 0 }
}

fn receive(queue: &QueueArn, wait: i64) -> Receive {
    Receive {
        queue: Some(queue.clone()),
        max: Some(10),
        wait_seconds: Some(wait),
        ..Receive::default()
    }
}

#[test]
fn the_limits_are_those_of_amazon() {
    let config = BrokerConfig::default();
    assert_eq!((config.in_flight_max, config.fifo_lookahead), (120_000, 120_000));
    assert_eq!(limits::MOVE_TASKS_RUNNING_MAX, 100);
    let strict = config.strict();
    assert_eq!((config.purge_interval_ms, config.recreate_interval_ms), (0, 0));
    assert_eq!((strict.purge_interval_ms, strict.recreate_interval_ms), (60_000, 60_000));
}

/// What a full flight answers: `None` is an error, else the number of messages.
#[test]
fn a_full_flight_is_an_error_only_for_a_short_poll_of_a_standard_queue() {
    for (fifo, wait, expected) in
        [(false, 0, None), (false, 1, Some(0)), (true, 0, Some(0)), (true, 1, Some(0))]
    {
        let mut bench = bench(BrokerConfig { in_flight_max: 3, ..BrokerConfig::default() });
        let queue = if fifo {
            bench.create("q.fifo", &[("FifoQueue", "true")])
        } else {
            bench.create("q", &[])
        };
        for n in 0..5 {
            let text = n.to_string();
            let draft = if fifo { in_group(&text, &text, &text) } else { Draft::text(&text) };
            bench.send(&queue, draft).unwrap();
        }
        let got = bench.receive_with(receive(&queue, wait)).unwrap();
        assert_eq!(got.len(), 3, "as many as there is room for");
        let full = bench.receive_with(receive(&queue, wait));
        match expected {
            Some(count) => assert_eq!(full.unwrap().len(), count, "fifo {fifo}, wait {wait}"),
            None => assert_eq!(full.unwrap_err().kind, ErrorKind::OverLimit),
        }
        bench.delete(&queue, &got[0].receipt).unwrap();
        assert_eq!(bench.receive_with(receive(&queue, wait)).unwrap().len(), 1, "room for one");
        bench.wait(31);
        assert_eq!(bench.receive_with(receive(&queue, wait)).unwrap().len(), 3, "leases ended");
    }
}

#[test]
fn a_queue_that_waits_by_itself_is_a_long_poll_and_no_error() {
    let mut bench = bench(BrokerConfig { in_flight_max: 1, ..BrokerConfig::default() });
    let queue = bench.create("q", &[("ReceiveMessageWaitTimeSeconds", "1")]);
    for body in ["a", "b"] {
        bench.send(&queue, Draft::text(body)).unwrap();
    }
    assert_eq!(bench.receive(&queue, 10, 30).len(), 1);
    assert!(bench.receive(&queue, 10, 30).is_empty());
    assert_eq!(bench.receive_with(receive(&queue, 0)).unwrap_err().kind, ErrorKind::OverLimit);
}

#[test]
fn groups_beyond_the_lookahead_wait_until_the_backlog_shrinks() {
    let mut bench = bench(BrokerConfig { fifo_lookahead: 3, ..BrokerConfig::default() });
    let queue = bench.create("q.fifo", &[("FifoQueue", "true")]);
    for n in 0..3 {
        bench.send(&queue, in_group(&format!("a{n}"), "a", &format!("a{n}"))).unwrap();
    }
    bench.send(&queue, in_group("b0", "b", "b0")).unwrap();
    let got = bench.receive(&queue, 1, 30);
    assert_eq!(bodies(&got), ["a0"]);
    assert!(bench.receive(&queue, 10, 30).is_empty(), "b is behind three messages of a");
    bench.delete(&queue, &got[0].receipt).unwrap();
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["b0", "a1", "a2"]);
    let purge = Request::PurgeQueue { queue: Some(queue.clone()) };
    bench.call(purge).unwrap();
    bench.send(&queue, in_group("c0", "c", "c0")).unwrap();
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["c0"]);
}

#[test]
fn a_hundred_move_tasks_run_at_once_and_no_more() {
    let mut bench = Bench::new();
    let mut start = |n: usize| {
        let dead = bench.create(&format!("dead{n}"), &[]);
        let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":1}}"#);
        bench.create(&format!("q{n}"), &[("RedrivePolicy", &policy)]);
        let source = Some(dead.as_str().to_owned());
        bench.call(Request::StartMessageMoveTask { source, destination: None, rate: Some(1) })
    };
    for n in 0..limits::MOVE_TASKS_RUNNING_MAX {
        start(n).unwrap();
    }
    assert_eq!(start(limits::MOVE_TASKS_RUNNING_MAX).unwrap_err().kind, ErrorKind::OverLimit);
}

#[test]
fn a_limit_per_group_needs_deduplication_per_group() {
    const LIMIT: (&str, &str) = ("FifoThroughputLimit", "perMessageGroupId");
    const SCOPE: (&str, &str) = ("DeduplicationScope", "messageGroup");
    let mut bench = Bench::new();
    let queue = bench.create("q.fifo", &[("FifoQueue", "true")]);
    for (attributes, good) in [
        (&[LIMIT][..], false),
        (&[LIMIT, ("DeduplicationScope", "queue")], false),
        (&[LIMIT, SCOPE], true),
        // What stays per group forbids the wider scope.
        (&[("DeduplicationScope", "queue")], false),
        (&[LIMIT], true),
        (&[("DeduplicationScope", "queue"), ("FifoThroughputLimit", "perQueue")], true),
        (&[SCOPE], true),
        (&[("FifoThroughputLimit", "perGroup")], false),
    ] {
        let set = bench.set(&queue, attributes);
        assert_eq!(set.is_ok(), good, "{attributes:?}");
        if let Err(error) = set {
            assert_eq!(error.kind, ErrorKind::InvalidAttributeValue);
        }
    }
    let refused = Request::CreateQueue {
        name: Some("r.fifo".to_owned()),
        attributes: crate::support::texts(&[("FifoQueue", "true"), LIMIT]),
        tags: [].into(),
    };
    assert_eq!(bench.call(refused).unwrap_err().kind, ErrorKind::InvalidAttributeValue);
}
