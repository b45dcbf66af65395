//! What FIFO queues do: groups, deduplication, sequence numbers, repeated receive attempts.

use sqs_emulator::operations::Receive;
use sqs_emulator::{Draft, ErrorKind, QueueArn, Request};

use crate::support::{Bench, bodies, in_group};

fn fifo(bench: &mut Bench, more: &[(&str, &str)]) -> QueueArn {
    let attributes = [&[("FifoQueue", "true")], more].concat();
    bench.create("q.fifo", &attributes)
}

#[test]
fn one_receive_fills_up_from_a_group_and_locks_it() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    for (n, group) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        bench.send(&queue, in_group(&format!("{group}{n}"), group, &n.to_string())).unwrap();
    }
    let first = bench.receive(&queue, 2, 30);
    assert_eq!(bodies(&first), ["a0", "a2"]);
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["b1", "b3"], "a is locked, b is not");
    bench.send(&queue, in_group("a5", "a", "5")).unwrap();
    assert!(bench.receive(&queue, 10, 30).is_empty(), "a new send does not unlock");
    bench.delete(&queue, &first[0].receipt).unwrap();
    assert!(bench.receive(&queue, 10, 30).is_empty(), "one of the two is still out");
    bench.delete(&queue, &first[1].receipt).unwrap();
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["a4", "a5"]);
}

#[test]
fn a_failed_head_comes_back_before_its_followers() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    for n in 0..3 {
        bench.send(&queue, in_group(&n.to_string(), "g", &n.to_string())).unwrap();
    }
    let got = bench.receive(&queue, 1, 30).remove(0);
    bench.hide(&queue, &got.receipt, 5).unwrap();
    assert!(bench.receive(&queue, 10, 30).is_empty(), "a hidden head blocks its group");
    bench.wait(5);
    let again = bench.receive(&queue, 10, 30);
    assert_eq!(bodies(&again), ["0", "1", "2"]);
    assert_eq!(again[0].sequence, got.sequence, "the number stays");
    assert!(again[0].sequence < again[1].sequence);
    assert_eq!(again[0].sequence.unwrap().to_string().len(), 20);
}

#[test]
fn a_handle_ends_with_its_lease_and_lasts_as_long_as_it_is_extended() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    bench.send(&queue, in_group("m", "g", "1")).unwrap();
    let got = bench.receive(&queue, 1, 10).remove(0);
    bench.wait(9);
    bench.hide(&queue, &got.receipt, 10).unwrap();
    bench.wait(9);
    bench.hide(&queue, &got.receipt, 1).unwrap();
    bench.wait(1);
    let late = bench.delete(&queue, &got.receipt).unwrap_err();
    assert_eq!(late.kind, ErrorKind::InvalidParameterValue);
    assert!(late.message.ends_with("Reason: The receipt handle has expired."), "{late}");
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
}

#[test]
fn a_duplicate_gets_the_original_for_five_minutes_also_after_the_delete() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    let first = bench.send(&queue, in_group("one", "g", "same")).unwrap();
    let got = bench.receive(&queue, 1, 30).remove(0);
    bench.delete(&queue, &got.receipt).unwrap();
    bench.now = 1_000_000 + 200_000;
    let again = bench.send(&queue, in_group("two", "h", "same")).unwrap();
    assert_eq!((again.id, again.sequence), (first.id, first.sequence));
    assert_ne!(again.md5_body, first.md5_body, "the hash is of what was just sent");
    bench.now = 1_000_000 + 299_999;
    assert_eq!(bench.send(&queue, in_group("two", "g", "same")).unwrap().id, first.id);
    assert_eq!(bench.depth(&queue), [0, 0, 0]);
    bench.now += 1;
    let fresh = bench.send(&queue, in_group("two", "g", "same")).unwrap();
    assert_ne!(fresh.id, first.id, "a duplicate does not extend the window");
    bench.call(Request::PurgeQueue { queue: Some(queue.clone()) }).unwrap();
    assert_ne!(bench.send(&queue, in_group("two", "g", "same")).unwrap().id, fresh.id);
}

