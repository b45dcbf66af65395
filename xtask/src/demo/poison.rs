//! A poison message and what it should have been: an envelope cut off in its middle, as a broken
//! producer would send it, and the whole one.

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use contracts::audit::{IndexMessage, LogItem};
use contracts::{Envelope, EnvelopeId, Header, LogId};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// The metadata field by which the mended log is found.
pub(super) const FIELD: &str = "mended_by_demo";

/// Both forms of one message.
pub(super) struct Poison {
    /// What is sent first.
    pub(super) broken: String,
    /// What an operator makes of it.
    pub(super) mended: String,
    /// Value of [`FIELD`].
    pub(super) mark: String,
}

impl Poison {
    #[expect(clippy::disallowed_methods, reason = "the demo happens now; nothing tests its time")]
    pub(super) fn new(tenant: &str) -> Result<Self> {
        let (now, id) = (Utc::now(), Uuid::now_v7());
        let mark = id.simple().to_string();
        // The record's time is its id's: a UUIDv7 carries the millisecond.
        let at = LogId(id).recorded_millis().unwrap_or(now);
        let record = json!({
            "id": id,
            "tenant": tenant,
            "recorded_at": at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "class": "90d",
            "source": { "key_id": "demo" },
            "event": {
                "actor": { "type": "user", "id": "demo" },
                "action": "demo.mended",
                "targets": [{ "type": "message", "id": mark }],
                "outcome": "success",
                "metadata": { FIELD: mark },
            },
        });
        let mended = index_message(tenant, at, to_raw_value(&record)?)?;
        let broken = mended.get(..mended.len() / 2).context("an ASCII envelope")?.to_owned();
        Ok(Self { broken, mended, mark })
    }
}

/// The message that the API makes of a record.
pub(super) fn index_message(
    tenant: &str,
    recorded_at: DateTime<Utc>,
    record: Box<RawValue>,
) -> Result<String> {
    let salt = "00112233445566778899aabbccddeeff".to_owned();
    let message = IndexMessage::Index(LogItem { salt, record });
    let header = Header {
        v: 1,
        kind: "INDEX".into(),
        id: EnvelopeId(Uuid::now_v7()),
        tenant: tenant.parse()?,
        recorded_at,
        correlation_id: "demo".into(),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    };
    Ok(Envelope::wrap(header, &message)?.to_json()?)
}

#[cfg(test)]
mod tests {
    use super::Poison;
    use contracts::Envelope;

    #[test]
    fn one_form_is_an_envelope_and_the_other_is_not() {
        let poison = Poison::new("demo").unwrap();
        assert!(Envelope::from_json(&poison.broken).is_err());
        let envelope = Envelope::from_json(&poison.mended).unwrap();
        assert_eq!(envelope.header.kind, "INDEX");
        assert!(poison.mended.contains(&poison.mark));
    }
}
