//! Failures on the wire, from a double that answers what SQS, a proxy or a dying network would.

use std::time::Duration;

use queue_core::driver::ReceiveRequest;
use queue_core::{Driver, DriverError, EntryError};
use queue_sqs::Sqs;
use serde_json::json;
use testkit::{Answer, Gate, HttpDouble};
use tokio::time::Instant;

use crate::backends::{message, options};

async fn queue(double: &HttpDouble) -> std::sync::Arc<dyn Driver> {
    let sqs = Sqs::connect(&options(&double.url())).await.unwrap();
    sqs.queue("orders", &format!("{}/000000000000/orders", double.url()))
}

fn error(status: u16, code: &str) -> Answer {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "said so" });
    Answer::json(body).with_status(status).header("x-amzn-query-error", &format!("{code};Sender"))
}

fn poll(wait_secs: u64) -> ReceiveRequest {
    ReceiveRequest { max: 10, wait: Duration::from_secs(wait_secs), lease: Duration::from_secs(30) }
}

#[tokio::test]
async fn each_failure_has_its_kind_and_every_call_is_made_once() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    let kind = |error: DriverError| match error {
        DriverError::Throttled(_) => "throttled",
        DriverError::Timeout(_) => "timeout",
        DriverError::Unavailable(_) => "unavailable",
        DriverError::Refused(_) => "refused",
    };
    let cases = [
        (error(400, "RequestThrottled"), "throttled"),
        (error(403, "OverLimit"), "throttled"),
        (Answer::too_many(1), "throttled"),
        (error(500, "InternalError"), "unavailable"),
        (Answer::status(503).body("<html>a proxy</html>"), "unavailable"),
        (Answer::dropped(), "unavailable"),
        (error(400, "ExpiredToken"), "unavailable"),
        (error(400, "QueueDoesNotExist"), "refused"),
        (error(403, "AccessDenied"), "refused"),
    ];
    for (at, (answer, expected)) in cases.into_iter().enumerate() {
        double.next([answer.clone(), answer.clone(), answer.clone()]);
        assert_eq!(kind(queue.receive(poll(1)).await.unwrap_err()), expected, "receive {at}");
        let settled = queue.settle(&["r".to_owned()]).await;
        assert_eq!(kind(settled.unwrap_err()), expected, "settle {at}");
        assert_eq!(kind(queue.send(&[message("x")]).await.unwrap_err()), expected, "send {at}");
        assert_eq!(double.seen().len(), (at + 1) * 3, "one attempt per call: {at}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_or_no_json_is_unavailable() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    let whole = Answer::json(json!({ "Successful": [{ "Id": "0" }] }));
    for answer in [whole.clone().truncated_at(10), Answer::status(200).body("{\"Successful\":")] {
        double.next([answer]);
        let settled = queue.settle(&["r".to_owned()]).await;
        assert!(matches!(settled, Err(DriverError::Unavailable(_))), "{settled:?}");
    }
}

#[tokio::test]
async fn entries_that_the_answer_forgets_are_tried_again() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    double.next([Answer::json(json!({
        "Successful": [{ "Id": "2" }],
        "Failed": [{ "Id": "0", "Code": "InternalError", "SenderFault": false }],
    }))]);
    let receipts = ["a", "b", "c"].map(str::to_owned);
    let results = queue.settle(&receipts).await.unwrap();
    assert!(matches!(results[0], Err(EntryError::Transient(_))), "{results:?}");
    assert!(matches!(results[1], Err(EntryError::Transient(_))), "{results:?}");
    assert_eq!(results[2], Ok(()));
}

#[tokio::test]
async fn a_wrong_md5_is_no_reason_to_drop_a_message() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    double.next([Answer::json(json!({ "Messages": [{
        "MessageId": "m", "ReceiptHandle": "r", "Body": "x",
        "MD5OfBody": "00000000000000000000000000000000",
    }] }))]);
    let received = queue.receive(poll(1)).await.unwrap();
    assert_eq!((received[0].body.as_str(), received[0].receives), ("x", 1));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    drop(double);
    let settled = queue.settle(&["r".to_owned()]).await;
    assert!(matches!(settled, Err(DriverError::Unavailable(_))), "{settled:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_ends_in_a_timeout() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    double.always(Answer::json(json!({})).behind(&Gate::closed()));
    let begun = Instant::now();
    let settle = ["r".to_owned()];
    let (received, settled) = tokio::join!(queue.receive(poll(1)), queue.settle(&settle));
    assert!(matches!(received, Err(DriverError::Timeout(_))), "{received:?}");
    assert!(matches!(settled, Err(DriverError::Timeout(_))), "{settled:?}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test]
async fn parked_polls_never_keep_a_delete_waiting() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    let parked = Gate::closed();
    let gate = parked.clone();
    double.programme(move |seen| match seen.header("x-amz-target") {
        "AmazonSQS.ReceiveMessage" => Answer::json(json!({})).behind(&gate),
        _ => Answer::json(json!({ "Successful": [{ "Id": "0" }] })),
    });
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let queue = queue.clone();
        polls.spawn(async move { queue.receive(poll(20)).await.map(|messages| messages.len()) });
    }
    double.asked(64).await;
    let begun = Instant::now();
    assert_eq!(queue.settle(&["r".to_owned()]).await.unwrap(), [Ok(())]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    parked.open();
    while let Some(polled) = polls.join_next().await {
        assert_eq!(polled.unwrap().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_receive_asks_for_what_the_engine_needs_and_nothing_else() {
    let double = HttpDouble::start().await;
    let queue = queue(&double).await;
    double.always(Answer::json(json!({})));
    queue.receive(poll(7)).await.unwrap();
    let asked = double.seen()[0].json();
    assert_eq!(asked["WaitTimeSeconds"], 7);
    assert_eq!(asked["VisibilityTimeout"], 30);
    assert_eq!(asked["MaxNumberOfMessages"], 10);
    assert_eq!(asked["MessageAttributeNames"], json!(["All"]));
    // Each name is read for every message, here and there.
    let names = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "SequenceNumber"];
    assert_eq!(asked["MessageSystemAttributeNames"], json!(names));
}

#[tokio::test]
async fn half_a_key_pair_and_no_region_are_told_by_variable() {
    let mut half = options("http://127.0.0.1:9");
    half.aws_secret_access_key = None;
    let told = Sqs::connect(&half).await.unwrap_err().to_string();
    assert!(told.contains("AWS_SECRET_ACCESS_KEY"), "{told}");
}
