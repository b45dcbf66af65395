//! What the archive tells of its units: one value per event, which writes the log line and the metric.

use metrics::{counter, histogram};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::Done;
use crate::lifecycle::Tally;

/// Units by what became of them: `sealed`, `empty`, `over`, `busy`, `missing`, `failed`.
pub(super) const UNITS_TOTAL: &str = "flotilla_archive_units_total";
/// Events that are in the chain.
pub(super) const EVENTS_TOTAL: &str = "flotilla_archive_events_total";
/// Bytes of their records.
pub(super) const BYTES_TOTAL: &str = "flotilla_archive_bytes_total";
/// Packed bytes of an object.
pub(super) const OBJECT_BYTES: &str = "flotilla_archive_object_bytes";
/// Objects that were not what was written, or held what was erased meanwhile, and were written again.
pub(super) const WRITTEN_AGAIN_TOTAL: &str = "flotilla_archive_written_again_total";
/// Names that others' objects had.
pub(super) const NAME_TAKEN_TOTAL: &str = "flotilla_archive_name_taken_total";

pub(in crate::archive) struct UnitEnded {
    pub(in crate::archive) done: Done,
}

impl UnitEnded {
    pub(in crate::archive) fn emit(&self) {
        let outcome = match self.done {
            Done::Sealed => "sealed",
            Done::Empty => "empty",
            Done::Over => "over",
            Done::Busy(_) => "busy",
            Done::Missing => "missing",
        };
        counter!(UNITS_TOTAL, "outcome" => outcome).increment(1);
    }
}

pub(in crate::archive) struct UnitFailed<'a> {
    pub(in crate::archive) unit: Uuid,
    pub(in crate::archive) why: &'a str,
}

impl UnitFailed<'_> {
    pub(in crate::archive) fn emit(&self) {
        warn!(unit = %self.unit, why = self.why, "a unit has failed; its logs stay");
        counter!(UNITS_TOTAL, "outcome" => "failed").increment(1);
    }
}

pub(in crate::archive) struct Sealed<'a> {
    pub(in crate::archive) object: &'a str,
    pub(in crate::archive) sequence: u64,
    pub(in crate::archive) events: Tally,
    pub(in crate::archive) packed: u64,
}

impl Sealed<'_> {
    pub(in crate::archive) fn emit(&self) {
        let Tally { events, bytes } = self.events;
        info!(
            object = self.object,
            manifest = self.sequence,
            events,
            bytes,
            "archived and verified"
        );
        counter!(EVENTS_TOTAL).increment(events);
        counter!(BYTES_TOTAL).increment(bytes);
        #[expect(clippy::cast_precision_loss, reason = "an object is below 2^52 bytes")]
        histogram!(OBJECT_BYTES).record(self.packed as f64);
    }
}

pub(in crate::archive) struct WrittenAgain<'a> {
    pub(in crate::archive) unit: Uuid,
    pub(in crate::archive) why: &'a str,
}

impl WrittenAgain<'_> {
    pub(in crate::archive) fn emit(&self) {
        warn!(unit = %self.unit, why = self.why, "a unit's object is written again");
        counter!(WRITTEN_AGAIN_TOTAL).increment(1);
    }
}

pub(in crate::archive) struct NameTaken<'a> {
    pub(in crate::archive) object: &'a str,
}

impl NameTaken<'_> {
    pub(in crate::archive) fn emit(&self) {
        debug!(object = self.object, "the name is taken; a further part takes another");
        counter!(NAME_TAKEN_TOTAL).increment(1);
    }
}
