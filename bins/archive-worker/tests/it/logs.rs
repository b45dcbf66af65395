//! Logs as the API makes them and the index worker admits them.

use audit::event::{self, EventLimits, Origin, Rules, Stamp};
use audit::model::NewLog;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::scene::acme;

/// A log of that time, with a text of so many characters that does not compress.
pub(crate) fn log(at: DateTime<Utc>, action: &str, chars: usize) -> NewLog {
    let random: [u8; 10] = Uuid::new_v4().as_bytes()[..10].try_into().unwrap();
    let id = LogId(contracts::ids::uuid_v7_at(at, random));
    let mut noise = String::new();
    let mut block = Sha256::digest(id.0.as_bytes());
    while noise.len() < chars {
        noise.push_str(&hex::encode(block));
        block = Sha256::digest(block);
    }
    let event = format!(
        r#"{{"actor":{{"type":"user","id":"u1"}},"action":"{action}","metadata":{{"noise":"{noise}"}}}}"#
    );
    let rules = Rules::at(at, EventLimits::default(), false);
    let event = event::validate_text(&event, &rules).unwrap();
    let stamp = Stamp { id, tenant: acme(), recorded_at: at, class: RetentionClass::Days90 };
    let source = Origin { key_id: "k1".into(), ip: None, user_agent: None };
    let record = event::record_bytes(&stamp, &source, &event).unwrap();
    let salt = hex::encode(id.0.as_bytes());
    audit::rules::admit(&acme(), Bytes::from(record.get().to_owned()), &salt).unwrap()
}
