//! What standard queues do, call by call.

use std::sync::Arc;

use sqs_emulator::operations::{MoveStatus, Receive};
use sqs_emulator::{Broker, BrokerConfig, Draft, ErrorKind, Request, Response};

use crate::support::{Bench, bodies};

#[test]
fn a_lease_hides_until_it_ends_and_only_the_latest_handle_counts() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, Draft::text("one")).unwrap();
    let first = bench.receive(&queue, 10, 30).remove(0);
    assert!(bench.receive(&queue, 10, 30).is_empty());
    bench.now += 29_999;
    assert!(bench.receive(&queue, 10, 30).is_empty(), "one millisecond early");
    bench.now += 1;
    let second = bench.receive(&queue, 10, 30).remove(0);
    assert_eq!((first.receives, second.receives), (1, 2));
    assert_ne!(first.receipt, second.receipt);
    assert_eq!(second.first_received_at_ms, first.first_received_at_ms);
    bench.delete(&queue, &first.receipt).unwrap();
    assert_eq!(bench.depth(&queue), [0, 1, 0], "an old handle deletes nothing");
    bench.delete(&queue, &second.receipt).unwrap();
    bench.delete(&queue, &second.receipt).unwrap();
    assert_eq!(bench.depth(&queue), [0, 0, 0]);
}

#[test]
fn an_expired_handle_still_deletes_and_still_hides() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, Draft::text("one")).unwrap();
    let got = bench.receive(&queue, 1, 1).remove(0);
    bench.wait(2);
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
    bench.hide(&queue, &got.receipt, 10).unwrap();
    assert_eq!(bench.depth(&queue), [0, 1, 0]);
    bench.hide(&queue, &got.receipt, 0).unwrap();
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
    bench.delete(&queue, &got.receipt).unwrap();
    let gone = bench.hide(&queue, &got.receipt, 10).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::InvalidParameterValue);
    assert!(gone.message.ends_with("not available for visibility timeout change."), "{gone}");
}

#[test]
fn an_older_handle_still_hides_and_shows_but_does_not_delete() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, Draft::text("one")).unwrap();
    let older = bench.receive(&queue, 1, 0).remove(0);
    bench.receive(&queue, 1, 30);
    bench.delete(&queue, &older.receipt).unwrap();
    assert_eq!(bench.depth(&queue), [0, 1, 0]);
    bench.hide(&queue, &older.receipt, 0).unwrap();
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
}

#[test]
fn a_lease_ends_twelve_hours_after_the_receive_at_the_latest() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, Draft::text("one")).unwrap();
    let got = bench.receive(&queue, 1, 43_200).remove(0);
    bench.wait(1);
    bench.hide(&queue, &got.receipt, 43_199).unwrap();
    let error = bench.hide(&queue, &got.receipt, 43_200).unwrap_err();
    assert!(error.message.contains("beyond the limit [43200 seconds]"), "{error}");
}

#[test]
fn a_lease_of_zero_leaves_the_message_visible_and_gives_it_once() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    bench.send(&queue, Draft::text("one")).unwrap();
    assert_eq!(bench.receive(&queue, 10, 0).len(), 1);
    assert_eq!(bench.receive(&queue, 10, 0)[0].receives, 2);
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
}

#[test]
fn delays_and_retention_follow_the_clock() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[("DelaySeconds", "5"), ("MessageRetentionPeriod", "60")]);
    bench.send(&queue, Draft::text("by queue")).unwrap();
    let own = Draft { delay_seconds: Some(0), ..Draft::text("own") };
    bench.send(&queue, own).unwrap();
    assert_eq!(bench.depth(&queue), [1, 0, 1]);
    bench.set(&queue, &[("DelaySeconds", "0")]).unwrap();
    assert_eq!(bench.depth(&queue), [1, 0, 1], "a standard queue's new delay is for later sends");
    bench.wait(5);
    assert_eq!(bodies(&bench.receive(&queue, 10, 0)), ["by queue", "own"]);
    bench.now += 54_999;
    assert_eq!(bench.depth(&queue), [2, 0, 0]);
    bench.now += 1;
    assert_eq!(bench.depth(&queue), [0, 0, 0]);
}

