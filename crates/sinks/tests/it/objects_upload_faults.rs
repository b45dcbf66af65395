//! S3 in trouble while an archive is written, read or deleted, from a double: what each answer comes to.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use contracts::errors;
use queue_core::Failure;
use sha2::{Digest as _, Sha256};
use sinks::objects::{
    Deletion, ItemError, ObjectOptions, Objects, Part, S3, SinkErrorKind, Timeouts, UploadError,
    UploadId, Uploads as _, Write, Written,
};
use testkit::{Answer, Gate, HttpDouble};

use crate::objects::{key, sdk};
use crate::objects_faults::error;

/// Short enough to wait for, long enough for a busy machine's loopback.
const SHORT: Duration = Duration::from_millis(700);

async fn bucket() -> (HttpDouble, S3) {
    let double = HttpDouble::start().await;
    let timeouts = Timeouts {
        call: SHORT,
        per_mebibyte: Duration::ZERO,
        idle: SHORT,
        complete: SHORT,
        ..Timeouts::default()
    };
    let s3 = S3::with_timeouts(&sdk(&double.url(), "test").await, "archive", timeouts);
    (double, s3)
}

fn xml(body: &str) -> Answer {
    Answer::status(200).header("content-type", "application/xml").body(body.to_owned())
}

fn part(number: u16) -> Part {
    Part { number, size: 5, etag: "\"e\"".into(), sha256: "c2hh".into() }
}

fn sha256(bytes: &[u8]) -> String {
    BASE64.encode(Sha256::digest(bytes))
}

fn id() -> UploadId {
    UploadId("upload-1".into())
}

fn failed(error: UploadError) -> SinkErrorKind {
    match error {
        UploadError::Failed(error) => error.kind,
        lost @ UploadError::Lost { .. } => panic!("{lost}"),
    }
}

#[tokio::test]
async fn a_part_carries_its_checksum_and_every_trouble_leaves_the_upload_to_be_tried_again() {
    let (double, s3) = bucket().await;
    let (place, bytes) = (key("archive/a"), Bytes::from_static(b"bytes"));
    double.next([Answer::status(200).header("etag", "\"e\"")]);
    let stored = s3.put_part(&place, &id(), 1, bytes.clone()).await.unwrap();
    assert_eq!((stored.size, stored.etag.as_str()), (5, "\"e\""));
    let seen = double.seen();
    assert_eq!(stored.sha256, sha256(b"bytes"));
    assert_eq!(seen[0].header("x-amz-checksum-sha256"), stored.sha256);
    assert!(seen[0].path.contains("partNumber=1") && seen[0].path.contains("uploadId=upload-1"));
    let gate = Gate::closed();
    for (answer, kind) in [
        (error(503, "SlowDown"), SinkErrorKind::Throttled),
        (error(500, "InternalError"), SinkErrorKind::Unavailable),
        (error(400, "RequestTimeout"), SinkErrorKind::Timeout),
        (error(400, "BadDigest"), SinkErrorKind::Unavailable),
        (error(403, "AccessDenied"), SinkErrorKind::Refused),
        (Answer::dropped(), SinkErrorKind::Unavailable),
        (Answer::status(200).behind(&gate), SinkErrorKind::Timeout),
    ] {
        double.next([answer]);
        let error = s3.put_part(&place, &id(), 1, bytes.clone()).await.unwrap_err();
        assert_eq!(failed(error), kind);
    }
    assert_eq!(double.seen().len(), 8, "one call each");
}

#[tokio::test]
async fn an_upload_that_can_never_be_completed_is_lost_by_name() {
    let (double, s3) = bucket().await;
    let place = key("archive/a");
    for answer in [
        error(404, "NoSuchUpload"),
        error(400, "InvalidPart"),
        error(400, "InvalidPartOrder"),
        error(409, "ConditionalRequestConflict"),
    ] {
        double.next([answer]);
        let error = s3.complete(&place, &id(), &[part(1)]).await.unwrap_err();
        assert!(matches!(error, UploadError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("begin again"), "{error}");
    }
    double.next([error(404, "NoSuchUpload"), error(404, "NoSuchUpload")]);
    let error = s3.parts(&place, &id()).await.unwrap_err();
    assert!(matches!(error, UploadError::Lost { .. }), "{error}");
    let error = s3.put_part(&place, &id(), 1, Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, UploadError::Lost { .. }), "{error}");
    double.next([error_of_no_upload()]);
    s3.abort(Some(&place), &id()).await.unwrap();
}

