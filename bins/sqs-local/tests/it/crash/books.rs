//! What callers were told, message by message, and the comparison with what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::traffic::HIDDEN_SECONDS;
use crate::process::Client;

/// Acknowledged sends that are sent again.
const REPEATED: usize = 20;

/// Something that a caller asked for or was told.
#[derive(Debug)]
pub(crate) enum Fact {
    /// Asked for; whether it took effect is open.
    Sending {
        queue: &'static str,
        body: String,
    },
    Sent {
        queue: &'static str,
        body: String,
        id: String,
    },
    Deleting {
        id: String,
    },
    Deleted {
        id: String,
    },
    Hidden {
        id: String,
    },
}

#[derive(Debug, Default)]
struct Queue {
    /// Acknowledged sends: body by id.
    sent: BTreeMap<String, String>,
    /// The other way round.
    ids: BTreeMap<String, String>,
    /// Bodies in the order of their acknowledgements.
    in_order: Vec<String>,
    /// Bodies whose send was asked for and not acknowledged.
    in_doubt: BTreeSet<String>,
}

/// Everything told so far.
#[derive(Debug, Default)]
pub(crate) struct Books {
    queues: BTreeMap<&'static str, Queue>,
    /// A delete was asked for.
    deleting: BTreeSet<String>,
    /// A delete was acknowledged.
    deleted: BTreeSet<String>,
    /// A lease for longer than the test was acknowledged.
    hidden: BTreeSet<String>,
}

impl Books {
    pub(crate) fn enter(&mut self, fact: Fact) {
        match fact {
            Fact::Sending { queue, body } => {
                self.queues.entry(queue).or_default().in_doubt.insert(body);
            }
            Fact::Sent { queue, body, id } => {
                let queue = self.queues.entry(queue).or_default();
                queue.in_doubt.remove(&body);
                if let Some(before) = queue.ids.insert(body.clone(), id.clone()) {
                    assert_eq!(before, id, "{body} was taken for another message when sent again");
                }
                queue.in_order.push(body.clone());
                if let Some(before) = queue.sent.insert(id.clone(), body.clone()) {
                    assert_eq!(before, body, "{id} was given to two messages");
                }
            }
            Fact::Deleting { id } => {
                self.deleting.insert(id);
            }
            Fact::Deleted { id } => {
                self.deleted.insert(id);
            }
            Fact::Hidden { id } => {
                self.hidden.insert(id);
            }
        }
    }

    /// Bodies whose send may or may not have taken effect, and some, old and new, of which it is known.
    pub(crate) fn to_repeat(&self, queue: &str) -> Vec<String> {
        let Some(queue) = self.queues.get(queue) else { return Vec::new() };
        let apart = (queue.in_order.len() / REPEATED).max(1);
        let known = queue.in_order.iter().rev().step_by(apart).take(REPEATED);
        queue.in_doubt.iter().chain(known).cloned().collect()
    }

    /// Looks at every message, consuming none, and compares.
    pub(crate) fn compare(&self, client: &mut Client, when: &str) {
        for (name, queue) in &self.queues {
            let (messages, now) = look(client, name);
            let mut there = BTreeSet::new();
            let mut bodies = BTreeSet::new();
            for message in &messages {
                let id = message["id"].as_str().unwrap().to_owned();
                let body = message["body"].as_str().unwrap();
                match queue.sent.get(&id) {
                    Some(sent) => assert_eq!(body, sent, "{when}: another body"),
                    None => assert!(
                        queue.in_doubt.contains(body),
                        "{when}: {body} was acknowledged under another id, or never sent"
                    ),
                }
                assert!(!self.deleted.contains(&id), "{when}: {body} came back");
                if self.hidden.contains(&id) {
                    let until = message["visible_at_ms"].as_i64().unwrap_or_default();
                    assert!(until - now > HIDDEN_SECONDS * 500, "{when}: {message} is not hidden");
                }
                assert!(bodies.insert(body.to_owned()), "{when}: {body} is there twice");
                there.insert(id);
            }
            let must = queue.sent.keys().filter(|id| !self.deleting.contains(*id));
            let lost: Vec<_> = must.filter(|id| !there.contains(*id)).collect();
            assert!(lost.is_empty(), "{when}: {} of {} are lost", lost.len(), queue.sent.len());
        }
    }

    /// That the test was one.
    pub(crate) fn took_part(&self, queue: &str) {
        let sent = self.queues[queue].sent.keys().collect::<BTreeSet<_>>();
        let of = |ids: &BTreeSet<String>| ids.iter().filter(|id| sent.contains(*id)).count();
        let counts = (sent.len(), of(&self.deleted), of(&self.hidden));
        assert!(counts.0 > 100 && counts.1 > 20 && counts.2 > 5, "{queue}: {counts:?}");
    }
}

/// Every message of a queue, and the server's time.
fn look(client: &mut Client, queue: &str) -> (Vec<Value>, i64) {
    let (mut messages, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/_sqs/messages?queue={queue}&limit=500&from={from}");
        let mut page = client.get(&path);
        if let Value::Array(shown) = page["messages"].take() {
            messages.extend(shown);
        }
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => return (messages, page["now_ms"].as_i64().unwrap()),
        }
    }
}
