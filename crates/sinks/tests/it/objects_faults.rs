//! S3 in trouble, from a double: each trouble has its row in the table, and every call is made once.

use std::time::Duration;

use queue_core::Failure;
use sinks::objects::{Objects, S3, SinkErrorKind, Write, sweep_uploads};
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

#[tokio::test]
async fn a_sweep_goes_on_past_what_it_cannot_abort_and_tells_the_first_failure() {
    let (double, s3) = bucket().await;
    let page = |ids: std::ops::Range<u8>, more: bool| {
        let uploads = ids.map(|id| {
            format!(
                "<Upload><Key>archive/{id}</Key><UploadId>u{id}</UploadId>\
                 <Initiated>2025-01-01T00:00:00Z</Initiated></Upload>"
            )
        });
        let marks =
            "<NextKeyMarker>archive/2</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>";
        let body = format!(
            "<ListMultipartUploadsResult>{}<IsTruncated>{more}</IsTruncated>{}\
             </ListMultipartUploadsResult>",
            uploads.collect::<String>(),
            if more { marks } else { "" },
        );
        Answer::status(200).header("content-type", "application/xml").body(body)
    };
    let before = "2026-01-01T00:00:00Z".parse().unwrap();
    let aborted = || Answer::status(204);
    let (denied, busy) = (error(403, "AccessDenied"), error(503, "SlowDown"));
    double.next([page(0..3, true), aborted(), denied.clone(), busy]);
    double.next([page(3..5, false), aborted(), aborted()]);
    let told = sweep_uploads(&s3, "archive/", before).await.unwrap_err();
    assert_eq!(told.kind, SinkErrorKind::Refused, "the first of the two: {told}");
    let tried: Vec<_> = double.seen().into_iter().filter(|seen| seen.method == "DELETE").collect();
    let all = (0..5).all(|id| tried[id].path.contains(&format!("uploadId=u{id}")));
    assert!(all && tried.len() == 5, "each is tried, on every page: {tried:?}");
    // A page that cannot be listed ends it, with what failed first.
    double.next([page(0..3, true), denied, aborted(), aborted(), error(503, "SlowDown")]);
    let told = sweep_uploads(&s3, "archive/", before).await.unwrap_err();
    assert_eq!(told.kind, SinkErrorKind::Refused, "{told}");
    double.next([page(0..3, false), aborted(), aborted(), aborted()]);
    assert_eq!(sweep_uploads(&s3, "archive/", before).await.unwrap(), 3);
}
