//! A queue that takes, refuses, hangs, or takes and loses the answer.

use std::sync::Mutex;

use async_trait::async_trait;
use contracts::audit::{IndexMessage, LogItem};
use contracts::{Body, Envelope, LogId, Message};
use queue_core::driver::{EntryResults, Outgoing, QueueAttributes, ReceiveRequest, Received};
use queue_core::{Driver, DriverError};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    Refuses,
    /// Answers nothing until the mood changes.
    Hangs,
    TakesAndLosesTheAnswer,
}

#[derive(Debug)]
pub(crate) struct QueueDouble {
    sent: Mutex<Vec<Outgoing>>,
    mood: watch::Sender<Mood>,
}

impl QueueDouble {
    pub(crate) fn new() -> Self {
        Self { sent: Mutex::default(), mood: watch::Sender::new(Mood::Takes) }
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(crate) fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }

    /// What was sent, read.
    pub(crate) fn messages(&self) -> Vec<(contracts::Header, IndexMessage)> {
        self.sent()
            .iter()
            .map(|outgoing| {
                assert!(outgoing.body.is_ascii());
                let envelope = Envelope::from_json(&outgoing.body).unwrap();
                let Body::Inline(body) = envelope.body else { panic!("a claim") };
                let message = IndexMessage::decode(&envelope.header, &body).unwrap();
                (envelope.header, message)
            })
            .collect()
    }

    /// Every log that was sent, repeats included.
    pub(crate) fn items(&self) -> Vec<(contracts::Header, LogItem)> {
        let items = |(header, message): (contracts::Header, IndexMessage)| {
            let items = match message {
                IndexMessage::Index(item) => vec![item],
                IndexMessage::BulkIndex(bulk) => bulk.items,
                IndexMessage::Update(_) | IndexMessage::Delete(_) => Vec::new(),
            };
            items.into_iter().map(move |item| (header.clone(), item)).collect::<Vec<_>>()
        };
        self.messages().into_iter().flat_map(items).collect()
    }

    pub(crate) fn ids(&self) -> Vec<LogId> {
        self.items()
            .iter()
            .map(|(_, item)| audit::record::Record::parse(item.record.get().as_bytes()).unwrap().id)
            .collect()
    }
}

#[async_trait]
impl Driver for QueueDouble {
    fn queue(&self) -> &'static str {
        "double"
    }

    async fn receive(&self, _request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        Ok(receipts.iter().map(|_| Ok(())).collect())
    }

    async fn extend(
        &self,
        entries: &[(String, std::time::Duration)],
    ) -> Result<EntryResults, DriverError> {
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let mut moods = self.mood.subscribe();
        let mood = *moods.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
        if mood == Mood::Refuses {
            return Err(DriverError::Unavailable("connection refused".into()));
        }
        self.sent.lock().unwrap().extend_from_slice(entries);
        if mood == Mood::TakesAndLosesTheAnswer {
            return Err(DriverError::Timeout("the answer was lost".into()));
        }
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}
