//! A legal hold: whatever it matches is not deleted, by no policy and on nobody's request, until
//! somebody releases it and says why. A hold is never changed: it is placed and it is released.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::filter::Filter;
use super::reader::{Reader, optional};
use crate::event::FieldError;

/// A hold.
pub type HoldId = Uuid;

/// Characters of a matter at most.
pub const MATTER_CHARS_MAX: usize = 200;
/// Characters of a reason at most.
pub const REASON_CHARS_MAX: usize = 1_000;

/// A hold as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDraft {
    /// The case, in the words of whoever needs it.
    pub matter: String,
    /// Why.
    pub reason: String,
    /// Which logs.
    #[serde(default)]
    pub filter: Filter,
    /// Of them, those recorded at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Of them, those recorded before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
}

/// A hold that was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// What was asked for.
    #[serde(flatten)]
    pub draft: HoldDraft,
    /// Who placed it: key id and address.
    pub placed_by: Value,
    /// When.
    pub placed_at: DateTime<Utc>,
    /// How it ended; absent: it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Release>,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who: key id and address.
    pub by: Value,
    /// When.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: String,
}

impl HoldDraft {
    /// Reads a hold as a person wrote it.
    pub fn read(value: &Value) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let draft = Self::read_members(&mut reader, value);
        reader.finish(draft)
    }

    fn read_members(reader: &mut Reader, value: &Value) -> Option<Self> {
        let members = reader.object("", value, &["matter", "reason", "filter", "from", "to"])?;
        let matter = reader.required("", members, "matter");
        let matter = matter.and_then(|text| reader.text("/matter", text, 1..=MATTER_CHARS_MAX));
        let reason = reader.required("", members, "reason");
        let reason = reason.and_then(|text| reader.text("/reason", text, 1..=REASON_CHARS_MAX));
        // A hold on everything has to be asked for as such: an absent filter may be a mistake.
        let filter = reader.required("", members, "filter");
        let filter = filter.map(|filter| Filter::read(reader, "/filter", filter));
        let mut time = |key: &str| {
            let value = optional(members, key)?;
            read_time(reader, &format!("/{key}"), value)
        };
        let (from, to) = (time("from"), time("to"));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            reader.wrong("/to", "expected a time after /from");
        }
        Some(Self {
            matter: matter?.to_owned(),
            reason: reason?.to_owned(),
            filter: filter?,
            from,
            to,
        })
    }
}

/// A time as RFC 3339 writes it.
pub(super) fn read_time(
    reader: &mut Reader,
    pointer: &str,
    value: &Value,
) -> Option<DateTime<Utc>> {
    let text = reader.text(pointer, value, 1..=64)?;
    let Ok(at) = DateTime::parse_from_rfc3339(text) else {
        let detail = format!(
            "expected a time as RFC 3339 writes it, e.g. 2026-01-31T12:00:00Z; got {text:?}"
        );
        reader.wrong(pointer, detail);
        return None;
    };
    // As PostgreSQL keeps it.
    Some(at.with_timezone(&Utc).trunc_subsecs(6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hold_says_what_why_and_which() {
        let draft = HoldDraft::read(&json!({
            "matter": "Acme v. Umbrella", "reason": "letter of 3 March",
            "filter": {"actors": [{"type": "user", "id": "u1"}]}, "from": "2026-01-01T00:00:00Z",
        }));
        let draft = draft.unwrap();
        assert_eq!(draft.filter.actors[0].id.as_deref(), Some("u1"));
        assert_eq!(serde_json::from_value::<HoldDraft>(json!(draft)).unwrap(), draft);
        assert!(HoldDraft::read(&json!({"matter": "m", "reason": "r", "filter": {}})).is_ok());
        for (body, pointer) in [
            (json!([]), ""),
            (json!({"matter": "m", "reason": "r"}), "/filter"),
            (json!({"matter": "", "reason": "r", "filter": {}}), "/matter"),
            (json!({"matter": "m".repeat(201), "reason": "r", "filter": {}}), "/matter"),
            (json!({"matter": "m", "reason": "r".repeat(1_001), "filter": {}}), "/reason"),
            (json!({"matter": "m", "reason": "r", "filter": {}, "until": 1}), "/until"),
            (json!({"matter": "m", "reason": "r", "filter": {}, "from": "monday"}), "/from"),
            (
                json!({"matter": "m", "reason": "r", "filter": {},
                       "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
                "/to",
            ),
        ] {
            let problems = HoldDraft::read(&body).unwrap_err();
            assert_eq!(problems[0].pointer, pointer, "{body} {problems:?}");
        }
    }
}
