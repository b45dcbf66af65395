//! The releaser: a background task of every engine on a FIFO queue. It carries out what operators
//! decided over parked groups: it sends what is due, one message of a group at a time, and dead
//! letters of those that are skipped. It decides nothing, and the store sees to it that of several
//! releasers one acts.

use std::sync::Arc;
use std::time::Duration;

use contracts::{Envelope, errors};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admit::{Parking, within_limit};
use super::{Due, MARKER_ATTRIBUTE};
use crate::attempts::History;
use crate::delivery::reject::{DeadLetters, Rejection};
use crate::driver::{Driver, Outgoing, Received};
use crate::events;
use crate::send::{SEND_BYTES_MAX, SendError, SendLimits, Sender};

/// Between two looks while nothing calls for one. A decision takes effect within it.
const LOOK: Duration = Duration::from_secs(2);
/// Between two counts of what is parked.
const COUNT: Duration = Duration::from_secs(10);
/// Groups that one look takes on.
const GROUPS_MAX: usize = 10;
/// Attributes that SQS takes per message; the marker is one. What had to be left out is in the store
/// and is there again when the message is handled.
const ATTRIBUTES_MAX: usize = 10;

pub(crate) struct Releaser {
    pub(crate) parking: Arc<Parking>,
    pub(crate) sender: Sender,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) drain: CancellationToken,
}

impl Releaser {
    /// The way back to the queue.
    pub(crate) fn sender(queue: Arc<dyn Driver>) -> Sender {
        Sender::new(
            queue,
            SendLimits { attempts: 3, deadline: Duration::from_secs(10), ..SendLimits::default() },
        )
    }

    /// Runs until the drain begins, and then waits to be dropped.
    pub(crate) async fn run(self) {
        let mut counted: Option<Instant> = None;
        loop {
            if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                self.count().await;
                counted = Some(Instant::now());
            }
            let acted = self.act().await;
            if acted == GROUPS_MAX {
                continue;
            }
            tokio::select! {
                biased;
                () = self.drain.cancelled() => return std::future::pending().await,
                () = self.parking.handled.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn count(&self) {
        let figures = self.parking.store.figures(self.parking.queue);
        if let Ok(figures) = within_limit(figures).await {
            self.parking.meters.parked(figures);
        }
    }

    /// Does what is due, and tells in how many groups something was.
    async fn act(&self) -> usize {
        let due = self.parking.store.due(self.parking.queue, GROUPS_MAX);
        let due = match within_limit(due).await {
            Ok(due) => due,
            Err(error) => {
                events::ParkingFailed { error: &error }.emit(&self.parking.meters);
                return 0;
            }
        };
        let acted = due.len();
        join_all(due.iter().map(|due| self.one(due))).await;
        acted
    }

    async fn one(&self, due: &Due) {
        let group = &due.message.group;
        let result = match &due.skipped {
            Some(reason) => self.skip(due, reason).await,
            None => self.release(due).await,
        };
        let meters = &self.parking.meters;
        match result {
            Ok(()) => events::Released { group, due }.emit(meters),
            // The claim runs out, and the step is repeated.
            Err(error) => events::NotReleased { group, error: &error }.emit(meters),
        }
    }

    async fn release(&self, due: &Due) -> Result<(), String> {
        self.sender.send(outgoing(due)).await.map_err(|error| error.to_string())?;
        let (queue, group) = (self.parking.queue, &due.message.group);
        within_limit(self.parking.store.sent(queue, group, due.marker))
            .await
            .map_err(|error| error.to_string())
    }

    async fn skip(&self, due: &Due, reason: &str) -> Result<(), String> {
        let message = &due.message;
        let received = Received {
            message_id: message.message_id.clone(),
            body: message.body.clone(),
            sent_at_ms: message.first_seen.timestamp_millis(),
            group: Some(message.group.clone()),
            attributes: message.attributes.clone(),
            ..Received::default()
        };
        let envelope = Envelope::from_json(&message.body).ok();
        let rejection = Rejection {
            received: &received,
            body: &message.body,
            header: envelope.as_ref().map(|envelope| &envelope.header),
            code: errors::SKIPPED,
            reason,
            history: &History::default(),
        };
        let sent = self.dead_letters.send(&rejection).await;
        sent.map_err(|error: SendError| error.to_string())?;
        let noted = self.parking.store.lettered(self.parking.queue, message, Some(due.marker));
        within_limit(noted).await.map_err(|error| error.to_string())
    }
}

/// What is sent. Where marker and original do not fit together, the marker goes alone: the original
/// is in the store.
fn outgoing(due: &Due) -> Outgoing {
    let marker = due.marker.to_string();
    let mut attributes = vec![(MARKER_ATTRIBUTE.to_owned(), marker.clone())];
    attributes.extend(due.message.attributes.iter().take(ATTRIBUTES_MAX - 1).cloned());
    let whole = Outgoing {
        body: due.message.body.clone(),
        attributes,
        group: Some(due.message.group.clone()),
        deduplication: Some(format!("parked-{}-{}", due.message.message_id, due.marker.release)),
        delay: None,
    };
    if whole.size() <= SEND_BYTES_MAX {
        return whole;
    }
    let body = format!("{{\"{MARKER_ATTRIBUTE}\":\"{marker}\"}}");
    Outgoing { body, attributes: whole.attributes.into_iter().take(1).collect(), ..whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::{Marker, ParkedMessage};

    fn due(body: usize, attributes: usize) -> Due {
        Due {
            marker: Marker { id: 7, release: 2 },
            message: ParkedMessage {
                group: "g".into(),
                message_id: "m".into(),
                tenant: None,
                kind: None,
                body: "x".repeat(body),
                attributes: (0..attributes).map(|at| (format!("a{at}"), "v".into())).collect(),
                first_seen: chrono::DateTime::UNIX_EPOCH,
            },
            skipped: None,
        }
    }

    #[test]
    fn what_is_sent_fits_the_broker_whatever_the_original_was() {
        let small = outgoing(&due(10, 3));
        assert_eq!((small.body.len(), small.attributes.len()), (10, 4));
        assert_eq!(small.attributes[0], (MARKER_ATTRIBUTE.to_owned(), "7.2".to_owned()));
        assert_eq!(small.deduplication.as_deref(), Some("parked-m-2"));
        assert_eq!(outgoing(&due(10, 10)).attributes.len(), 10);
        let marker = MARKER_ATTRIBUTE.len() + "7.2".len() + "String".len();
        assert_eq!(outgoing(&due(SEND_BYTES_MAX - marker, 0)).size(), SEND_BYTES_MAX);
        let large = outgoing(&due(SEND_BYTES_MAX - marker + 1, 0));
        assert!(large.size() < 100 && large.group.as_deref() == Some("g"), "{large:?}");
    }
}
