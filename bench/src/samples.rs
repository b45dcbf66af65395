//! Events that look like a cloud account's trail, some 500 bytes each, and the messages made of them
//! by the product's own code.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::audit::{BulkIndex, IndexMessage, LogItem};
use contracts::ids::uuid_v7_at;
use contracts::{Envelope, EnvelopeId, Header, LogId, RetentionClass, Tenant};

use audit::event::{self, EventLimits, Origin, Rules, Stamp};
use audit::model::NewLog;

use crate::load::{self, Requests};
use crate::machine;

const ACTIONS: [&str; 8] = [
    "iam.role.assumed",
    "s3.object.read",
    "ec2.instance.started",
    "invoice.paid",
    "user.login",
    "user.invited",
    "kms.key.used",
    "billing.plan.changed",
];

/// The tenant of every measurement.
pub fn tenant() -> Tenant {
    "bench".parse().expect("a valid tenant")
}

/// The n-th event as a client would send it.
pub fn event(n: u64) -> String {
    let action = ACTIONS[(n % 8) as usize];
    format!(
        r#"{{"actor":{{"type":"user","id":"u-{}","name":"Employee {}"}},"action":"{action}","targets":[{{"type":"account","id":"a-{}"}}],"context":{{"ip":"192.0.2.{}","user_agent":"aws-cli/2.15 md/prompt","request_id":"{n:016x}"}},"outcome":"success","metadata":{{"region":"eu-central-1","source":"console","read_only":{},"bytes":{}}}}}"#,
        n % 997,
        n % 997,
        n % 101,
        n % 250,
        n.is_multiple_of(3),
        n * 37 % 100_003
    )
}

/// `POST /logs` of events, prepared.
pub fn posts(authorization: Option<&str>) -> Requests {
    load::prepared(
        (0..4_096).map(|n| load::post("/logs", authorization, event(n).as_bytes())).collect(),
    )
}

/// `POST /logs/bulk` of a hundred events each, prepared.
pub fn bulks(authorization: &str) -> Requests {
    let bulk = |at: u64| {
        let events: Vec<String> = (at * 100..(at + 1) * 100).map(event).collect();
        load::post("/logs/bulk", Some(authorization), format!("[{}]", events.join(",")).as_bytes())
    };
    load::prepared((0..64).map(bulk).collect())
}

/// A log as the API would have made it.
pub fn item(n: u64, now: DateTime<Utc>) -> (LogId, LogItem) {
    item_of(&event(n), now)
}

fn item_of(event: &str, now: DateTime<Utc>) -> (LogId, LogItem) {
    let id = LogId(uuid_v7_at(now, rand_bytes()));
    let rules = Rules::at(now, EventLimits::default(), false);
    let event = event::validate_text(event, &rules).expect("a valid event");
    let stamp =
        Stamp { id, tenant: tenant(), recorded_at: micros(now), class: RetentionClass::Days90 };
    let origin = Origin { key_id: "bench".into(), ip: Some("192.0.2.1".into()), user_agent: None };
    let record = event::record_bytes(&stamp, &origin, &event).expect("a record");
    (id, LogItem { salt: hex(&rand_bytes::<16>()), record })
}

/// `count` logs in messages of `per_message`, as envelope texts, with every log's id.
pub fn messages(count: usize, per_message: usize) -> (Vec<u128>, Vec<String>) {
    let now = machine::now();
    let mut ids = Vec::with_capacity(count);
    let mut bodies = Vec::with_capacity(count / per_message);
    for start in (0..count).step_by(per_message) {
        let mut items = Vec::with_capacity(per_message);
        for n in start..(start + per_message).min(count) {
            let (id, item) = item(n as u64, now);
            ids.push(id.0.as_u128());
            items.push(item);
        }
        let message = match items.len() {
            1 => IndexMessage::Index(items.remove(0)),
            _ => IndexMessage::BulkIndex(BulkIndex { items }),
        };
        bodies.push(
            Envelope::wrap(header(now), &message).and_then(|e| e.to_json()).expect("an envelope"),
        );
    }
    (ids, bodies)
}

/// Logs ready to be stored, for the baselines.
pub fn new_logs(count: usize) -> Vec<NewLog> {
    let now = machine::now();
    let mut logs: Vec<NewLog> = (0..count as u64).map(|n| new_log(n, now)).collect();
    logs.sort_by(|a, b| a.key.cmp(&b.key));
    logs
}

/// The n-th log, accepted at that time.
pub fn new_log(n: u64, at: DateTime<Utc>) -> NewLog {
    admitted(item(n, at).1)
}

/// The same with so many letters and digits of noise, three quarters of which no codec can save.
pub fn noisy_log(n: u64, at: DateTime<Utc>, chars: usize) -> NewLog {
    let event = event(n).replacen(
        r#""metadata":{"#,
        &format!(r#""metadata":{{"noise":"{}","#, noise(chars)),
        1,
    );
    admitted(item_of(&event, at).1)
}

fn admitted(item: LogItem) -> NewLog {
    let record = Bytes::from(item.record.get().to_owned());
    audit::rules::admit(&tenant(), record, &item.salt).expect("admitted")
}

fn noise(chars: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(chars + 16);
    while text.len() < chars {
        let random: [u8; 16] = rand_bytes();
        text.extend(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    text.truncate(chars);
    text
}

/// The header of a message that is sent now; its type is set when it is wrapped.
pub fn header(now: DateTime<Utc>) -> Header {
    Header {
        v: 0,
        kind: String::new(),
        id: EnvelopeId(uuid::Uuid::now_v7()),
        tenant: tenant(),
        recorded_at: micros(now),
        correlation_id: "bench".into(),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    }
}

fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

fn rand_bytes<const N: usize>() -> [u8; N] {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    std::array::from_fn(|at| bytes[at])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