#[test]
fn dead_letters_keep_id_count_and_age() {
    let mut bench = Bench::new();
    let dead = bench.create("dead", &[]);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":"2"}}"#);
    let queue = bench.create("q", &[("RedrivePolicy", &policy)]);
    assert_eq!(
        bench.attribute(&queue, "RedrivePolicy"),
        format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":2}}"#)
    );
    let sent = bench.send(&queue, Draft::text("poison")).unwrap();
    bench.send(&queue, Draft::text("good")).unwrap();
    for _ in 0..2 {
        assert_eq!(bodies(&bench.receive(&queue, 1, 0)), ["poison"]);
    }
    assert_eq!(bodies(&bench.receive(&queue, 1, 30)), ["good"], "the third receive moves it");
    let got = bench.receive(&dead, 10, 30).remove(0);
    assert_eq!((got.message.id, got.receives), (sent.id, 3));
    assert_eq!(got.dead_letter_source.as_deref(), Some(queue.as_str()));
    assert_eq!(got.sent_at_ms, 1_000_000, "retention goes on");
}

#[test]
fn a_queue_may_be_its_own_dead_letter_queue() {
    let mut bench = Bench::new();
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:q","maxReceiveCount":1}"#;
    let queue = bench.create("q", &[("RedrivePolicy", policy)]);
    bench.send(&queue, Draft::text("round")).unwrap();
    assert_eq!(bench.receive(&queue, 10, 0).len(), 1);
    assert!(bench.receive(&queue, 10, 0).is_empty(), "moved, not handed out, no endless loop");
    assert_eq!(bench.depth(&queue), [1, 0, 0]);
}