#[test]
fn content_and_group_scope_deduplicate() {
    let mut bench = Bench::new();
    let queue = fifo(
        &mut bench,
        &[("ContentBasedDeduplication", "true"), ("DeduplicationScope", "messageGroup")],
    );
    let content = |group: &str| Draft { group: Some(group.to_owned()), ..Draft::text("same") };
    let first = bench.send(&queue, content("a")).unwrap();
    assert_eq!(bench.send(&queue, content("a")).unwrap().id, first.id);
    assert_ne!(bench.send(&queue, content("b")).unwrap().id, first.id, "another group");
    let sha256 = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    assert_eq!(bench.send(&queue, in_group("other", "a", sha256)).unwrap().id, first.id);
    bench.set(&queue, &[("DeduplicationScope", "queue")]).unwrap();
    assert_eq!(bench.attribute(&queue, "DeduplicationScope"), "queue");
    assert_ne!(bench.send(&queue, content("c")).unwrap().id, first.id, "fixed at creation");
}

#[test]
fn the_same_attempt_gets_the_same_messages_until_one_changes() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    for n in 0..3 {
        bench.send(&queue, in_group(&n.to_string(), "g", &n.to_string())).unwrap();
    }
    let attempt = |id: &str| Receive {
        queue: Some(queue.clone()),
        max: Some(2),
        visibility_seconds: Some(30),
        attempt: Some(id.to_owned()),
        ..Receive::default()
    };
    let first = bench.receive_with(attempt("one")).unwrap();
    bench.wait(20);
    let again = bench.receive_with(attempt("one")).unwrap();
    assert_eq!(first, again);
    bench.wait(20);
    assert!(bench.receive_with(attempt("two")).unwrap().is_empty(), "the repeat renewed the lease");
    bench.delete(&queue, &first[0].receipt).unwrap();
    assert!(bench.receive_with(attempt("one")).unwrap().is_empty(), "one was deleted");
}

#[test]
fn a_queue_delay_holds_for_what_is_already_there() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[("DelaySeconds", "60")]);
    bench.send(&queue, in_group("m", "g", "1")).unwrap();
    let own = Draft { delay_seconds: Some(1), ..in_group("n", "g", "2") };
    assert_eq!(bench.send(&queue, own).unwrap_err().kind, ErrorKind::InvalidParameterValue);
    assert_eq!(bench.depth(&queue), [0, 0, 1]);
    bench.set(&queue, &[("DelaySeconds", "0")]).unwrap();
    assert_eq!(bench.receive(&queue, 1, 30).len(), 1);
}

#[test]
fn dead_letters_free_their_group_and_start_their_retention_afresh() {
    let mut bench = Bench::new();
    let dead = bench.create("dead.fifo", &[("FifoQueue", "true")]);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":1}}"#);
    let queue = fifo(&mut bench, &[("RedrivePolicy", &policy)]);
    for n in 0..2 {
        bench.send(&queue, in_group(&n.to_string(), "g", &n.to_string())).unwrap();
    }
    assert_eq!(bodies(&bench.receive(&queue, 1, 1)), ["0"]);
    bench.wait(1);
    assert_eq!(bodies(&bench.receive(&queue, 10, 30)), ["1"]);
    let got = bench.receive(&dead, 10, 30).remove(0);
    assert_eq!((got.message.group.as_deref(), got.sent_at_ms), (Some("g"), bench.now));
}

/// Recorded from AWS, with leases of zero: who was taken from goes behind the others.
#[test]
fn a_group_that_was_taken_from_goes_behind_the_others() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    for name in ["g1-m1", "g2-m1", "g2-m2", "g3-m1", "g1-m2"] {
        bench.send(&queue, in_group(name, &name[..2], name)).unwrap();
    }
    assert_eq!(bodies(&bench.receive(&queue, 3, 0)), ["g1-m1", "g1-m2", "g2-m1"]);
    let all = ["g3-m1", "g1-m1", "g1-m2", "g2-m1", "g2-m2"];
    assert_eq!(bodies(&bench.receive(&queue, 10, 0)), all);
}

/// Recorded from AWS: only the head decides.
#[test]
fn a_group_whose_head_is_released_is_available_while_a_later_one_is_out() {
    let mut bench = Bench::new();
    let queue = fifo(&mut bench, &[]);
    for name in ["g1-m1", "g1-m2", "g2-m1"] {
        bench.send(&queue, in_group(name, &name[..2], name)).unwrap();
    }
    let got = bench.receive(&queue, 2, 30);
    bench.hide(&queue, &got[0].receipt, 0).unwrap();
    assert_eq!(bodies(&bench.receive(&queue, 3, 30)), ["g2-m1", "g1-m1"]);
}
