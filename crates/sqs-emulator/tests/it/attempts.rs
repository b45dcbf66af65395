//! `ReceiveRequestAttemptId`: what a repeated receive gets, for each thing that may have happened since.

use proptest::prelude::*;
use sqs_emulator::model::Delivery;
use sqs_emulator::operations::Receive;
use sqs_emulator::{ErrorKind, QueueArn, Request};

use crate::support::{Bench, bodies, in_group};

fn receive(queue: &QueueArn, attempt: &str, max: i64) -> Receive {
    Receive {
        queue: Some(queue.clone()),
        max: Some(max),
        visibility_seconds: Some(30),
        attempt: Some(attempt.to_owned()),
        ..Receive::default()
    }
}

fn queue(bench: &mut Bench) -> QueueArn {
    let queue = bench.create("q.fifo", &[("FifoQueue", "true")]);
    for n in 0..4 {
        bench.send(&queue, in_group(&n.to_string(), "g", &n.to_string())).unwrap();
    }
    queue
}

type Between = fn(&mut Bench, &QueueArn, &[Delivery]);

#[test]
fn a_repeat_gets_the_same_set_or_a_fresh_look() {
    let cases: [(&str, Between, &[&str]); 8] = [
        ("nothing", |_, _, _| {}, &["0", "1"]),
        (
            "a new send",
            |bench, queue, _| {
                bench.send(queue, in_group("new", "g", "new")).unwrap();
            },
            &["0", "1"],
        ),
        ("a delete", |bench, queue, got| bench.delete(queue, &got[0].receipt).unwrap(), &[]),
        (
            "a change of visibility",
            |bench, queue, got| {
                bench.hide(queue, &got[1].receipt, 31).unwrap();
            },
            &[],
        ),
        (
            "a release",
            |bench, queue, got| {
                for got in got {
                    bench.hide(queue, &got.receipt, 0).unwrap();
                }
            },
            &["0", "1"],
        ),
        ("the end of the lease", |bench, _, _| bench.now += 30_000, &["0", "1"]),
        (
            "a purge",
            |bench, queue, _| {
                bench.call(Request::PurgeQueue { queue: Some(queue.clone()) }).unwrap();
            },
            &[],
        ),
        ("another queue's lease ends", |bench, _, _| bench.now += 29_999, &["0", "1"]),
    ];
    for (what, between, expected) in cases {
        let mut bench = Bench::new();
        let queue = queue(&mut bench);
        let first = bench.receive_with(receive(&queue, "one", 2)).unwrap();
        assert_eq!(bodies(&first), ["0", "1"]);
        between(&mut bench, &queue, &first);
        let again = bench.receive_with(receive(&queue, "one", 2)).unwrap();
        assert_eq!(bodies(&again), expected, "{what}");
        let same = ["nothing", "a new send", "another queue's lease ends"].contains(&what);
        assert_eq!(again == first, same, "{what}: handles and counts");
    }
}

#[test]
fn a_repeat_renews_the_lease_and_does_not_count_as_a_receive() {
    let mut bench = Bench::new();
    let queue = queue(&mut bench);
    let first = bench.receive_with(receive(&queue, "one", 1)).unwrap();
    for _ in 0..5 {
        bench.wait(29);
        assert_eq!(bench.receive_with(receive(&queue, "one", 1)).unwrap(), first);
    }
    bench.delete(&queue, &first[0].receipt).unwrap();
    assert_eq!(bench.depth(&queue), [3, 0, 0]);
}

#[test]
fn an_attempt_is_forgotten_five_minutes_after_its_first_receive() {
    for (ms, same) in [(299_999, true), (300_000, false)] {
        let mut bench = Bench::new();
        let queue = queue(&mut bench);
        let long = Receive { visibility_seconds: Some(3_600), ..receive(&queue, "one", 1) };
        let first = bench.receive_with(long.clone()).unwrap();
        bench.wait(100);
        assert_eq!(bench.receive_with(long.clone()).unwrap(), first, "a repeat does not extend it");
        bench.now = 1_000_000 + ms;
        assert_eq!(bench.receive_with(long).unwrap() == first, same, "after {ms} ms");
    }
}

#[test]
fn attempts_mean_nothing_on_a_standard_queue_and_must_be_well_formed() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, sqs_emulator::Draft::text("m")).unwrap();
    assert_eq!(bench.receive_with(receive(&queue, "one", 1)).unwrap().len(), 1);
    assert!(bench.receive_with(receive(&queue, "one", 1)).unwrap().is_empty());
    for (attempt, good) in [
        ("x".repeat(128), true),
        ("x".repeat(129), false),
        (String::new(), false),
        ("a b".to_owned(), false),
    ] {
        let result = bench.receive_with(receive(&queue, &attempt, 1));
        assert_eq!(result.is_ok(), good, "{attempt}");
        if let Err(error) = result {
            assert_eq!(error.kind, ErrorKind::InvalidParameterValue);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Losing any number of replies and asking again loses and doubles nothing.
    #[test]
    fn lost_replies_are_asked_for_again(
        groups in prop::collection::vec(0_u8..3, 1..40),
        losses in prop::collection::vec((0_usize..3, 1_i64..=10), 1..60),
    ) {
        let mut bench = Bench::new();
        let queue = bench.create("q.fifo", &[("FifoQueue", "true")]);
        for (n, group) in groups.iter().enumerate() {
            bench.send(&queue, in_group(&n.to_string(), &group.to_string(), &n.to_string())).unwrap();
        }
        let mut done = Vec::new();
        for (attempt, (lost, max)) in losses.iter().cycle().take(200).enumerate() {
            let receive = receive(&queue, &attempt.to_string(), *max);
            let mut got = bench.receive_with(receive.clone()).unwrap();
            for _ in 0..*lost {
                bench.wait(1);
                let again = bench.receive_with(receive.clone()).unwrap();
                prop_assert_eq!(&again, &got);
                got = again;
            }
            for delivery in got {
                prop_assert_eq!(delivery.receives, 1);
                bench.delete(&queue, &delivery.receipt).unwrap();
                done.push(delivery.message.body.parse::<usize>().unwrap());
            }
        }
        let in_order = |group: u8| {
            let of = |n: &&usize| groups[**n] == group;
            done.iter().filter(of).is_sorted()
        };
        prop_assert!((0..3).all(in_order));
        done.sort_unstable();
        prop_assert_eq!(done, (0..groups.len()).collect::<Vec<_>>());
    }
}
