//! What waited in the buffer for too long is not sent.

use contracts::message::Message;
use contracts::{Body, Envelope};
use queue_core::SystemClock;
use serde_json::value::RawValue;
use testkit::QueueDouble;

use super::*;

fn parcel(n: u8, until: Instant) -> Parcel {
    let record = RawValue::from_string(n.to_string()).unwrap();
    let trace =
        Trace { correlation_id: format!("request-{n}"), causation_id: None, traceparent: None };
    let item = LogItem { salt: hex::encode([n; 16]), record };
    Parcel { item, trace, origin: Origin::here(), until }
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_refused_and_not_sent_and_the_rest_is() {
    let driver = Arc::new(QueueDouble::default());
    let publisher =
        Publisher::new(driver.clone(), &PublishConfig::default(), Arc::new(SystemClock));
    let now = Instant::now();
    let moment = Duration::from_millis(1);
    let parcels = vec![parcel(1, now), parcel(2, now + moment), parcel(3, now)];
    let (sender, clock) = (publisher.sender.clone(), Arc::clone(&publisher.clock));
    let outcomes = send_parcels(sender.clone(), clock, "acme".parse().unwrap(), parcels).await;
    let taken: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [false, true, false]);
    let sent = driver.sent();
    let [body] = &sent[..] else { panic!("one message: {sent:?}") };
    let Envelope { header, body: Body::Inline(body) } = Envelope::from_json(&body.body).unwrap()
    else {
        panic!("a claim")
    };
    let message = IndexMessage::decode(&header, &body).unwrap();
    let IndexMessage::Index(item) = message else { panic!("{message:?}") };
    assert_eq!((item.record.get(), header.correlation_id.as_str()), ("2", "request-2"));

    let (clock, late) = (Arc::clone(&publisher.clock), vec![parcel(4, now)]);
    let outcomes = send_parcels(sender, clock, "acme".parse().unwrap(), late).await;
    assert!(outcomes[0].is_err());
    assert_eq!(driver.sent().len(), 1, "nothing at all");
}
