//! The canonical record of a log as a typed view: the bytes that `event::record_bytes` wrote once,
//! read without copying them. It never re-encodes what it read, and it does not judge an event.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use serde::{Deserialize, Deserializer, Serialize};
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
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub targets: Vec<Party<'a>>,
    /// How it reached the client's system.
    #[serde(borrow, default, deserialize_with = "or_default")]
    pub context: Context<'a>,
    /// How it ended; unknown where the client did not say.
    #[serde(default, deserialize_with = "or_default")]
    pub outcome: Outcome,
    /// When it happened by the client's clock.
    #[serde(default)]
    pub occurred_at: Option<DateTime<Utc>>,
    /// Anything else, a JSON object, verbatim.
    #[serde(borrow, default)]
    pub metadata: Option<&'a RawValue>,
}

/// An optional member may be absent or `null`; both mean its default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried and did not work.
    Failure,
    /// It was not allowed.
    Denied,
    /// The client cannot tell.
    #[default]
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

    fn record(event: &str) -> String {
        format!(
            r#"{{"id":"0193e9a0-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-02T03:04:05.678900Z","class":"1y","source":{{"key_id":"k1","ip":"::1"}},"event":{event},"later":1}}"#
        )
    }

    #[test]
    fn a_record_is_read_without_copies_where_it_holds_no_escapes() {
        let text = record(
            r#"{"actor":{"type":"user","id":"u1","name":"\u00c5sa"},"action":"invoice.paid","targets":[{"type":"invoice","id":"i-9"}],"outcome":"denied","metadata":{"amount":1.50,"big":1e999999}}"#,
        );
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.tenant.as_str(), "acme");
        assert_eq!(record.event.actor.name.unwrap().as_str(), "Åsa");
        assert_eq!(record.event.metadata.unwrap().get(), r#"{"amount":1.50,"big":1e999999}"#);
        assert_eq!(record.event.targets[0].id.as_str(), "i-9");
        assert_eq!(record.event.outcome, Outcome::Denied);
        assert!(matches!(record.event.action.0, Cow::Borrowed(_)), "no copy where no escapes");
    }

    #[test]
    fn absent_and_null_members_mean_the_same() {
        let absent = record(r#"{"actor":{"type":"user","id":"u1"},"action":"a"}"#);
        let null = record(
            r#"{"actor":{"type":"user","id":"u1","name":null},"action":"a","targets":null,"context":null,"outcome":null,"occurred_at":null,"metadata":null}"#,
        );
        for text in [absent, null] {
            let event = Record::parse(text.as_bytes()).unwrap().event;
            assert_eq!(event.outcome, Outcome::Unknown);
            assert!(event.targets.is_empty() && event.metadata.is_none());
            assert!(event.occurred_at.is_none() && event.actor.name.is_none());
            assert_eq!(event.context, Context::default());
        }
    }

    #[test]
    fn a_text_with_a_lone_surrogate_is_no_record() {
        let text = record(r#"{"actor":{"type":"user","id":"\ud800"},"action":"a"}"#);
        assert!(Record::parse(text.as_bytes()).is_err());
    }
}
