//! The canonical record of a log: the bytes that are built once at the API, travel, are stored,
//! hashed and archived unchanged. This file writes them once and reads them as a typed view; it
//! never re-encodes what was read, and it does not judge an event (see `event` for that).

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use contracts::{LogId, RetentionClass, Tenant, json};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// Where a log came from, as the API saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source<'a> {
    /// Id of the API key, e.g. `k_8f3…`; `system` for the fleet's own logs, `legacy` for the legacy
    /// queue.
    #[serde(borrow)]
    pub key_id: Text<'a>,
    /// Address of the client.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Text<'a>>,
    /// Its `User-Agent`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<'a>>,
}

/// What a canonical record is made from; [`NewRecord::to_canonical`] is the only place that writes
/// one.
#[derive(Clone, Debug, Serialize)]
pub struct NewRecord<'a> {
    /// The log's id; the millisecond of a `UUIDv7` equals that of `recorded_at`.
    pub id: LogId,
    /// Whose log it is.
    pub tenant: &'a Tenant,
    /// When the API accepted it, UTC; cut to microseconds, always written with six digits.
    #[serde(serialize_with = "micros")]
    pub recorded_at: DateTime<Utc>,
    /// How long it is kept.
    pub class: RetentionClass,
    /// Where it came from.
    pub source: Source<'a>,
    /// The event as it was sent: minified, ASCII-escaped, numbers verbatim. Copied byte for byte.
    pub event: &'a RawValue,
}

impl NewRecord<'_> {
    /// The canonical bytes: one line of ASCII JSON.
    pub fn to_canonical(&self) -> Result<Box<RawValue>, serde_json::Error> {
        RawValue::from_string(json::to_ascii(self)?)
    }
}

fn micros<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Text that borrows from the record where it holds no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

/// A canonical record, read. It borrows from the bytes; unknown fields are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct Record<'a> {
    /// The log's id.
    pub id: LogId,
    /// Whose log it is.
    pub tenant: Tenant,
    /// When the API accepted it.
    pub recorded_at: DateTime<Utc>,
    /// How long it is kept.
    pub class: RetentionClass,
    /// Where it came from.
    #[serde(borrow)]
    pub source: Source<'a>,
    /// What happened.
    #[serde(borrow)]
    pub event: Event<'a>,
}

/// What happened, as the client sent it.
#[derive(Clone, Debug, Deserialize)]
pub struct Event<'a> {
    /// Who did it.
    #[serde(borrow)]
    pub actor: Party<'a>,
    /// What was done, e.g. `invoice.paid`.
    #[serde(borrow)]
    pub action: Text<'a>,
    /// To what; at most 32.
    #[serde(borrow, default)]
    pub targets: Vec<Party<'a>>,
    /// How it reached the client's system.
    #[serde(borrow, default)]
    pub context: Context<'a>,
    /// How it ended.
    pub outcome: Outcome,
    /// When it happened by the client's clock.
    #[serde(default)]
    pub occurred_at: Option<DateTime<Utc>>,
    /// Anything else, a JSON object, verbatim.
    #[serde(borrow, default)]
    pub metadata: Option<&'a RawValue>,
}

/// An actor or a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party<'a> {
    /// Kind of thing, e.g. `user`.
    #[serde(rename = "type", borrow)]
    pub kind: Text<'a>,
    /// Its id in the client's system.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// A name for people.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text<'a>>,
}

/// The circumstances of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context<'a> {
    /// Address that the actor came from.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Text<'a>>,
    /// The actor's user agent.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<'a>>,
    /// Session in the client's system.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Text<'a>>,
    /// Request in the client's system.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Text<'a>>,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried and did not work.
    Failure,
    /// It was not allowed.
    Denied,
    /// The client cannot tell.
    Unknown,
}

impl Outcome {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

impl<'a> Record<'a> {
    /// Reads a canonical record.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"actor":{"type":"user","id":"u1","name":"\u00c5sa"},"action":"invoice.paid","targets":[{"type":"invoice","id":"i-9"}],"context":{"ip":"192.0.2.7"},"outcome":"success","metadata":{"amount":1.50}}"#;

    fn canonical() -> Box<RawValue> {
        let event = RawValue::from_string(EVENT.into()).unwrap();
        let tenant = "acme".parse().unwrap();
        NewRecord {
            id: "0193e9a0-0000-7000-8000-000000000001".parse().unwrap(),
            tenant: &tenant,
            recorded_at: "2026-01-02T03:04:05.6789Z".parse().unwrap(),
            class: RetentionClass::Year1,
            source: Source { key_id: "k1".into(), ip: Some("::1".into()), user_agent: None },
            event: &event,
        }
        .to_canonical()
        .unwrap()
    }

    #[test]
    fn the_canonical_bytes_are_pinned() {
        assert_eq!(
            canonical().get(),
            format!(
                r#"{{"id":"0193e9a0-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-02T03:04:05.678900Z","class":"1y","source":{{"key_id":"k1","ip":"::1"}},"event":{EVENT}}}"#
            )
        );
    }

    #[test]
    fn a_record_reads_back_as_it_was_built() {
        let canonical = canonical();
        let record = Record::parse(canonical.get().as_bytes()).unwrap();
        assert_eq!(record.tenant.as_str(), "acme");
        assert_eq!(record.event.actor.name.unwrap().as_str(), "Åsa");
        assert_eq!(record.event.metadata.unwrap().get(), r#"{"amount":1.50}"#);
        assert_eq!(record.event.targets[0].id.as_str(), "i-9");
        assert!(matches!(record.event.action.0, Cow::Borrowed(_)), "no copy where no escapes");
    }
}
