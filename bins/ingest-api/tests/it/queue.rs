//! What the API published, read back as messages.

use contracts::audit::{IndexMessage, LogItem};
use contracts::{Body, Envelope, LogId, Message};
use testkit::QueueDouble;

/// Reads what was sent.
pub(crate) trait Published {
    /// The messages, in the order they were sent.
    fn messages(&self) -> Vec<(contracts::Header, IndexMessage)>;

    /// Every log that was sent, repeats included.
    fn items(&self) -> Vec<(contracts::Header, LogItem)> {
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

    /// Their ids.
    fn ids(&self) -> Vec<LogId> {
        self.items()
            .iter()
            .map(|(_, item)| audit::record::Record::parse(item.record.get().as_bytes()).unwrap().id)
            .collect()
    }
}

impl Published for QueueDouble {
    fn messages(&self) -> Vec<(contracts::Header, IndexMessage)> {
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
}
