//! What a test does to a queue by hand, past engine and script: sends, takes, makes visible, looks.

use std::time::Duration;

use queue_core::Received;
use sqs_emulator::operations::{Receive, VisibilityChange};
use sqs_emulator::{Draft, Request, Response};

use super::BrokerQueue;
use super::wire::{all, received};

impl BrokerQueue {
    /// Sends past the script.
    pub(crate) fn put(&self, body: &str) {
        let draft = Draft::text(body);
        let queue = Some(self.arn.clone());
        self.world.call(Request::SendMessage { queue, draft: Box::new(draft) }).unwrap();
    }

    /// Sends to a FIFO queue past the script.
    pub(crate) fn put_in(&self, group: &str, deduplication: &str, body: &str) {
        let (group, deduplication) = (Some(group.to_owned()), Some(deduplication.to_owned()));
        let draft = Draft { group, deduplication, ..Draft::text(body) };
        let queue = Some(self.arn.clone());
        self.world.call(Request::SendMessage { queue, draft: Box::new(draft) }).unwrap();
    }

    /// Receives past the script, as another consumer would.
    pub(crate) fn take(&self, max: i64, lease: Duration) -> Vec<Received> {
        let receive = Receive {
            queue: Some(self.arn.clone()),
            max: Some(max),
            visibility_seconds: Some(i64::try_from(lease.as_secs()).unwrap()),
            wait_seconds: Some(0),
            selection: all(),
            ..Receive::default()
        };
        match self.world.call(Request::ReceiveMessage(receive)).unwrap() {
            Response::Received(deliveries, _) => deliveries.iter().map(received).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a receipt visible now, past the script.
    pub(crate) fn expose(&self, receipt: &str) {
        let change = VisibilityChange { receipt: Some(receipt.to_owned()), seconds: Some(0) };
        let queue = Some(self.arn.clone());
        self.world.call(Request::ChangeMessageVisibility { queue, change }).unwrap();
    }

    /// Makes a message visible now that is in somebody's hands, as a lease that ended does.
    pub(crate) fn end_lease(&self, body: &str) {
        let handed_out = self.handed_out.lock().unwrap();
        let (receipt, _) = handed_out.iter().rfind(|(_, other)| other == body).unwrap();
        self.expose(receipt);
    }

    /// Every body on the queue, without changing it but for the receive count.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        let mut taken = Vec::new();
        loop {
            let batch = self.take(10, Duration::from_secs(60));
            if batch.is_empty() {
                break;
            }
            bodies.extend(batch.iter().map(|m| m.body.clone()));
            taken.extend(batch);
        }
        for message in taken {
            self.expose(&message.receipt);
        }
        bodies
    }
}
