//! What the index worker tells of itself besides what the engine tells: one value per event, which
//! writes the log line and the metric together. Never a tenant as a label: there are too many.

use metrics::{counter, histogram};
use tracing::{debug, warn};

/// Logs by what became of them in the store: `stored`, `known`, `erased`, `refused`, `waiting`.
pub const LOGS_TOTAL: &str = "flotilla_index_logs_total";
/// Logs per insert.
pub const BATCH_LOGS: &str = "flotilla_index_batch_logs";
/// Documents that were taken back because their logs were erased meanwhile.
pub const TAKEN_BACK_TOTAL: &str = "flotilla_index_taken_back_total";

/// A batch went through the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchStored {
    /// New rows.
    pub(super) stored: u64,
    /// There before.
    pub(super) known: u64,
    /// Held off by a tombstone.
    pub(super) erased: u64,
    /// Refused by PostgreSQL.
    pub(super) refused: u64,
    /// Without a partition yet.
    pub(super) waiting: u64,
}

impl BatchStored {
    pub(super) fn emit(self) {
        let Self { stored, known, erased, refused, waiting } = self;
        let all = stored + known + erased + refused + waiting;
        #[expect(clippy::cast_precision_loss, reason = "a batch is some thousands")]
        histogram!(BATCH_LOGS).record(all as f64);
        for (outcome, count) in [
            ("stored", stored),
            ("known", known),
            ("erased", erased),
            ("refused", refused),
            ("waiting", waiting),
        ] {
            if count > 0 {
                counter!(LOGS_TOTAL, "outcome" => outcome).increment(count);
            }
        }
        if refused + waiting > 0 {
            warn!(stored, known, erased, refused, waiting, "a batch was not stored whole");
        } else {
            debug!(stored, known, erased, "batch stored");
        }
    }
}

/// Documents were written after their logs had been erased, and taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenBack {
    /// How many.
    pub(super) documents: usize,
}

impl TakenBack {
    pub(super) fn emit(self) {
        counter!(TAKEN_BACK_TOTAL).increment(self.documents as u64);
        debug!(documents = self.documents, "documents of erased logs taken back");
    }
}
