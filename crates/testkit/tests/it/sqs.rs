//! The emulator in process, through the real SDK.

use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use queue_core::driver::{Outgoing, ReceiveRequest};
use testkit::TestSqs;

#[tokio::test]
async fn what_is_sent_is_received_through_the_sdk() {
    let sqs = TestSqs::start().await;
    let queue = sqs.create_queue("plain").await;
    queue.send(&[Outgoing { body: "hello".into(), ..Outgoing::default() }]).await.expect("sends");
    let request = ReceiveRequest { max: 1, wait: Duration::ZERO, lease: Duration::from_secs(30) };
    let received = sqs.queue("plain").receive(request).await.expect("receives");
    assert_eq!(received[0].body, "hello");
    assert_eq!(queue.attributes().await.expect("looks").depth.in_flight, 1);
}

#[tokio::test]
async fn the_catalogue_s_queues_have_the_urls_that_are_foretold() {
    let sqs = TestSqs::start().await;
    let made = sqs.create(&AUDIT_INDEX).await;
    assert_eq!(made.url, sqs.url(AUDIT_INDEX.name));
    assert_eq!(made.dlq_url, sqs.url(AUDIT_INDEX.dlq));
}
