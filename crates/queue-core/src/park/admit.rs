//! The engine's way to the parking store: every call has a time limit, and what could not be asked
//! counts as an outage of a sink, never against a message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contracts::{ErrorCode, Header, Message};
use tokio::sync::Notify;

use super::{
    Admission, MARKER_ATTRIBUTE, Marker, ParkReason, ParkStore, ParkStoreError, ParkedMessage,
    Place,
};
use crate::breaker::Probe;
use crate::delivery::decode;
use crate::delivery::reject::first_seen;
use crate::driver::Received;
use crate::events::{self, Meters};

/// One call to the store takes at most this long.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Parking, as the chains of one engine use it.
pub(crate) struct Parking {
    pub(crate) store: Arc<dyn ParkStore>,
    pub(crate) queue: &'static str,
    pub(crate) meters: Arc<Meters>,
    /// A released message was handled: the next one may be sent.
    pub(crate) handled: Notify,
}

pub(super) async fn within_limit<T>(
    call: impl Future<Output = Result<T, ParkStoreError>>,
) -> Result<T, ParkStoreError> {
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| Err(ParkStoreError(format!("no answer in {CALL_MAX:?}"))))
}

/// The marker that a releaser put on a message.
pub(crate) fn marker(received: &Received) -> Option<Marker> {
    let (_, text) = received.attributes.iter().find(|(name, _)| name == MARKER_ATTRIBUTE)?;
    text.parse().ok()
}

/// A message's own attributes.
pub(crate) fn unmarked(received: &Received) -> Vec<(String, String)> {
    received.attributes.iter().filter(|(name, _)| name != MARKER_ATTRIBUTE).cloned().collect()
}

/// A message as the store keeps it: what a release sends has the same identity.
pub(crate) fn parked<M: Message>(received: &Received, header: Option<&Header>) -> ParkedMessage {
    ParkedMessage {
        group: received.group.clone().unwrap_or_default(),
        message_id: received.message_id.clone(),
        tenant: header.map(|header| header.tenant.to_string()),
        kind: header.map(|header| header.kind.clone()),
        body: decode::resendable::<M>(received),
        attributes: unmarked(received),
        first_seen: first_seen(received),
    }
}

impl Parking {
    fn noted<T>(&self, result: Result<T, ParkStoreError>) -> Result<T, ParkStoreError> {
        result.inspect_err(|error| events::ParkingFailed { error }.emit(&self.meters))
    }

    /// Which of these groups are parked.
    pub(crate) async fn parked(&self, groups: &[String]) -> Result<Vec<bool>, ParkStoreError> {
        let mut parked = self.noted(within_limit(self.store.parked(self.queue, groups)).await)?;
        // One that the store says nothing of is asked for again, message by message.
        parked.resize(groups.len(), true);
        Ok(parked)
    }

    /// Judges a message that arrives in a parked group, or with a marker.
    pub(crate) async fn admit<M: Message>(
        &self,
        received: &Received,
        header: Option<&Header>,
    ) -> Result<Admission, ParkStoreError> {
        let message = parked::<M>(received, header);
        let call = self.store.admit(self.queue, &message, marker(received));
        let admission = self.noted(within_limit(call).await)?;
        let (group, message) = (&message.group, &message.message_id);
        match admission {
            Admission::InLine => events::MessageParked { group, message }.emit(&self.meters),
            Admission::Full => events::ParkingFull { group, message }.emit(&self.meters),
            _ => {}
        }
        Ok(admission)
    }

    /// Parks a message's group, with the message as the first of it.
    pub(crate) async fn park<M: Message>(
        &self,
        received: &Received,
        header: Option<&Header>,
        place: Place,
        code: ErrorCode,
        reason: &str,
    ) -> Result<bool, ParkStoreError> {
        let message = parked::<M>(received, header);
        let because = ParkReason { code: code.code.to_owned(), message: reason.to_owned() };
        let call = self.store.park(self.queue, &message, marker(received), place, &because);
        let parked = self.noted(within_limit(call).await)?;
        let (group, id) = (&message.group, &message.message_id);
        if parked {
            events::GroupParked { group, message: id, reason: &because }.emit(&self.meters);
        } else {
            events::ParkingFull { group, message: id }.emit(&self.meters);
        }
        Ok(parked)
    }

    /// Notes that the dead letter of a rejected message was sent. Where that fails the letter may be
    /// sent twice, and is one within the broker's window.
    pub(crate) async fn lettered<M: Message>(
        &self,
        received: &Received,
        header: Option<&Header>,
    ) -> Result<(), ParkStoreError> {
        let message = parked::<M>(received, header);
        let call = self.store.lettered(self.queue, &message, marker(received));
        self.noted(within_limit(call).await)
    }

    /// Takes a released message that was handled out of its line.
    pub(crate) async fn handled(
        &self,
        received: &Received,
        marker: Marker,
    ) -> Result<(), ParkStoreError> {
        let group = received.group.as_deref().unwrap_or_default();
        let call = self.store.handled(self.queue, group, marker);
        if self.noted(within_limit(call).await)? {
            events::GroupOpened { group }.emit(&self.meters);
        }
        self.handled.notify_one();
        Ok(())
    }
}

/// Asks the store whether it works.
pub(crate) struct ParkingProbe(Arc<Parking>);

impl ParkingProbe {
    pub(crate) fn of(parking: &Arc<Parking>) -> Arc<dyn Probe> {
        Arc::new(Self(Arc::clone(parking)))
    }
}

#[async_trait]
impl Probe for ParkingProbe {
    fn name(&self) -> &'static str {
        "parking"
    }

    async fn probe(&self) -> Result<(), String> {
        let call = self.0.store.figures(self.0.queue);
        within_limit(call).await.map(drop).map_err(|error| error.to_string())
    }
}
