//! What happens to parked groups, in the log and in figures.

use tracing::{debug, error, info, warn};

use super::Meters;
use super::meters::{GROUPS_PARKED_TOTAL, PARKING_FULL_TOTAL};
use crate::park::{Due, ParkReason, ParkStoreError};

/// A group was parked: its later messages wait for an operator.
pub(crate) struct GroupParked<'a> {
    pub(crate) group: &'a str,
    pub(crate) message: &'a str,
    pub(crate) reason: &'a ParkReason,
}

impl GroupParked<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { group, message, reason: ParkReason { code, message: reason } } = self;
        metrics::counter!(GROUPS_PARKED_TOTAL, &meters.labels_and("reason", code)).increment(1);
        error!(
            queue = meters.queue,
            group, message, code, reason, "group parked: decide with `fleetctl parked`"
        );
    }
}

/// A message of a parked group is in its line.
pub(crate) struct MessageParked<'a> {
    pub(crate) group: &'a str,
    pub(crate) message: &'a str,
}

impl MessageParked<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { group, message } = self;
        debug!(queue = meters.queue, group, message, "in the line of its parked group");
    }
}

/// There is no room to park: the group waits in the queue.
pub(crate) struct ParkingFull<'a> {
    pub(crate) group: &'a str,
    pub(crate) message: &'a str,
}

impl ParkingFull<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { group, message } = self;
        metrics::counter!(PARKING_FULL_TOTAL, &meters.labels()).increment(1);
        error!(
            queue = meters.queue,
            group, message, "parking is full: the group stays in the queue"
        );
    }
}

/// The parking store did not answer.
pub(crate) struct ParkingFailed<'a> {
    pub(crate) error: &'a ParkStoreError,
}

impl ParkingFailed<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        warn!(queue = meters.queue, error = %self.error, "parked groups cannot be asked for");
    }
}

/// A releaser carried out one step of a decision.
pub(crate) struct Released<'a> {
    pub(crate) group: &'a str,
    pub(crate) due: &'a Due,
}

impl Released<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { group, due } = self;
        let skipped = due.skipped.is_some();
        info!(
            queue = meters.queue,
            group,
            message = due.message.message_id,
            entry = due.marker.id,
            release = due.marker.release,
            skipped,
            "released from its parked group"
        );
    }
}

/// It could not; it is tried again.
pub(crate) struct NotReleased<'a> {
    pub(crate) group: &'a str,
    pub(crate) error: &'a str,
}

impl NotReleased<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        let Self { group, error } = self;
        warn!(queue = meters.queue, group, error, "not released, tried again");
    }
}

/// The last message of a parked group was handled.
pub(crate) struct GroupOpened<'a> {
    pub(crate) group: &'a str,
}

impl GroupOpened<'_> {
    pub(crate) fn emit(self, meters: &Meters) {
        info!(queue = meters.queue, group = self.group, "group open again");
    }
}
