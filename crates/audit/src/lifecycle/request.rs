//! What somebody asked to be archived: the logs of a time that a filter matches, or single logs. It
//! stands in the run; the message that carries it names the run.

use chrono::{DateTime, Utc};
use contracts::LogId;
use contracts::audit::lifecycle::{RunId, UnitId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::retention::Filter;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Logs of a time.
    Time {
        /// From, by `recorded_at`.
        from: DateTime<Utc>,
        /// Up to, not including.
        to: DateTime<Utc>,
        /// Of them, these.
        #[serde(default)]
        filter: Filter,
        /// Of them, those of transactions below this one: what somebody was shown, and nothing that came
        /// after. Absent: all that are there when the run is planned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot_xmin: Option<u64>,
    },
    /// Single logs.
    Logs {
        /// Which.
        ids: Vec<LogId>,
    },
}

/// The id of a run's unit: the same for the same number, so that a planning that is done again adds the
/// same units, and messages can name them before they are stored.
pub fn unit_id(run: RunId, number: u32) -> UnitId {
    Uuid::new_v5(&run, &number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let time = r#"{"kind":"time","from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z","filter":{"actions":["a.*"]}}"#;
        let logs = r#"{"kind":"logs","ids":["01940000-0000-7000-8000-000000000001"]}"#;
        for text in [time, logs] {
            let request: Request = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
    }

    #[test]
    fn a_unit_has_one_id() {
        let run = Uuid::from_u128(1);
        assert_eq!(unit_id(run, 1), unit_id(run, 1));
        assert!(unit_id(run, 1) != unit_id(run, 2) && unit_id(run, 1) != unit_id(Uuid::nil(), 1));
    }
}
