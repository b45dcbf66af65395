//! What an archive asks of both stores: uploads in parts that outlive a crash, options, locks, ranges
//! and streams.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::TryStreamExt;
use queue_core::{Clock, SystemClock};
use sinks::objects::{
    Encryption, ObjectOptions, Objects, PART_BYTES_MAX, PART_BYTES_MIN, SharedObjects,
    SinkErrorKind, StorageClass, Upload, UploadError, UploadId, Write, Written, sweep_uploads,
    write_whole,
};
use tokio::io::AsyncReadExt as _;

use crate::objects::{Backend, backends, key, names};

pub(crate) fn options(pairs: &[(&str, &str)]) -> ObjectOptions {
    let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    ObjectOptions { metadata: pairs.collect(), ..ObjectOptions::default() }
}

/// Bytes that no compression or repetition makes alike.
pub(crate) fn bytes(seed: u8, len: usize) -> Bytes {
    let mut state = u32::from(seed) + 1;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(byte).collect()
}

async fn read_all(objects: &dyn Objects, name: &str) -> Vec<u8> {
    let body = objects.read(&key(name), 0).await.unwrap().unwrap();
    let mut read = Vec::new();
    std::pin::pin!(body.into_reader()).read_to_end(&mut read).await.unwrap();
    read
}

async fn unfinished(objects: &dyn Objects, prefix: &str) -> usize {
    let late = SystemClock.now() + TimeDelta::hours(1);
    objects.list_uploads(prefix, late, None).await.unwrap().0.len()
}

#[tokio::test]
async fn an_upload_is_no_object_before_it_is_complete_and_then_all_of_it() {
    for Backend { name, objects, .. } in backends().await {
        let place = key("archive/acme/part-1");
        let with = options(&[("unit", "run-1")]);
        let mut upload = Upload::begin(objects.clone(), &place, &with).await.unwrap();
        let parts = [bytes(1, PART_BYTES_MIN), bytes(2, PART_BYTES_MIN + 17), bytes(3, 1_000)];
        for part in &parts {
            upload.push(part.clone()).await.unwrap();
            assert_eq!(objects.head(&place).await.unwrap(), None, "{name}");
            assert!(names(&*objects, "", 10).await.is_empty(), "{name}");
        }
        let error = upload.push(bytes(4, 10)).await.unwrap_err();
        assert!(error.to_string().contains("only the last one"), "{name}: {error}");
        assert_eq!(upload.complete().await.unwrap(), Written::New, "{name}");
        let head = objects.head(&place).await.unwrap().unwrap();
        assert_eq!(head.size, upload.stored_bytes(), "{name}");
        assert_eq!(head.metadata, with.metadata, "{name}");
        assert!(read_all(&*objects, "archive/acme/part-1").await == parts.concat(), "{name}");
        assert_eq!(unfinished(&*objects, "").await, 0, "{name}");

        let again = upload.complete().await.unwrap();
        assert_eq!(again, Written::AlreadyThere, "{name}: its first answer may have been lost");
    }
}

#[tokio::test]
async fn the_first_complete_upload_of_a_name_wins_and_the_other_leaves_nothing() {
    for Backend { name, objects, .. } in backends().await {
        let place = key("a/one");
        let (first, second) = (bytes(1, 100), bytes(2, 200));
        let begin = async || {
            Upload::begin(objects.clone(), &place, &ObjectOptions::default()).await.unwrap()
        };
        let (mut one, mut two) = (begin().await, begin().await);
        one.push(first.clone()).await.unwrap();
        two.push(second).await.unwrap();
        assert_eq!(one.complete().await.unwrap(), Written::New, "{name}");
        assert_eq!(two.complete().await.unwrap(), Written::AlreadyThere, "{name}");
        assert!(read_all(&*objects, "a/one").await == first, "{name}");
        assert_eq!(unfinished(&*objects, "").await, 0, "{name}");
    }
}

#[tokio::test]
async fn a_crash_resumes_after_the_last_checkpoint_and_costs_no_byte() {
    for Backend { name, objects, .. } in backends().await {
        let place = key("a/resumed");
        let parts = [bytes(1, PART_BYTES_MIN), bytes(2, PART_BYTES_MIN), bytes(3, 10)];
        let mut upload =
            Upload::begin(objects.clone(), &place, &ObjectOptions::default()).await.unwrap();
        upload.push(parts[0].clone()).await.unwrap();
        let saved = serde_json::to_string(&upload.checkpoint()).unwrap();
        // Sent after the checkpoint, and other bytes than the second run makes.
        upload.push(bytes(9, PART_BYTES_MIN)).await.unwrap();
        drop(upload);

        let saved = serde_json::from_str(&saved).unwrap();
        let mut upload = Upload::resume(objects.clone(), saved).await.unwrap();
        assert_eq!(upload.stored_bytes(), PART_BYTES_MIN as u64, "{name}");
        for part in &parts[1..] {
            upload.push(part.clone()).await.unwrap();
        }
        let stored = objects.parts(&place, &upload.checkpoint().upload).await.unwrap();
        assert_eq!(stored, upload.checkpoint().parts, "{name}: as the store sees them");
        assert_eq!(upload.complete().await.unwrap(), Written::New, "{name}");
        assert!(read_all(&*objects, "a/resumed").await == parts.concat(), "{name}");
    }
}

