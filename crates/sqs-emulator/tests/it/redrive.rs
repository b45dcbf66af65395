//! Dead-letter queues: who may send to one, how long a dead letter is kept there, and the tasks that
//! move them back.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sqs_emulator::broker::inspect::MessageWindow;
use sqs_emulator::operations::{MoveStatus, MoveTaskView};
use sqs_emulator::{Draft, ErrorKind, QueueArn, Request, Response, SqsError};

use crate::support::{Bench, bodies, in_group};

fn policy(dead: &QueueArn, receives: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":{receives}}}"#)
}

fn start(
    bench: &mut Bench,
    source: &QueueArn,
    destination: Option<&QueueArn>,
    rate: Option<i64>,
) -> Result<String, SqsError> {
    let text = |arn: &QueueArn| arn.as_str().to_owned();
    let request = Request::StartMessageMoveTask {
        source: Some(text(source)),
        destination: destination.map(text),
        rate,
    };
    match bench.call(request)? {
        Response::MoveStarted(handle) => Ok(handle),
        other => panic!("{other:?}"),
    }
}

fn tasks(bench: &mut Bench, source: &QueueArn) -> Vec<MoveTaskView> {
    let source = Some(source.as_str().to_owned());
    match bench.call(Request::ListMessageMoveTasks { source, max: Some(10) }).unwrap() {
        Response::MoveTasks(tasks) => tasks,
        other => panic!("{other:?}"),
    }
}

/// A queue, its dead-letter queue, and `count` messages that have gone there.
fn dead_letters(bench: &mut Bench, count: usize) -> (QueueArn, QueueArn) {
    let dead = bench.create("dead", &[]);
    let queue = bench.create("q", &[("RedrivePolicy", &policy(&dead, 1))]);
    for n in 0..count {
        bench.send(&queue, Draft::text(n.to_string())).unwrap();
        bench.receive(&queue, 10, 0);
        bench.receive(&queue, 10, 0);
    }
    assert_eq!(bench.depth(&dead), [count, 0, 0]);
    (queue, dead)
}

