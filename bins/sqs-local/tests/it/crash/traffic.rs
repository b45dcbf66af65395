//! Callers that send, receive, delete, hide and give back until the server is gone, and write down
//! what they asked for before, and what they were told after.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::books::{Books, Fact};
use crate::process::{Client, Process};

pub(crate) const STANDARD: &str = "q";
pub(crate) const FIFO: &str = "q.fifo";
/// A lease that outlasts the test.
pub(crate) const HIDDEN_SECONDS: i64 = 36_000;
/// Sends of one caller: a run that is killed late does not grow without bound.
const CALLS_MAX: usize = 300;

/// What a caller does; it ends when the server does.
type Work = Box<dyn FnOnce(Client, &Sender<Fact>) -> Option<()> + Send>;

pub(crate) struct Traffic {
    facts: Receiver<Fact>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts the callers of a round. What is in doubt on the FIFO queue, and some of what is not, is
    /// sent again first: the deduplication id makes it one message.
    pub(crate) fn start(process: &Process, round: u64, again: Vec<String>) -> Self {
        let (told, facts) = channel();
        let mut threads = Vec::new();
        let mut caller = |work: Work| {
            let (client, told) = (process.client(), told.clone());
            threads.push(thread::spawn(move || {
                // Ends when the server does.
                let _ended = work(client, &told);
            }));
        };
        for n in 0..2 {
            let name = format!("{round}-{n}");
            caller(Box::new(move |client, told| send_batches(client, told, &name)));
        }
        caller(Box::new(move |client, told| send_fifo(client, told, round, again)));
        for queue in [STANDARD, STANDARD, FIFO] {
            caller(Box::new(move |client, told| receive(client, told, queue)));
        }
        Self { facts, threads }
    }

    /// Lets the callers go on until so many facts are told.
    pub(crate) fn run(&mut self, books: &mut Books, facts: u64) {
        for _ in 0..facts {
            let Ok(fact) = self.facts.recv() else { return };
            books.enter(fact);
        }
    }

    /// Waits for the callers and enters what they wrote down.
    pub(crate) fn enter(self, books: &mut Books) {
        for thread in self.threads {
            thread.join().unwrap();
        }
        for fact in self.facts {
            books.enter(fact);
        }
    }
}

fn url(queue: &str) -> String {
    format!("http://any/000000000000/{queue}")
}

/// An entry's text by the entry's id.
fn by_id<'a>(reply: &'a Value, member: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
    let entries = reply["Successful"].as_array().into_iter().flatten();
    entries.map(move |entry| {
        let text = entry[member].as_str().unwrap().to_owned();
        (entry["Id"].as_str().unwrap().parse().unwrap(), text)
    })
}

fn send_batches(mut client: Client, told: &Sender<Fact>, name: &str) -> Option<()> {
    for call in 0..CALLS_MAX {
        let bodies: Vec<String> =
            (0..10).map(|n| format!("{name}-{call}-{n} {}", "x".repeat(100))).collect();
        for body in &bodies {
            told.send(Fact::Sending { queue: STANDARD, body: body.clone() }).ok()?;
        }
        let entry =
            |(n, body): (usize, &String)| json!({ "Id": n.to_string(), "MessageBody": body });
        let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
        let batch = json!({ "QueueUrl": url(STANDARD), "Entries": entries });
        let (status, reply) = client.call("SendMessageBatch", &batch)?;
        assert_eq!(status, 200, "{reply}");
        for (n, id) in by_id(&reply, "MessageId") {
            told.send(Fact::Sent { queue: STANDARD, body: bodies[n].clone(), id }).ok()?;
        }
    }
    Some(())
}

fn send_fifo(
    mut client: Client,
    told: &Sender<Fact>,
    round: u64,
    again: Vec<String>,
) -> Option<()> {
    let fresh = (0..CALLS_MAX * 3).map(|n| format!("{round}-{n}"));
    for body in again.into_iter().chain(fresh) {
        told.send(Fact::Sending { queue: FIFO, body: body.clone() }).ok()?;
        let group = body.bytes().map(u32::from).sum::<u32>().to_string();
        let message = json!({
            "QueueUrl": url(FIFO), "MessageBody": body, "MessageGroupId": group,
            "MessageDeduplicationId": body,
        });
        let (status, reply) = client.call("SendMessage", &message)?;
        assert_eq!(status, 200, "{reply}");
        let id = reply["MessageId"].as_str().unwrap().to_owned();
        told.send(Fact::Sent { queue: FIFO, body, id }).ok()?;
    }
    Some(())
}

/// Of what it gets it deletes most, hides some for good, gives some back and forgets the rest. The
/// lease is long beside the calls: with an older handle a delete is answered and deletes nothing.
fn receive(mut client: Client, told: &Sender<Fact>, queue: &'static str) -> Option<()> {
    let ask = json!({
        "QueueUrl": url(queue), "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "VisibilityTimeout": 20,
    });
    let mut turn = 0_usize;
    loop {
        let (_, reply) = client.call("ReceiveMessage", &ask)?;
        let (mut deletes, mut hides) = (Vec::new(), Vec::new());
        for message in reply["Messages"].as_array().into_iter().flatten() {
            let text = |name: &str| message[name].as_str().unwrap().to_owned();
            turn += 1;
            match turn % 8 {
                0 => hides.push((text("MessageId"), text("ReceiptHandle"), HIDDEN_SECONDS)),
                1 => hides.push((text("MessageId"), text("ReceiptHandle"), 0)),
                2 => {}
                _ => deletes.push((text("MessageId"), text("ReceiptHandle"))),
            }
        }
        delete(&mut client, told, queue, &deletes)?;
        hide(&mut client, told, queue, &hides)?;
    }
}

fn delete(
    client: &mut Client,
    told: &Sender<Fact>,
    queue: &str,
    messages: &[(String, String)],
) -> Option<()> {
    if messages.is_empty() {
        return Some(());
    }
    for (id, _) in messages {
        told.send(Fact::Deleting { id: id.clone() }).ok()?;
    }
    let entry = |(n, (_, receipt)): (usize, &(String, String))| json!({ "Id": n.to_string(), "ReceiptHandle": receipt });
    let entries: Vec<Value> = messages.iter().enumerate().map(entry).collect();
    let batch = json!({ "QueueUrl": url(queue), "Entries": entries });
    let (_, reply) = client.call("DeleteMessageBatch", &batch)?;
    for (n, _) in by_id(&reply, "Id") {
        told.send(Fact::Deleted { id: messages[n].0.clone() }).ok()?;
    }
    Some(())
}

fn hide(
    client: &mut Client,
    told: &Sender<Fact>,
    queue: &str,
    messages: &[(String, String, i64)],
) -> Option<()> {
    if messages.is_empty() {
        return Some(());
    }
    let entry = |(n, (_, receipt, seconds)): (usize, &(String, String, i64))| json!({ "Id": n.to_string(), "ReceiptHandle": receipt, "VisibilityTimeout": seconds });
    let entries: Vec<Value> = messages.iter().enumerate().map(entry).collect();
    let batch = json!({ "QueueUrl": url(queue), "Entries": entries });
    let (_, reply) = client.call("ChangeMessageVisibilityBatch", &batch)?;
    for (n, _) in by_id(&reply, "Id") {
        let (id, _, seconds) = &messages[n];
        if *seconds == HIDDEN_SECONDS {
            told.send(Fact::Hidden { id: id.clone() }).ok()?;
        }
    }
    Some(())
}