#[tokio::test]
async fn a_lost_upload_is_named_so_that_the_caller_begins_again() {
    for Backend { name, objects, .. } in backends().await {
        let place = key("a/lost");
        let mut upload =
            Upload::begin(objects.clone(), &place, &ObjectOptions::default()).await.unwrap();
        upload.push(bytes(1, PART_BYTES_MIN)).await.unwrap();
        let checkpoint = upload.checkpoint();
        let mut others = checkpoint.clone();
        others.parts[0].size -= 1;
        let other = Upload::resume(objects.clone(), others).await.unwrap_err();
        assert!(matches!(other, UploadError::Lost { .. }), "{name}: {other}");

        objects.abort(Some(&place), &checkpoint.upload).await.unwrap();
        objects.abort(Some(&place), &checkpoint.upload).await.unwrap();
        let pushed = upload.push(bytes(2, 10)).await.unwrap_err();
        assert!(matches!(pushed, UploadError::Lost { .. }), "{name}: {pushed}");
        let completed = upload.complete().await.unwrap_err();
        assert!(matches!(completed, UploadError::Lost { .. }), "{name}: {completed}");
        let resumed = Upload::resume(objects.clone(), checkpoint).await.unwrap_err();
        assert!(resumed.to_string().contains("a/lost"), "{name}: {resumed}");
        assert_eq!(objects.head(&place).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn what_no_run_resumes_goes_by_the_sweep_and_what_is_young_stays() {
    for Backend { name, objects, .. } in backends().await {
        for place in ["archive/acme/1", "archive/acme/2", "elsewhere/3"] {
            let place = key(place);
            let begun = Upload::begin(objects.clone(), &place, &ObjectOptions::default()).await;
            begun.unwrap().push(bytes(1, 100)).await.unwrap();
        }
        let (early, late) = (TimeDelta::hours(-1), TimeDelta::hours(1));
        let now = SystemClock.now();
        assert_eq!(sweep_uploads(&*objects, "archive/", now + early).await.unwrap(), 0, "{name}");
        assert_eq!(unfinished(&*objects, "").await, 3, "{name}");
        assert_eq!(sweep_uploads(&*objects, "archive/", now + late).await.unwrap(), 2, "{name}");
        assert_eq!(unfinished(&*objects, "").await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_draft_that_a_crash_left_goes_by_the_sweep_and_no_id_leads_out_of_the_folder() {
    let directory = tempfile::tempdir().unwrap();
    let files = sinks::objects::Files::new(directory.path());
    let objects: SharedObjects = std::sync::Arc::new(files);
    let draft = directory.path().join("~unfinished/0123456789abcdef0123456789abcdef");
    std::fs::create_dir_all(draft.parent().unwrap()).unwrap();
    std::fs::write(&draft, b"hal").unwrap();
    std::fs::write(directory.path().join("kept"), b"kept").unwrap();
    for id in ["../kept", "", ".", "kept", "/etc"] {
        let error = objects.abort(None, &UploadId(id.into())).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Refused, "{error}");
    }
    let late = SystemClock.now() + TimeDelta::hours(1);
    assert_eq!(sweep_uploads(&*objects, "archive/", late).await.unwrap(), 1);
    assert!(!draft.exists());
    assert_eq!(names(&*objects, "", 10).await, ["kept"]);
}

#[tokio::test]
async fn a_part_is_of_a_size_that_s3_takes_and_an_upload_has_one() {
    for Backend { name, objects, .. } in backends().await {
        let mut upload =
            Upload::begin(objects.clone(), &key("a"), &ObjectOptions::default()).await.unwrap();
        for size in [0, PART_BYTES_MAX + 1] {
            let error = upload.push(vec![0; size].into()).await.unwrap_err();
            let UploadError::Failed(error) = error else { panic!("{name}: {error}") };
            assert_eq!(error.kind, SinkErrorKind::Full, "{name}: {error}");
        }
        let error = upload.complete().await.unwrap_err();
        assert!(error.to_string().contains("without a part"), "{name}: {error}");
        upload.abort().await.unwrap();
        let small = write_whole(&objects, &key("b"), b"small".to_vec(), &options(&[])).await;
        assert_eq!(small.unwrap(), Written::New, "{name}");
        let error =
            objects.put(&key("c"), vec![0; PART_BYTES_MAX + 1], Write::Replace).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Full, "{name}: {error}");
    }
}

#[tokio::test]
async fn an_object_has_the_options_that_it_was_stored_with() {
    for Backend { name, objects, tags, .. } in backends().await {
        let with = ObjectOptions {
            tags: BTreeMap::from([("tenant".into(), "a b&c=d".replace('&', "+"))]),
            storage_class: StorageClass::StandardIa,
            encryption: Encryption::S3,
            ..options(&[("unit", "run-1"), ("sha256", "ab=")])
        };
        let place = key("a/b");
        assert_eq!(
            objects.put_with(&place, b"x".to_vec(), Write::IfAbsent, &with).await.unwrap(),
            Written::New
        );
        let head = objects.head(&place).await.unwrap().unwrap();
        assert_eq!(head.metadata, with.metadata, "{name}");
        assert_eq!(head.storage_class, StorageClass::StandardIa, "{name}");
        assert_eq!((head.lock, head.legal_hold, head.size), (None, false, 1), "{name}");
        assert_eq!(tags("a/b".into()).await, with.tags, "{name}");
        // The loser of a race leaves the winner's options.
        let other = objects.put_with(&place, b"y".to_vec(), Write::IfAbsent, &options(&[])).await;
        assert_eq!(other.unwrap(), Written::AlreadyThere, "{name}");
        assert_eq!(objects.head(&place).await.unwrap().unwrap(), head, "{name}");
        // A new object of that name has none of the old one's.
        objects.put(&place, b"z".to_vec(), Write::Replace).await.unwrap();
        let plain = objects.head(&place).await.unwrap().unwrap();
        assert!(plain.metadata.is_empty(), "{name}: {plain:?}");
        assert_eq!(plain.storage_class, StorageClass::Standard, "{name}");
        let bad = options(&[("Upper", "x")]);
        let error = objects.put_with(&place, vec![], Write::Replace, &bad).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Refused, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_range_is_exact_or_an_error() {
    for Backend { name, objects, .. } in backends().await {
        let (place, whole) = (key("a/range"), bytes(1, 100_000));
        objects.put(&place, whole.to_vec(), Write::Replace).await.unwrap();
        for (from, len) in [(0, 1), (0, 100_000), (99_999, 1), (500, 1_000)] {
            let read = objects.get_range(&place, from, len).await.unwrap().unwrap();
            let (from, len) = (usize::try_from(from).unwrap(), usize::try_from(len).unwrap());
            assert!(read == whole[from..from + len], "{name}: {len} from {from}");
        }
        assert_eq!(objects.get_range(&key("none"), 0, 1).await.unwrap(), None, "{name}");
        for (from, len, kind) in [
            (99_999, 2, SinkErrorKind::Refused),
            (100_000, 1, SinkErrorKind::Refused),
            (u64::MAX - 5, 10, SinkErrorKind::Refused),
            (0, 0, SinkErrorKind::Full),
            (0, u64::MAX, SinkErrorKind::Full),
        ] {
            let error = objects.get_range(&place, from, len).await.unwrap_err();
            assert_eq!(error.kind, kind, "{name}: {len} from {from}: {error}");
        }
    }
}

#[tokio::test]
async fn an_object_is_read_as_it_arrives_from_any_byte_on() {
    for Backend { name, objects, .. } in backends().await {
        let (place, whole) = (key("a/stream"), bytes(1, 3_000_000));
        objects.put(&place, whole.to_vec(), Write::Replace).await.unwrap();
        assert!(objects.read(&key("none"), 0).await.unwrap().is_none(), "{name}");
        for from in [0_usize, 1, 2_999_999] {
            let body = objects.read(&place, from as u64).await.unwrap().unwrap();
            assert_eq!(body.object_bytes(), 3_000_000, "{name}");
            let chunks: Vec<Bytes> = body.into_stream().try_collect().await.unwrap();
            assert!(chunks.concat() == whole[from..], "{name}: from {from}");
        }
        objects.put(&key("empty"), Vec::new(), Write::Replace).await.unwrap();
        assert!(read_all(&*objects, "empty").await.is_empty(), "{name}");
        assert!(objects.read(&place, 3_000_000).await.is_err(), "{name}");
    }
}
