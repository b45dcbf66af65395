//! A cleanup as somebody asks for it: the logs up to a time that a filter matches are archived and then
//! deleted. What is asked for with an empty filter, which is every log, has to be said in so many words.
//! It says nothing about what may be deleted: that is up to holds and legal minimums.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::filter::Filter;
use super::hold::read_time;
use super::reader::{Reader, optional};
use crate::event::FieldError;

/// Characters of a confirm token at most.
const CONFIRM_CHARS_MAX: usize = 512;

/// Which logs are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CleanupDraft {
    /// Those that it matches.
    pub filter: Filter,
    /// Of them, those recorded at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Of them, those recorded before this time.
    pub before: DateTime<Utc>,
    /// The token of a dry run; absent: this is to be one.
    #[serde(skip)]
    pub confirm: Option<String>,
}

impl CleanupDraft {
    /// Reads what a person asked for at `now`.
    pub fn read(value: &Value, now: DateTime<Utc>) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let draft = Self::read_members(&mut reader, value, now);
        reader.finish(draft)
    }

    fn read_members(reader: &mut Reader, value: &Value, now: DateTime<Utc>) -> Option<Self> {
        let members = reader.object("", value, &["filter", "from", "before", "all", "confirm"])?;
        let filter = optional(members, "filter")
            .map(|filter| Filter::read(reader, "/filter", filter))
            .unwrap_or_default();
        let all = optional(members, "all");
        let words = [("true", true), ("false", false)];
        let all = match all {
            Some(Value::Bool(all)) => *all,
            Some(other) => reader.word("/all", other, &words).unwrap_or(false),
            None => false,
        };
        if all == (filter != Filter::default()) {
            let text = if all {
                "expected all only where the filter is empty"
            } else {
                "an empty filter is every log of the time: say so by \"all\": true"
            };
            reader.wrong(if all { "/all" } else { "/filter" }, text);
        }
        let before = reader.required("", members, "before");
        let before = before.and_then(|at| read_time(reader, "/before", at));
        let from = optional(members, "from").and_then(|at| read_time(reader, "/from", at));
        if before.is_some_and(|before| before > now) {
            reader.wrong("/before", "expected a time that is over");
        }
        if before.zip(from).is_some_and(|(before, from)| from >= before) {
            reader.wrong("/before", "expected a time after /from");
        }
        let confirm = optional(members, "confirm");
        let confirm = confirm.and_then(|text| reader.text("/confirm", text, 1..=CONFIRM_CHARS_MAX));
        Some(Self { filter, from, before: before?, confirm: confirm.map(ToOwned::to_owned) })
    }

    /// Names what is asked for, whatever the order of its members: SHA-256 of canonical JSON (RFC 8785).
    pub fn fingerprint(&self) -> [u8; 32] {
        // Texts, lists of them and true: these are always written.
        Sha256::digest(serde_json_canonicalizer::to_vec(self).unwrap_or_default()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn read(value: &Value) -> Result<CleanupDraft, String> {
        CleanupDraft::read(value, now()).map_err(|errors| {
            let told = errors.into_iter().map(|e| format!("{} {}", e.pointer, e.detail));
            told.collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn every_log_is_asked_for_in_so_many_words() {
        let before = "2026-01-01T00:00:00Z";
        for (value, wrong) in [
            (json!({"before": before}), "/filter an empty filter"),
            (json!({"before": before, "filter": {}, "all": false}), "/filter an empty filter"),
            (json!({"before": before, "filter": {"actions": []}}), "/filter an empty filter"),
            (json!({"before": before, "filter": {"actions": ["a"]}, "all": true}), "/all expected"),
            (json!({"all": true}), "/before expected a value"),
            (json!({"all": "yes", "before": before}), "/all expected one of true, false"),
            (json!({"all": true, "before": "2026-06-01T00:00:00.000001Z"}), "that is over"),
            (json!({"all": true, "before": before, "from": before}), "after /from"),
            (json!({"all": true, "before": before, "user": "u"}), "/user no member"),
            (json!({"all": true, "before": before, "confirm": "x".repeat(513)}), "/confirm"),
        ] {
            let told = read(&value).unwrap_err();
            assert!(told.contains(wrong), "{value}: {told}");
        }
        let all = read(&json!({"all": true, "before": before})).unwrap();
        assert_eq!(read(&json!({"all": "true", "before": before})), Ok(all), "as a parameter is");
        assert!(read(&json!({"filter": {"actions": ["a.*"]}, "before": before})).is_ok());
    }

    #[test]
    fn a_fingerprint_is_of_what_goes_alone() {
        let of = |value: Value| read(&value).unwrap().fingerprint();
        let one = json!({"filter": {"actions": ["a"]}, "before": "2026-01-01T00:00:00Z"});
        let mut same = json!({"before": "2026-01-01T01:00:00+01:00", "confirm": "t", "filter": {"actions": ["a"]}});
        assert_eq!(of(one.clone()), of(same.clone()));
        for (member, value) in [
            ("before", json!("2026-01-01T00:00:00.000001Z")),
            ("from", json!("2025-01-01T00:00:00Z")),
            ("filter", json!({"actions": ["a*"]})),
        ] {
            let before = same[member].take();
            same[member] = value;
            assert_ne!(of(one.clone()), of(same.clone()), "{member}");
            same[member] = before;
        }
    }
}