#[test]
fn a_dead_letter_queue_has_to_exist_match_and_allow() {
    let mut bench = Bench::new();
    let fifo = bench.create("dead.fifo", &[("FifoQueue", "true")]);
    let closed =
        bench.create("closed", &[("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#)]);
    let queue = bench.create("q", &[]);
    let mut refused = |arn: &str| {
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":3}}"#);
        bench.set(&queue, &[("RedrivePolicy", &policy)]).unwrap_err().message
    };
    assert!(refused("arn:aws:sqs:us-east-1:000000000000:none").contains("does not exist"));
    assert!(refused(fifo.as_str()).contains("same type"));
    assert!(refused(closed.as_str()).contains("permission"));
}

#[test]
fn a_full_flight_is_an_error_for_a_short_poll_only() {
    let config = BrokerConfig { in_flight_max: 2, ..BrokerConfig::default() };
    let mut bench = Bench { broker: Broker::new(config), now: 0 };
    let queue = bench.create("q", &[]);
    for body in ["a", "b", "c"] {
        bench.send(&queue, Draft::text(body)).unwrap();
    }
    let got = bench.receive(&queue, 10, 30);
    assert_eq!(got.len(), 2);
    let receive = |wait| Receive {
        queue: Some(queue.clone()),
        wait_seconds: Some(wait),
        ..Receive::default()
    };
    assert_eq!(bench.receive_with(receive(0)).unwrap_err().kind, ErrorKind::OverLimit);
    assert!(bench.receive_with(receive(1)).unwrap().is_empty());
    bench.delete(&queue, &got[0].receipt).unwrap();
    assert_eq!(bench.receive_with(receive(0)).unwrap().len(), 1);
}

#[test]
fn purging_and_creating_again_wait_a_minute_when_strict() {
    let mut bench = Bench { broker: Broker::new(BrokerConfig::default().strict()), now: 0 };
    let queue = bench.create("q", &[]);
    let purge = Request::PurgeQueue { queue: Some(queue.clone()) };
    bench.call(purge.clone()).unwrap();
    bench.now = 59_999;
    assert_eq!(bench.call(purge.clone()).unwrap_err().kind, ErrorKind::PurgeQueueInProgress);
    bench.now = 60_000;
    bench.call(purge).unwrap();
    bench.call(Request::DeleteQueue { queue: Some(queue.clone()) }).unwrap();
    let create =
        Request::CreateQueue { name: Some("q".to_owned()), attributes: [].into(), tags: [].into() };
    bench.now += 59_999;
    assert_eq!(bench.call(create.clone()).unwrap_err().kind, ErrorKind::QueueDeletedRecently);
    bench.now += 1;
    bench.call(create).unwrap();
}

#[test]
fn a_move_task_brings_messages_back_at_its_rate() {
    let mut bench = Bench::new();
    let dead = bench.create("dead", &[]);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":1}}"#);
    let queue = bench.create("q", &[("RedrivePolicy", &policy)]);
    for n in 0..5 {
        bench.send(&queue, Draft::text(n.to_string())).unwrap();
    }
    bench.receive(&queue, 10, 0);
    bench.receive(&queue, 10, 0);
    assert_eq!((bench.depth(&queue), bench.depth(&dead)), ([0, 0, 0], [5, 0, 0]));

    let source = Some(dead.as_str().to_owned());
    let start =
        Request::StartMessageMoveTask { source: source.clone(), destination: None, rate: Some(2) };
    let Response::MoveStarted(handle) = bench.call(start.clone()).unwrap() else { panic!() };
    let twice = bench.call(start).unwrap_err();
    assert!(twice.message.starts_with("There is already a task running."), "{twice}");
    let mut moved = Vec::new();
    for _ in 0..6 {
        let due = bench.broker.next_due();
        bench.broker.advance(bench.now);
        moved.push(bench.depth(&queue)[0]);
        if let Some(at) = due {
            assert!(at <= bench.now);
        }
        bench.now += 500;
    }
    assert_eq!(moved, [1, 2, 3, 4, 5, 5]);
    let list = Request::ListMessageMoveTasks { source, max: Some(10) };
    let Response::MoveTasks(tasks) = bench.call(list).unwrap() else { panic!() };
    assert_eq!((tasks[0].status, tasks[0].moved, tasks[0].to_move), (MoveStatus::Completed, 5, 5));
    assert_eq!(tasks[0].handle, None, "only a running task has a handle");
    assert_eq!(bench.broker.next_due(), None);
    let cancel = bench.call(Request::CancelMessageMoveTask { handle: Some(handle) });
    assert_eq!(cancel.unwrap_err().kind, ErrorKind::ResourceNotFound);
    let back = bench.receive(&queue, 1, 30).remove(0);
    assert_eq!((back.receives, back.dead_letter_source), (1, None), "it starts afresh");
}

#[test]
fn a_move_task_fails_when_a_message_does_not_say_where_it_came_from() {
    let mut bench = Bench::new();
    let dead = bench.create("dead", &[]);
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":1}}"#);
    bench.create("q", &[("RedrivePolicy", &policy)]);
    bench.send(&dead, Draft::text("sent here")).unwrap();
    let source = Some(dead.as_str().to_owned());
    bench
        .call(Request::StartMessageMoveTask {
            source: source.clone(),
            destination: None,
            rate: None,
        })
        .unwrap();
    let list = Request::ListMessageMoveTasks { source, max: None };
    let Response::MoveTasks(tasks) = bench.call(list).unwrap() else { panic!() };
    assert_eq!(tasks[0].failure, Some("CouldNotDetermineMessageSource"));
    assert_eq!(bench.depth(&dead), [1, 0, 0], "the message stays");
}

#[test]
fn queues_are_listed_in_pages_by_account_and_region() {
    let mut bench = Bench::new();
    for n in 0..5 {
        bench.create(&format!("a{n}"), &[]);
    }
    bench.create("b", &[]);
    let other = sqs_emulator::Caller { region: Arc::from("eu-west-1"), ..Default::default() };
    let list = |next, max| Request::ListQueues { prefix: Some("a".to_owned()), next, max };
    let Response::Queues(page) = bench.call(list(None, Some(2))).unwrap() else { panic!() };
    assert_eq!(page.queues.len(), 2);
    let Response::Queues(rest) = bench.call(list(page.next, Some(1_000))).unwrap() else {
        panic!()
    };
    let names: Vec<&str> = rest.queues.iter().map(sqs_emulator::QueueArn::name).collect();
    assert_eq!((names, rest.next), (vec!["a2", "a3", "a4"], None));
    let elsewhere = bench.broker.call(0, &other, list(None, None)).unwrap();
    assert!(matches!(elsewhere, Response::Queues(page) if page.queues.is_empty()));
}

#[test]
fn permissions_edit_the_policy() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    let add = |label: &str, actions: &[&str]| Request::AddPermission {
        queue: Some(queue.clone()),
        label: Some(label.to_owned()),
        accounts: vec!["111122223333".to_owned()],
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
    };
    bench.call(add("one", &["SendMessage"])).unwrap();
    assert!(
        bench.call(add("one", &["SendMessage"])).unwrap_err().message.contains("Already exists.")
    );
    assert_eq!(bench.call(add("two", &["*"; 8])).unwrap_err().kind, ErrorKind::OverLimit);
    assert!(bench.call(add("two", &["Fly"])).is_err());
    let policy: serde_json::Value =
        serde_json::from_str(&bench.attribute(&queue, "Policy")).unwrap();
    assert_eq!(policy["Statement"][0]["Action"], "SQS:SendMessage");
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::111122223333:root");
    let remove = |label: &str| Request::RemovePermission {
        queue: Some(queue.clone()),
        label: Some(label.to_owned()),
    };
    assert!(bench.call(remove("two")).unwrap_err().message.contains("can't find label."));
    bench.call(remove("one")).unwrap();
    let names = vec!["Policy".to_owned()];
    let got =
        bench.call(Request::GetQueueAttributes { queue: Some(queue.clone()), names }).unwrap();
    assert!(matches!(got, Response::Attributes(values) if values.is_empty()));
}