#[test]
fn who_may_name_a_dead_letter_queue_is_checked_when_the_policy_is_set() {
    let by =
        |arns: &str| format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{arns}"]}}"#);
    let me = "arn:aws:sqs:us-east-1:000000000000:q";
    for (allow, good) in [
        (r#"{"redrivePermission":"allowAll"}"#.to_owned(), true),
        (r#"{"redrivePermission":"denyAll"}"#.to_owned(), false),
        (by(me), true),
        (by("arn:aws:sqs:us-east-1:000000000000:other"), false),
        (String::new(), true),
    ] {
        let mut bench = Bench::new();
        let dead = bench.create("dead", &[]);
        bench.set(&dead, &[("RedriveAllowPolicy", &allow)]).unwrap();
        let queue = bench.create("q", &[]);
        let set = bench.set(&queue, &[("RedrivePolicy", &policy(&dead, 3))]);
        assert_eq!(set.is_ok(), good, "{allow}");
        if let Err(error) = set {
            assert_eq!(error.kind, ErrorKind::InvalidParameterValue);
            assert!(error.message.contains("does not have permission"), "{error}");
        }
    }
}

#[test]
fn a_later_ban_does_not_undo_a_policy_that_was_allowed() {
    let mut bench = Bench::new();
    let dead = bench.create("dead", &[]);
    let queue = bench.create("q", &[("RedrivePolicy", &policy(&dead, 1))]);
    bench.set(&dead, &[("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#)]).unwrap();
    bench.send(&queue, Draft::text("m")).unwrap();
    for _ in 0..2 {
        bench.receive(&queue, 1, 0);
    }
    assert_eq!((bench.depth(&queue), bench.depth(&dead)), ([0; 3], [1, 0, 0]));
    let again = bench.set(&queue, &[("RedrivePolicy", &policy(&dead, 2))]);
    assert!(again.is_err(), "a new one is checked again");
}

/// The retention of a dead letter counts from the first send on standard queues, afresh on FIFO ones.
#[test]
fn a_dead_letter_is_kept_from_its_send_or_from_its_move() {
    for (fifo, left_after_its_first_minute) in [(false, 0), (true, 1)] {
        let mut bench = Bench::new();
        let (suffix, kind): (_, &[_]) =
            if fifo { (".fifo", &[("FifoQueue", "true")]) } else { ("", &[]) };
        let minute = [kind, &[("MessageRetentionPeriod", "60")]].concat();
        let dead = bench.create(&format!("dead{suffix}"), &minute);
        let redrive = policy(&dead, 1);
        let queue = bench.create(
            &format!("q{suffix}"),
            &[kind, &[("RedrivePolicy", redrive.as_str())]].concat(),
        );
        let draft = if fifo { in_group("m", "g", "1") } else { Draft::text("m") };
        bench.send(&queue, draft).unwrap();
        bench.wait(40);
        bench.receive(&queue, 1, 0);
        bench.receive(&queue, 1, 0);
        assert_eq!(bench.depth(&dead)[0], 1);
        bench.now += 19_999;
        assert_eq!(bench.depth(&dead)[0], 1, "59.999 s after the send");
        bench.now += 1;
        assert_eq!(bench.depth(&dead)[0], left_after_its_first_minute, "fifo {fifo}");
        bench.wait(40);
        assert_eq!(bench.depth(&dead)[0], 0, "a minute after the move at the latest");
    }
}

#[test]
fn a_move_goes_back_to_each_messages_own_source_as_a_new_message() {
    let mut bench = Bench::new();
    let dead = bench.create("dead", &[]);
    let sources: Vec<QueueArn> =
        ["a", "b"].map(|name| bench.create(name, &[("RedrivePolicy", &policy(&dead, 1))])).into();
    let mut ids = Vec::new();
    for queue in &sources {
        ids.push(bench.send(queue, Draft::text(queue.name())).unwrap().id);
        bench.receive(queue, 1, 0);
        bench.receive(queue, 1, 0);
    }
    bench.wait(100);
    start(&mut bench, &dead, None, None).unwrap();
    bench.broker.advance(bench.now);
    for (queue, old) in sources.iter().zip(ids) {
        let got = bench.receive(queue, 10, 30);
        assert_eq!(bodies(&got), [queue.name()]);
        assert_ne!(got[0].message.id, old);
        assert_eq!((got[0].receives, got[0].sent_at_ms), (1, bench.now));
    }
    assert_eq!(tasks(&mut bench, &dead)[0].status, MoveStatus::Completed);
}

#[test]
fn a_cancelled_move_stops_where_it_is_and_another_may_start() {
    let mut bench = Bench::new();
    let (queue, dead) = dead_letters(&mut bench, 10);
    let handle = start(&mut bench, &dead, None, Some(1)).unwrap();
    bench.broker.advance(bench.now);
    bench.wait(3);
    let cancel = Request::CancelMessageMoveTask { handle: Some(handle.clone()) };
    let Response::MoveCancelled(moved) = bench.call(cancel.clone()).unwrap() else { panic!() };
    assert_eq!(moved, 4, "one at once, one per second since");
    bench.wait(100);
    bench.broker.advance(bench.now);
    assert_eq!((bench.depth(&queue)[0], bench.depth(&dead)[0]), (4, 6));
    assert_eq!(bench.call(cancel).unwrap_err().kind, ErrorKind::ResourceNotFound);
    start(&mut bench, &dead, None, None).unwrap();
    bench.broker.advance(bench.now);
    let listed = tasks(&mut bench, &dead);
    let seen: Vec<_> = listed.iter().map(|task| (task.status, task.moved, task.to_move)).collect();
    assert_eq!(
        seen,
        [(MoveStatus::Completed, 6, 6), (MoveStatus::Cancelled, 4, 10)],
        "newest first"
    );
    assert_eq!(bench.depth(&queue)[0], 10);
}

#[test]
fn a_move_whose_destination_goes_away_fails_and_keeps_the_rest() {
    let mut bench = Bench::new();
    let (_, dead) = dead_letters(&mut bench, 5);
    let elsewhere = bench.create("elsewhere", &[]);
    start(&mut bench, &dead, Some(&elsewhere), Some(1)).unwrap();
    bench.broker.advance(bench.now);
    assert_eq!(bench.depth(&elsewhere)[0], 1);
    bench.call(Request::DeleteQueue { queue: Some(elsewhere) }).unwrap();
    bench.wait(1);
    bench.broker.advance(bench.now);
    let task = tasks(&mut bench, &dead).remove(0);
    assert_eq!(
        (task.status, task.moved, task.failure, task.handle),
        (MoveStatus::Failed, 1, Some("AWS.SimpleQueueService.NonExistentQueue"), None)
    );
    assert_eq!((bench.depth(&dead)[0], bench.broker.next_due()), (4, None));
}

#[test]
fn a_move_needs_a_dead_letter_queue_a_rate_in_range_and_the_same_kind() {
    let mut bench = Bench::new();
    let (queue, dead) = dead_letters(&mut bench, 1);
    let fifo = bench.create("f.fifo", &[("FifoQueue", "true")]);
    let gone = QueueArn::new("us-east-1", "000000000000", "gone");
    let mut kind = |source, destination, rate| {
        start(&mut bench, source, destination, rate).err().map(|error| error.kind)
    };
    assert_eq!(kind(&queue, None, None), Some(ErrorKind::InvalidParameterValue));
    assert_eq!(kind(&gone, None, None), Some(ErrorKind::ResourceNotFound));
    assert_eq!(kind(&dead, Some(&gone), None), Some(ErrorKind::ResourceNotFound));
    assert_eq!(kind(&dead, Some(&fifo), None), Some(ErrorKind::InvalidParameterValue));
    for (rate, good) in [(0, false), (501, false), (1, true)] {
        let expected = (!good).then_some(ErrorKind::InvalidParameterValue);
        assert_eq!(kind(&dead, None, Some(rate)), expected, "{rate}");
    }
}

#[test]
fn a_fifo_move_keeps_groups_and_their_order() {
    let mut bench = Bench::new();
    let dead = bench.create("dead.fifo", &[("FifoQueue", "true")]);
    let queue =
        bench.create("q.fifo", &[("FifoQueue", "true"), ("RedrivePolicy", &policy(&dead, 1))]);
    for (n, group) in ["a", "b", "a", "b"].into_iter().enumerate() {
        bench.send(&queue, in_group(&format!("{group}{n}"), group, &n.to_string())).unwrap();
    }
    for _ in 0..2 {
        bench.receive(&queue, 10, 0);
    }
    assert_eq!((bench.depth(&queue)[0], bench.depth(&dead)[0]), (0, 4));
    start(&mut bench, &dead, None, Some(500)).unwrap();
    bench.wait(1);
    bench.broker.advance(bench.now);
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["a0", "a2", "b1", "b3"]);
}

#[test]
fn dead_letters_of_dead_letters_go_on() {
    let mut bench = Bench::new();
    let last = bench.create("last", &[]);
    let middle = bench.create("middle", &[("RedrivePolicy", &policy(&last, 2))]);
    let first = bench.create("first", &[("RedrivePolicy", &policy(&middle, 1))]);
    bench.send(&first, Draft::text("m")).unwrap();
    assert_eq!(bench.receive(&first, 1, 0).len(), 1);
    assert!(bench.receive(&first, 1, 0).is_empty());
    let got = bench.receive(&middle, 1, 0).remove(0);
    assert_eq!((got.receives, got.dead_letter_source.as_deref()), (2, Some(first.as_str())));
    assert!(bench.receive(&middle, 1, 0).is_empty(), "the count goes on");
    let got = bench.receive(&last, 1, 0).remove(0);
    assert_eq!((got.receives, got.dead_letter_source.as_deref()), (3, Some(middle.as_str())));
}

/// Every body in the three queues, in flight or not.
fn everywhere(bench: &mut Bench, queues: &[QueueArn]) -> Vec<String> {
    let window = MessageWindow { from: 0, limit: 10_000, body_bytes: 100 };
    let mut bodies = Vec::new();
    for queue in queues {
        let look = bench.broker.inspect_messages(bench.now, queue, window).unwrap().copy();
        bodies.extend(look.messages.into_iter().map(|message| message.body));
    }
    bodies
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However messages wander between queue and dead-letter queues, each is somewhere, once, until it
    /// is deleted.
    #[test]
    fn redrives_and_moves_lose_and_double_nothing(
        steps in prop::collection::vec((0_u8..7, 0_usize..2, 1_i64..20), 1..150), fifo in any::<bool>()
    ) {
        let mut bench = Bench::new();
        let (suffix, kind): (_, &[_]) =
            if fifo { (".fifo", &[("FifoQueue", "true")]) } else { ("", &[]) };
        let last = bench.create(&format!("last{suffix}"), kind);
        let to_last = policy(&last, 2);
        let dead = bench.create(&format!("dead{suffix}"), &[kind, &[("RedrivePolicy", to_last.as_str())]].concat());
        let to_dead = policy(&dead, 1);
        let queue = bench.create(&format!("q{suffix}"), &[kind, &[("RedrivePolicy", to_dead.as_str())]].concat());
        let queues = [queue.clone(), dead.clone(), last.clone()];
        let mut alive = BTreeSet::new();
        let mut receipts = Vec::new();
        for (number, (step, which, size)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let body = number.to_string();
                    let draft = if fifo { in_group(&body, &which.to_string(), &body) } else { Draft::text(&body) };
                    bench.send(&queue, draft).unwrap();
                    alive.insert(body);
                }
                2 | 3 => for got in bench.receive(&queues[usize::from(step) - 2 + which], 5, size % 3) {
                    receipts.push((queues[usize::from(step) - 2 + which].clone(), got));
                },
                4 => if let Some((queue, got)) = receipts.pop()
                    && bench.delete(&queue, &got.receipt).is_ok()
                    && !everywhere(&mut bench, &queues).contains(&got.message.body)
                {
                    alive.remove(&got.message.body);
                },
                5 => {
                    let source = if which == 0 { &dead } else { &last };
                    // One that runs already, or has no source, refuses or fails: also a step.
                    let _ignored = start(&mut bench, source, None, Some(size));
                }
                _ => bench.wait(size % 4),
            }
            bench.broker.advance(bench.now);
            let mut there = everywhere(&mut bench, &queues);
            there.sort_unstable();
            let mut expected: Vec<String> = alive.iter().cloned().collect();
            expected.sort_unstable();
            prop_assert_eq!(there, expected, "step {}", number);
        }
    }
}
