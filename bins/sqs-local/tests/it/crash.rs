//! SIGKILL in the middle of sends, receives and deletes, three times over one directory: everything
//! whose send was acknowledged is there, nothing whose delete was acknowledged comes back.

use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Client, Process};

const QUEUE: &str = "http://any/000000000000/q";
/// Acknowledged sends after which the process is killed, by round.
const KILL_AFTER: [usize; 3] = [300, 1_500, 4_000];

enum Fact {
    Sent(Vec<String>),
    /// Asked for; whether it took effect is open until `Deleted`.
    Deleting(Vec<String>),
    Deleted(Vec<String>),
}

fn ids(reply: &Value, list: &str, member: &str) -> Vec<String> {
    let entries = reply[list].as_array().into_iter().flatten();
    entries.map(|entry| entry[member].as_str().unwrap().to_owned()).collect()
}

fn sender(mut client: Client, facts: &Sender<Fact>) {
    let entries: Vec<Value> =
        (0..10).map(|n| json!({ "Id": n.to_string(), "MessageBody": "x".repeat(200) })).collect();
    let batch = json!({ "QueueUrl": QUEUE, "Entries": entries });
    while let Some((status, reply)) = client.call("SendMessageBatch", &batch) {
        assert_eq!(status, 200, "{reply}");
        if facts.send(Fact::Sent(ids(&reply, "Successful", "MessageId"))).is_err() {
            return;
        }
    }
}

fn receiver(mut client: Client, facts: &Sender<Fact>) {
    let receive = json!({ "QueueUrl": QUEUE, "MaxNumberOfMessages": 5, "VisibilityTimeout": 1 });
    while let Some((_, reply)) = client.call("ReceiveMessage", &receive) {
        let messages = ids(&reply, "Messages", "MessageId");
        if messages.is_empty() {
            continue;
        }
        let entry = |(n, receipt): (usize, String)| json!({ "Id": n.to_string(), "ReceiptHandle": receipt });
        let receipts = ids(&reply, "Messages", "ReceiptHandle");
        let entries: Vec<Value> = receipts.into_iter().enumerate().map(entry).collect();
        if facts.send(Fact::Deleting(messages.clone())).is_err() {
            return;
        }
        let batch = json!({ "QueueUrl": QUEUE, "Entries": entries });
        let Some((200, done)) = client.call("DeleteMessageBatch", &batch) else { return };
        let done: Vec<usize> =
            ids(&done, "Successful", "Id").iter().map(|id| id.parse().unwrap()).collect();
        let deleted = done.into_iter().map(|n| messages[n].clone()).collect();
        if facts.send(Fact::Deleted(deleted)).is_err() {
            return;
        }
    }
}

/// Receives until nothing has been there for longer than a lease lasts.
fn drain(client: &mut Client, expected: usize) -> BTreeSet<String> {
    let receive = json!({ "QueueUrl": QUEUE, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 2, "VisibilityTimeout": 600 });
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = BTreeSet::new();
    loop {
        let reply = client.ok("ReceiveMessage", &receive);
        let got = ids(&reply, "Messages", "MessageId");
        if got.is_empty() && seen.len() >= expected || Instant::now() > deadline {
            return seen;
        }
        for id in got {
            assert!(seen.insert(id), "handed out twice within a lease of ten minutes");
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    for kill_after in KILL_AFTER {
        round(directory.path(), kill_after);
    }
}

fn round(directory: &std::path::Path, kill_after: usize) {
    let process = Process::start(directory);
    process.client().ok("CreateQueue", &json!({ "QueueName": "q" }));
    process.client().ok("PurgeQueue", &json!({ "QueueUrl": QUEUE }));
    let (facts, told) = channel();
    let mut threads = Vec::new();
    for n in 0..6 {
        let (client, facts) = (process.client(), facts.clone());
        threads.push(thread::spawn(move || {
            if n < 4 { sender(client, &facts) } else { receiver(client, &facts) }
        }));
    }
    drop(facts);
    let (mut sent, mut open, mut deleted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut process = Some(process);
    for fact in told {
        match fact {
            Fact::Sent(ids) => sent.extend(ids),
            Fact::Deleting(ids) => open.extend(ids),
            Fact::Deleted(ids) => deleted.extend(ids),
        }
        if sent.len() >= kill_after
            && let Some(process) = process.take()
        {
            process.kill();
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(!deleted.is_empty(), "the receivers took part");

    let process = Process::start(directory);
    let must: BTreeSet<&String> = sent.iter().filter(|id| !open.contains(*id)).collect();
    let seen = drain(&mut process.client(), must.len());
    let lost: Vec<_> = must.into_iter().filter(|id| !seen.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged sends are lost", lost.len(), sent.len());
    let back: Vec<_> = deleted.iter().filter(|id| seen.contains(*id)).collect();
    assert!(back.is_empty(), "{} acknowledged deletes came back", back.len());
    assert_eq!(process.terminate(), Some(0));
}
