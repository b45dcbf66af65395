//! What a cleanup tells: one value per event, which writes the log line and the metric.

use metrics::counter;
use tracing::{info, warn};
use uuid::Uuid;

use super::Done;

/// Units by what became of them: `deleted`, `spared`, `over`, `failed`.
pub(super) const UNITS_TOTAL: &str = "flotilla_cleanup_units_total";
/// Events that are deleted and have a receipt.
pub(super) const EVENTS_TOTAL: &str = "flotilla_cleanup_events_total";
/// Counts of search that still found deleted logs.
pub(super) const STILL_FOUND_TOTAL: &str = "flotilla_cleanup_still_found_total";
/// Objects of the archive that are past their term: `removed`, `locked`, `held`.
pub(super) const OBJECTS_TOTAL: &str = "flotilla_cleanup_objects_total";

pub(super) struct UnitEnded {
    pub(super) done: Done,
}

impl UnitEnded {
    pub(super) fn emit(&self) {
        let outcome = match self.done {
            Done::Deleted => "deleted",
            Done::Spared => "spared",
            Done::Over => "over",
        };
        counter!(UNITS_TOTAL, "outcome" => outcome).increment(1);
    }
}

pub(super) struct UnitFailed<'a> {
    pub(super) unit: Uuid,
    pub(super) why: &'a str,
}

impl UnitFailed<'_> {
    pub(super) fn emit(&self) {
        warn!(unit = %self.unit, why = self.why, "a unit's deletion has failed; what is left of it stays");
        counter!(UNITS_TOTAL, "outcome" => "failed").increment(1);
    }
}

pub(super) struct Deleted {
    pub(super) unit: Uuid,
    pub(super) receipt: u64,
    pub(super) events: u64,
}

impl Deleted {
    pub(super) fn emit(&self) {
        let Self { unit, receipt, events } = self;
        info!(%unit, receipt, events, "deleted, and the receipt is in the chain");
        counter!(EVENTS_TOTAL).increment(*events);
    }
}

pub(super) struct StillFound {
    pub(super) unit: Uuid,
    pub(super) found: u64,
}

impl StillFound {
    pub(super) fn emit(&self) {
        warn!(unit = %self.unit, found = self.found, "search still finds deleted logs; the receipt waits");
        counter!(STILL_FOUND_TOTAL).increment(1);
    }
}

pub(super) struct ObjectExpired<'a> {
    pub(super) object: &'a str,
    pub(super) outcome: &'static str,
    pub(super) why: &'a str,
}

impl ObjectExpired<'_> {
    pub(super) fn emit(&self) {
        info!(
            object = self.object,
            outcome = self.outcome,
            why = self.why,
            "an object past its term"
        );
        counter!(OBJECTS_TOTAL, "outcome" => self.outcome).increment(1);
    }
}
