//! S3 in trouble, from a double: each trouble has its row in the table, and every call is made once.

use std::time::Duration;

use queue_core::Failure;
use sinks::objects::{Objects, S3, SinkErrorKind, Write};
use testkit::{Answer, HttpDouble};

use crate::objects::sdk;

async fn bucket() -> (HttpDouble, S3) {
    let double = HttpDouble::start().await;
    let s3 = S3::new(&sdk(&double.url(), "test").await, "bodies");
    (double, s3)
}

pub(crate) fn error(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>said so</Message></Error>");
    Answer::status(status).header("content-type", "application/xml").body(body)
}

#[tokio::test]
async fn each_trouble_has_its_kind_and_every_call_is_made_once() {
    let (double, s3) = bucket().await;
    let place = "claims/acme/1".parse().unwrap();
    let cases = [
        (error(503, "SlowDown"), SinkErrorKind::Throttled),
        (error(503, "ServiceUnavailable"), SinkErrorKind::Unavailable),
        (error(500, "InternalError"), SinkErrorKind::Unavailable),
        (Answer::too_many(7), SinkErrorKind::Throttled),
        (Answer::dropped(), SinkErrorKind::Unavailable),
        (error(403, "AccessDenied"), SinkErrorKind::Refused),
        (error(404, "NoSuchBucket"), SinkErrorKind::Refused),
    ];
    for (at, (answer, kind)) in cases.into_iter().enumerate() {
        double.next([answer.clone(), answer.clone()]);
        let read = s3.get(&place, 10).await.unwrap_err();
        let written = s3.put(&place, vec![1], Write::Replace).await.unwrap_err();
        assert_eq!((read.kind, written.kind), (kind, kind), "{at}: {read}; {written}");
        assert_eq!(double.seen().len(), (at + 1) * 2, "one call each: {at}");
    }
}

#[tokio::test]
async fn the_time_it_names_reaches_the_engine_as_seconds_and_as_a_date() {
    let (double, s3) = bucket().await;
    let place = "claims/acme/1".parse().unwrap();
    let dated = error(503, "SlowDown")
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT");
    for (answer, seconds) in [(error(503, "SlowDown").header("retry-after", "7"), 7), (dated, 120)]
    {
        double.next([answer]);
        let error = s3.get(&place, 10).await.unwrap_err();
        let Failure::RetryAfter(told, delay) = Failure::from(error) else { panic!("{seconds}") };
        assert_eq!(delay, Duration::from_secs(seconds));
        assert_eq!(told.code.code, "objects-unavailable");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_object() {
    let (double, s3) = bucket().await;
    double.next([Answer::status(200).body(vec![1; 1_000]).truncated_at(500)]);
    let error = s3.get(&"a".parse().unwrap(), 1_000).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
}
