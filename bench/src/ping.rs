//! The smallest message that the engine can carry, and a worker that notes its id and does nothing.

use std::sync::Mutex;

use contracts::catalogue::{AUDIT_INDEX, QueueSpec};
use contracts::{DecodeError, Header, Message};
use queue_core::{Delivery, Failure, Worker};
use serde_json::value::RawValue;

/// A message that carries only its id.
pub struct Ping;

impl Message for Ping {
    const QUEUE: &'static QueueSpec = &AUDIT_INDEX;
    fn kind(&self) -> &'static str {
        "PING"
    }
    fn version(&self) -> u32 {
        1
    }
    fn body_json(&self) -> Result<String, serde_json::Error> {
        Ok("{}".into())
    }
    fn decode(header: &Header, _body: &RawValue) -> Result<Self, DecodeError> {
        match header.kind.as_str() {
            "PING" => Ok(Self),
            _ => Err(DecodeError::UnknownType(header.kind.clone())),
        }
    }
}

/// Notes the id.
#[derive(Default)]
pub struct Note {
    /// Every id, as often as it came.
    pub seen: Mutex<Vec<u128>>,
}

impl Worker for Note {
    const NAME: &'static str = "note";
    type Message = Ping;
    async fn handle(&self, delivery: Delivery<Ping>) -> Result<(), Failure> {
        let id = delivery.header.id.0.as_u128();
        self.seen.lock().expect("no handler panics").push(id);
        Ok(())
    }
}

/// Ids, and the messages that carry them.
pub fn bodies(count: usize) -> (Vec<u128>, Vec<String>) {
    let ids: Vec<u128> = (0..count).map(|_| uuid::Uuid::now_v7().as_u128()).collect();
    let bodies = ids
        .iter()
        .map(|id| {
            format!(
                r#"{{"v":1,"type":"PING","id":"{}","tenant":"bench","recorded_at":"2025-01-01T00:00:00Z","correlation_id":"b","body":{{}}}}"#,
                uuid::Uuid::from_u128(*id)
            )
        })
        .collect();
    (ids, bodies)
}
