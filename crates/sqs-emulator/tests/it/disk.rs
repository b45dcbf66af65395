//! The log on a real directory: restart, a torn end, damage, a second process, many segments.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use sqs_emulator::hub::Hub;
use sqs_emulator::operations::Receive;
use sqs_emulator::{BrokerConfig, Caller, Draft, QueueArn, Request, Response};

use crate::support::texts;

async fn create(hub: &Hub) -> QueueArn {
    let name = Some("q".to_owned());
    let request = Request::CreateQueue { name, attributes: texts(&[]), tags: texts(&[]) };
    match hub.call(&Caller::default(), request).await.unwrap() {
        Response::Queue(arn) => arn,
        other => panic!("{other:?}"),
    }
}

async fn send(hub: &Hub, queue: &QueueArn, body: &str) {
    let draft = Box::new(Draft::text(body));
    let request = Request::SendMessage { queue: Some(queue.clone()), draft };
    hub.call(&Caller::default(), request).await.unwrap();
}

async fn receive(hub: &Hub, queue: &QueueArn) -> Vec<(String, String)> {
    let receive = Receive { queue: Some(queue.clone()), max: Some(10), ..Receive::default() };
    match hub.call(&Caller::default(), Request::ReceiveMessage(receive)).await.unwrap() {
        Response::Received(got, _) => {
            got.into_iter().map(|got| (got.message.body.clone(), got.receipt)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn open(path: &Path) -> Hub {
    Hub::open(BrokerConfig::default(), path).unwrap()
}

fn segment(path: &Path, number: u64) -> std::path::PathBuf {
    path.join(format!("segment-{number:016}.log"))
}

#[tokio::test]
async fn a_restart_keeps_messages_leases_and_handles() {
    let directory = tempfile::tempdir().unwrap();
    let hub = open(directory.path());
    let queue = create(&hub).await;
    send(&hub, &queue, "leased").await;
    let got = receive(&hub, &queue).await.remove(0);
    send(&hub, &queue, "waiting").await;
    drop(hub);
    let hub = open(directory.path());
    let visible: Vec<String> = receive(&hub, &queue).await.into_iter().map(|got| got.0).collect();
    assert_eq!(visible, ["waiting"], "the lease goes on");
    let delete = Request::DeleteMessage { queue: Some(queue.clone()), receipt: Some(got.1) };
    hub.call(&Caller::default(), delete).await.unwrap();
    let names = vec!["ApproximateNumberOfMessagesNotVisible".to_owned()];
    let left = Request::GetQueueAttributes { queue: Some(queue), names };
    let left = hub.call(&Caller::default(), left).await.unwrap();
    assert!(matches!(left, Response::Attributes(values) if values.values().eq(["1"])));
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_kept_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let hub = open(path);
    let queue = create(&hub).await;
    send(&hub, &queue, "whole").await;
    drop(hub);
    let whole = fs::metadata(segment(path, 1)).unwrap().len();
    OpenOptions::new()
        .append(true)
        .open(segment(path, 1))
        .unwrap()
        .write_all(&[9, 0, 0, 0, 1])
        .unwrap();
    let hub = open(path);
    assert_eq!(fs::metadata(segment(path, 1)).unwrap().len(), whole);
    let kept = fs::read_dir(path)
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_str().unwrap().starts_with("torn-"));
    assert!(kept);
    send(&hub, &queue, "after").await;
    drop(hub);
    assert_eq!(receive(&open(path), &queue).await.len(), 2);
}

#[tokio::test]
async fn damage_before_the_end_is_an_error_that_names_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(open(path));
    fs::copy(segment(path, 1), segment(path, 2)).unwrap();
    OpenOptions::new()
        .append(true)
        .open(segment(path, 1))
        .unwrap()
        .write_all(&[9, 0, 0, 0, 1])
        .unwrap();
    let error = Hub::open(BrokerConfig::default(), path).unwrap_err().to_string();
    assert!(error.contains("segment-0000000000000001.log is damaged at byte 8"), "{error}");
    fs::write(segment(path, 1), b"something else").unwrap();
    let error = Hub::open(BrokerConfig::default(), path).unwrap_err().to_string();
    assert!(error.contains("damaged at byte 0"), "{error}");
}

#[tokio::test]
async fn a_directory_serves_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let error = Hub::open(BrokerConfig::default(), directory.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(first);
    drop(open(directory.path()));
}

#[tokio::test]
async fn a_large_log_is_replaced_by_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let hub = open(path);
    let queue = create(&hub).await;
    let large = "x".repeat(1_000_000);
    for round in 0..80 {
        send(&hub, &queue, &large).await;
        for (_, receipt) in receive(&hub, &queue).await {
            let delete =
                Request::DeleteMessage { queue: Some(queue.clone()), receipt: Some(receipt) };
            hub.call(&Caller::default(), delete).await.unwrap();
        }
        if round == 40 {
            send(&hub, &queue, "stays").await;
            receive(&hub, &queue).await;
        }
    }
    drop(hub);
    assert!(!segment(path, 1).exists(), "replaced");
    // What was deleted before the segment was sealed is not in it.
    assert!(path.join("snapshot-0000000000000002.bin").metadata().unwrap().len() < 3_000_000);
    let hub = open(path);
    let names = vec!["All".to_owned()];
    let left = Request::GetQueueAttributes { queue: Some(queue), names };
    let Response::Attributes(values) = hub.call(&Caller::default(), left).await.unwrap() else {
        panic!()
    };
    assert_eq!(values["ApproximateNumberOfMessagesNotVisible"], "1");
}

#[tokio::test]
async fn a_clock_that_was_moved_does_not_go_back_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let hub = open(directory.path());
    assert!(hub.advance_clock(86_400_000));
    let queue = create(&hub).await;
    send(&hub, &queue, "tomorrow").await;
    let before = hub.now_ms();
    drop(hub);
    let hub = open(directory.path());
    assert!(hub.ahead_ms() > 86_000_000, "{} ms ahead", hub.ahead_ms());
    assert!(before - hub.now_ms() < 10_000);
    assert_eq!(receive(&hub, &queue).await.len(), 1);
}