fn error_of_no_upload() -> Answer {
    error(404, "NoSuchUpload")
}

#[tokio::test]
async fn a_completion_is_conditional_and_its_success_may_be_a_failure() {
    let (double, s3) = bucket().await;
    let place = key("archive/a");
    double.next([error(412, "PreconditionFailed")]);
    let written = s3.complete(&place, &id(), &[part(1), part(2)]).await.unwrap();
    assert_eq!(written, Written::AlreadyThere);
    let seen = double.seen();
    assert_eq!(seen[0].header("if-none-match"), "*");
    assert_eq!(seen[0].header("x-amz-mp-object-size"), "10");
    let text = seen[0].text();
    assert!(text.contains("<PartNumber>2</PartNumber>") && text.contains("c2hh"), "{text}");
    let gate = Gate::closed();
    for (answer, kind) in [
        // S3 answers 200 before it has put the parts together.
        (xml("<Error><Code>InternalError</Code></Error>"), SinkErrorKind::Unavailable),
        (xml("<Error><Code>SlowDown</Code></Error>"), SinkErrorKind::Throttled),
        (error(503, "SlowDown"), SinkErrorKind::Throttled),
        (error(400, "EntityTooSmall"), SinkErrorKind::Refused),
        (Answer::dropped(), SinkErrorKind::Unavailable),
        (xml("<CompleteMultipartUploadResult/>").behind(&gate), SinkErrorKind::Timeout),
        (xml("<CompleteMultipartUploadResult/>").stalled_at(5), SinkErrorKind::Timeout),
        (xml("<CompleteMultipartUploadResult/>").truncated_at(5), SinkErrorKind::Unavailable),
    ] {
        let told = format!("{answer:?}");
        double.next([answer]);
        let error = s3.complete(&place, &id(), &[part(1)]).await.unwrap_err();
        assert_eq!(failed(error), kind, "{told}");
    }
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_found_by_the_next_one() {
    let (double, s3) = bucket().await;
    let objects: sinks::objects::SharedObjects = std::sync::Arc::new(s3);
    let checkpoint =
        sinks::objects::Checkpoint { key: "archive/a".into(), upload: id(), parts: Vec::new() };
    let list = xml("<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>");
    double.next([list, Answer::status(200).header("etag", "\"e\"")]);
    let mut upload = sinks::objects::Upload::resume(objects, checkpoint).await.unwrap();
    upload.push(Bytes::from_static(b"bytes")).await.unwrap();
    // Took effect, and the answer was lost; then the upload is gone and the object is there.
    double.next([Answer::dropped()]);
    upload.complete().await.unwrap_err();
    double.next([error(404, "NoSuchUpload"), Answer::status(200).header("content-length", "0")]);
    assert_eq!(upload.complete().await.unwrap(), Written::AlreadyThere);
    // Took no effect, and the upload is gone: aborted by a sweep.
    double.next([error(404, "NoSuchUpload"), Answer::status(404)]);
    let error = upload.complete().await.unwrap_err();
    assert!(matches!(error, UploadError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_has_a_limit_per_chunk_and_none_for_the_whole() {
    let (double, s3) = bucket().await;
    let place = key("archive/a");
    let body = vec![7; 100_000];
    for (answer, kind, told) in [
        (
            Answer::status(200).body(body.clone()).stalled_at(40_000),
            SinkErrorKind::Timeout,
            "40000",
        ),
        (
            Answer::status(200).body(body).truncated_at(40_000),
            SinkErrorKind::Unavailable,
            "broke off",
        ),
    ] {
        double.next([answer]);
        let mut stream = s3.read(&place, 0).await.unwrap().unwrap();
        let mut read = 0;
        let error = loop {
            match stream.chunk().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) => panic!("taken for whole after {read} bytes"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind, read <= 40_000), (kind, true), "{error}");
        assert!(error.message.contains(told), "{error}");
    }
    let gate = Gate::closed();
    double.next([Answer::status(200).behind(&gate)]);
    assert_eq!(s3.read(&place, 0).await.unwrap_err().kind, SinkErrorKind::Timeout);
}

#[tokio::test]
async fn another_range_than_asked_for_is_an_error() {
    let (double, s3) = bucket().await;
    let place = key("archive/a");
    let partial = |range: &str, bytes: usize| {
        Answer::status(206).header("content-range", range).body(vec![1; bytes])
    };
    double.next([partial("bytes 5-9/100", 5)]);
    assert_eq!(s3.get_range(&place, 5, 5).await.unwrap().unwrap(), vec![1; 5]);
    assert_eq!(double.seen()[0].header("range"), "bytes=5-9");
    for (answer, kind) in [
        (Answer::status(200).body(vec![1; 100]), SinkErrorKind::Unavailable),
        (partial("bytes 0-4/100", 5), SinkErrorKind::Unavailable),
        (partial("bytes 5-7/8", 3), SinkErrorKind::Refused),
        (partial("bytes 5-9/100", 5).truncated_at(3), SinkErrorKind::Unavailable),
        (partial("bytes 5-9/100", 5).stalled_at(3), SinkErrorKind::Timeout),
        (error(416, "InvalidRange"), SinkErrorKind::Refused),
        (error(503, "SlowDown"), SinkErrorKind::Throttled),
    ] {
        let told = format!("{answer:?}");
        double.next([answer]);
        assert_eq!(s3.get_range(&place, 5, 5).await.unwrap_err().kind, kind, "{told}");
    }
    double.next([Answer::status(200).body(vec![1; 100])]);
    assert!(s3.read(&place, 5).await.is_err(), "a range that was ignored");
}

#[tokio::test]
async fn an_object_that_must_be_restored_first_says_so_and_what_to_do() {
    let (double, s3) = bucket().await;
    double.always(error(403, "InvalidObjectState"));
    let place = key("archive/a");
    let reads = [
        s3.get(&place, 10).await.unwrap_err(),
        s3.get_range(&place, 0, 1).await.unwrap_err(),
        s3.read(&place, 0).await.unwrap_err(),
    ];
    for error in reads {
        assert_eq!(error.kind, SinkErrorKind::NeedsRestore, "{error}");
        assert!(error.message.contains("restore it first"), "{error}");
        assert_eq!(error.code(), errors::OBJECTS_UNAVAILABLE);
        assert!(!matches!(Failure::from(error), Failure::Reject(_)), "no message's fault");
    }
}

#[tokio::test]
async fn a_batch_is_read_key_by_key() {
    let (double, s3) = bucket().await;
    let places: Vec<_> =
        ["a", "absent", "unseen-lock", "busy", "denied", "unknown"].map(key).into();
    double.programme(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("HEAD", path) if path.contains("absent") => Answer::status(404),
        ("HEAD", path) if path.contains("unknown") => Answer::status(503),
        ("HEAD", _) => Answer::status(200).header("content-length", "1"),
        _ => {
            assert!(!seen.text().contains("absent") && !seen.text().contains("unknown"));
            let refused = |key: &str, code: &str, message: &str| {
                format!(
                    "<Error><Key>{key}</Key><Code>{code}</Code><Message>{message}</Message></Error>"
                )
            };
            let errors = [
                refused("unseen-lock", "AccessDenied", "protected by object lock."),
                refused("busy", "SlowDown", ""),
                refused("denied", "AccessDenied", "not authorized"),
            ];
            xml(&format!("<DeleteResult>{}</DeleteResult>", errors.concat()))
        }
    });
    let outcomes = s3.delete_batch(&places).await.unwrap();
    assert_eq!(outcomes[0], Ok(Deletion::Deleted));
    assert_eq!(outcomes[1], Ok(Deletion::AlreadyGone));
    let Ok(Deletion::Locked(held)) = outcomes[2] else { panic!("{:?}", outcomes[2]) };
    assert!(held.to_string().contains("does not say until when"), "{held}");
    assert!(matches!(outcomes[3], Err(ItemError::Retry(_))), "{:?}", outcomes[3]);
    assert!(matches!(outcomes[4], Err(ItemError::Reject(_))), "{:?}", outcomes[4]);
    assert!(matches!(outcomes[5], Err(ItemError::Retry(_))), "{:?}", outcomes[5]);
    double.programme(|seen| match seen.method.as_str() {
        "HEAD" => Answer::status(200).header("content-length", "1"),
        _ => Answer::dropped(),
    });
    let error = s3.delete_batch(&places).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn of_an_object_with_many_versions_the_worst_answer_counts_wherever_it_stands() {
    let (double, s3) = bucket().await;
    let place = key("archive/a");
    let refused = |version: &str, code: &str, message: &str| {
        format!(
            "<Error><Key>archive/a</Key><VersionId>{version}</VersionId><Code>{code}</Code>\
             <Message>{message}</Message></Error>"
        )
    };
    let gone = refused("1", "NoSuchVersion", "");
    let locked = refused("2", "AccessDenied", "protected by object lock.");
    let busy = refused("3", "SlowDown", "");
    let denied = refused("4", "AccessDenied", "not authorized");
    let unsure = Deletion::Locked(sinks::objects::Held { until: None, legal_hold: false });
    let cases = [
        (vec![], Ok(Deletion::Deleted)),
        (vec![&gone], Ok(Deletion::AlreadyGone)),
        (vec![&gone, &locked], Ok(unsure)),
        (vec![&locked, &gone], Ok(unsure)),
        (vec![&gone, &locked, &busy], Err(SinkErrorKind::Unavailable)),
        (vec![&busy, &locked], Err(SinkErrorKind::Unavailable)),
        (vec![&gone, &busy, &denied, &locked], Err(SinkErrorKind::Refused)),
        (vec![&denied, &busy, &gone], Err(SinkErrorKind::Refused)),
    ];
    for (errors, expected) in cases {
        let errors: String = errors.into_iter().map(String::as_str).collect();
        let told = errors.clone();
        double.programme(move |seen| match seen.method.as_str() {
            "HEAD" => Answer::status(200).header("content-length", "1"),
            "GET" => {
                let versions: String = (1..=4).map(version).collect();
                xml(&format!("<ListVersionsResult>{versions}</ListVersionsResult>"))
            }
            _ => xml(&format!("<DeleteResult>{errors}</DeleteResult>")),
        });
        let outcome = s3.delete_all_versions(&place).await.map_err(|error| error.kind);
        assert_eq!(outcome, expected, "{told}");
    }
}

fn version(id: u8) -> String {
    format!("<Version><Key>archive/a</Key><VersionId>{id}</VersionId></Version>")
}

#[tokio::test]
async fn a_put_is_checked_by_the_store_and_names_its_options() {
    let (double, s3) = bucket().await;
    double.always(Answer::status(200));
    let options = ObjectOptions {
        metadata: [("unit".to_owned(), "run-1".to_owned())].into(),
        tags: [("tenant name".to_owned(), "a=b".to_owned())].into(),
        storage_class: sinks::objects::StorageClass::DeepArchive,
        encryption: sinks::objects::Encryption::Kms { key_id: Some("alias/a".into()) },
        lock: Some(sinks::objects::Lock {
            mode: sinks::objects::LockMode::Compliance,
            until: "2030-01-02T03:04:05Z".parse().unwrap(),
        }),
        legal_hold: true,
    };
    s3.put_with(&key("a"), b"x".to_vec(), Write::IfAbsent, &options).await.unwrap();
    let seen = &double.seen()[0];
    for (header, value) in [
        ("if-none-match", "*"),
        ("x-amz-meta-unit", "run-1"),
        ("x-amz-tagging", "tenant%20name=a%3Db"),
        ("x-amz-storage-class", "DEEP_ARCHIVE"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/a"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2030-01-02T03:04:05Z"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-checksum-sha256", &sha256(b"x")),
    ] {
        assert_eq!(seen.header(header), value, "{header}");
    }
}
