//! A message that any text is, and a worker that does nothing with it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use contracts::catalogue::{AUDIT_INDEX, QueueKind, QueueSpec};
use contracts::legacy::legacy_id;
use contracts::message::Bare;
use contracts::{DecodeError, EnvelopeId, Header, Message};
use queue_core::{Delivery, Failure, MemoryParking, ParkStore, Worker};
use serde_json::value::RawValue;

/// The figures of the queue that somebody waits for.
const STANDARD: QueueSpec = QueueSpec { key: "contender", name: "contender", ..AUDIT_INDEX };
const ORDERED: QueueSpec = QueueSpec { kind: QueueKind::Fifo, name: "contender.fifo", ..STANDARD };

/// Whatever stands in the queue.
pub struct Anything<const FIFO: bool>;

impl<const FIFO: bool> Message for Anything<FIFO> {
    const QUEUE: &'static QueueSpec = if FIFO { &ORDERED } else { &STANDARD };

    fn kind(&self) -> &'static str {
        "ANYTHING"
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        Ok("{}".to_owned())
    }

    fn decode(_: &Header, _: &RawValue) -> Result<Self, DecodeError> {
        Ok(Self)
    }

    /// What is no envelope has its broker's id and time for a header.
    fn decode_bare(_: &str, from: &Bare<'_>) -> Option<Result<(Header, Self), DecodeError>> {
        let header = Header {
            v: 1,
            kind: "ANYTHING".to_owned(),
            id: EnvelopeId(legacy_id(from.message_id)),
            tenant: "contender".parse().ok()?,
            recorded_at: from.sent_at,
            correlation_id: from.message_id.to_owned(),
            causation_id: None,
            hops: 0,
            key: None,
            revision: None,
        };
        Some(Ok((header, Self)))
    }
}

/// Does nothing, and counts how often.
pub struct Nothing<const FIFO: bool> {
    handled: AtomicU64,
    ids: Option<Mutex<Vec<EnvelopeId>>>,
}

impl<const FIFO: bool> Nothing<FIFO> {
    /// One that keeps the ids, where somebody will compare them.
    pub fn new(keep_ids: bool) -> Self {
        Self { handled: AtomicU64::new(0), ids: keep_ids.then(Mutex::default) }
    }

    /// How often it was called.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// The ids, one a line.
    pub fn ids(&self) -> String {
        let mut text = String::new();
        let ids = self.ids.as_ref().map(|ids| ids.lock().expect("no handler panics"));
        for id in ids.iter().flat_map(|ids| ids.iter()) {
            writeln!(text, "{id}").ok();
        }
        text
    }
}

impl<const FIFO: bool> Worker for Nothing<FIFO> {
    const NAME: &'static str = "contender";
    type Message = Anything<FIFO>;

    async fn handle(&self, delivery: Delivery<Anything<FIFO>>) -> Result<(), Failure> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        if let Some(ids) = &self.ids {
            ids.lock().expect("no handler panics").push(delivery.header.id);
        }
        Ok(())
    }

    /// Asked for by the engine where there are groups; none is ever parked.
    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        if FIFO { Some(Arc::new(MemoryParking::default())) } else { None }
    }
}
