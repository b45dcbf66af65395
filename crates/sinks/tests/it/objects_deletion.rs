//! Deletions in both stores: they say what they did, all versions included, and what is locked stays.

use chrono::TimeDelta;
use queue_core::{Clock, SystemClock};
use sinks::objects::{
    Deletion, Lock, LockMode, ObjectOptions, Objects, SinkErrorKind, Upload, Write,
};

use crate::objects::{Backend, backends, backends_with, key, names};
use crate::objects_lifecycle::{bytes, options};

#[tokio::test]
async fn a_deletion_says_what_it_did_one_by_one_and_in_a_batch() {
    for Backend { name, objects, .. } in backends().await {
        let places: Vec<_> = ["a/1", "a/2", "a/3"].map(key).into();
        for place in &places[..2] {
            objects.put(place, b"x".to_vec(), Write::Replace).await.unwrap();
        }
        let batch = objects.delete_batch(&places[1..]).await.unwrap();
        assert_eq!(batch, [Ok(Deletion::Deleted), Ok(Deletion::AlreadyGone)], "{name}");
        assert_eq!(objects.delete(&places[0]).await.unwrap(), Deletion::Deleted, "{name}");
        assert_eq!(objects.delete(&places[0]).await.unwrap(), Deletion::AlreadyGone, "{name}");
        let gone = objects.delete_all_versions(&places[0]).await.unwrap();
        assert_eq!(gone, Deletion::AlreadyGone, "{name}");
        assert!(objects.delete_batch(&[]).await.unwrap().is_empty(), "{name}");
        let error = objects.delete_batch(&vec![key("a"); 1_001]).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Full, "{name}: {error}");
        assert!(error.message.contains("1001"), "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_locked_stays_and_says_until_when() {
    for Backend { name, objects, .. } in backends_with(true).await {
        let until = SystemClock.now() + TimeDelta::days(2);
        let until = until - TimeDelta::nanoseconds(until.timestamp_subsec_nanos().into());
        let lock = Lock { mode: LockMode::Governance, until };
        let with = ObjectOptions { lock: Some(lock), ..ObjectOptions::default() };
        let (locked, held) = (key("a/locked"), key("a/held"));
        objects.put_with(&locked, b"x".to_vec(), Write::IfAbsent, &with).await.unwrap();
        let mut upload = Upload::begin(objects.clone(), &key("a/parts"), &with).await.unwrap();
        upload.push(bytes(1, 10)).await.unwrap();
        upload.complete().await.unwrap();
        objects.put(&held, b"x".to_vec(), Write::Replace).await.unwrap();
        assert!(objects.set_legal_hold(&held, true).await.unwrap(), "{name}");
        assert!(!objects.set_legal_hold(&key("a/none"), true).await.unwrap(), "{name}");

        for place in [&locked, &key("a/parts")] {
            assert_eq!(objects.head(place).await.unwrap().unwrap().lock, Some(lock), "{name}");
            let one = objects.delete(place).await.unwrap();
            let all = objects.delete_all_versions(place).await.unwrap();
            let batch = objects.delete_batch(std::slice::from_ref(place)).await.unwrap();
            for outcome in [one, all, batch[0].clone().unwrap()] {
                let Deletion::Locked(why) = outcome else { panic!("{name}: {outcome:?}") };
                assert_eq!((why.until, why.legal_hold), (Some(until), false), "{name}");
                assert!(why.to_string().contains(&until.format("%Y-%m-%dT").to_string()));
            }
            assert!(objects.head(place).await.unwrap().is_some(), "{name}");
        }
        let Deletion::Locked(why) = objects.delete_all_versions(&held).await.unwrap() else {
            panic!("{name}: deleted under a legal hold")
        };
        assert_eq!((why.until, why.legal_hold), (None, true), "{name}");
        assert!(objects.set_legal_hold(&held, false).await.unwrap(), "{name}");
        assert_eq!(objects.delete_all_versions(&held).await.unwrap(), Deletion::Deleted, "{name}");
    }
}

#[tokio::test]
async fn a_deletion_with_all_versions_leaves_none_and_a_plain_one_may() {
    for Backend { name, objects, versions, .. } in backends_with(true).await {
        let (place, longer) = (key("a/v"), key("a/v2"));
        for text in ["1", "2", "3"] {
            objects.put(&place, text.into(), Write::Replace).await.unwrap();
        }
        objects.put(&longer, b"other".to_vec(), Write::Replace).await.unwrap();
        assert_eq!(objects.delete(&place).await.unwrap(), Deletion::Deleted, "{name}");
        assert_eq!(objects.head(&place).await.unwrap(), None, "{name}");
        let left = versions("a/v".into()).await;
        let bytes_are_left = left > 0;
        assert_eq!(bytes_are_left, name == "s3", "{name}: a marker is no deletion");
        let gone = objects.delete_all_versions(&place).await.unwrap();
        let expected = if bytes_are_left { Deletion::Deleted } else { Deletion::AlreadyGone };
        assert_eq!(gone, expected, "{name}");
        assert_eq!(versions("a/v".into()).await, 0, "{name}");
        assert_eq!(objects.get(&longer, 10).await.unwrap().unwrap(), b"other", "{name}");
    }
}

#[tokio::test]
async fn folders_are_what_names_have_up_to_the_next_slash() {
    for Backend { name, objects, .. } in backends().await {
        for place in
            ["a/year=2025/x", "a/year=2026/y/z", "a/year=2026/y/zz", "a/plain", "a2/other", "top"]
        {
            objects.put(&key(place), b"x".to_vec(), Write::Replace).await.unwrap();
        }
        for (prefix, expected) in [
            ("a/", &["year=2025", "year=2026"][..]),
            ("", &["a", "a2"]),
            ("a/year=", &["2025", "2026"]),
            ("a/year=2026/", &["y"]),
            ("a/plain", &[]),
            ("none/", &[]),
        ] {
            let folders = objects.list_folders(prefix).await.unwrap();
            assert_eq!(folders, expected, "{name}: {prefix:?}");
        }
        objects.delete(&key("a/year=2025/x")).await.unwrap();
        assert_eq!(objects.list_folders("a/").await.unwrap(), ["year=2026"], "{name}");
    }
}

#[tokio::test]
async fn a_locked_file_is_not_replaced_and_options_that_cannot_be_read_are_no_missing_lock() {
    let directory = tempfile::tempdir().unwrap();
    let files = sinks::objects::Files::new(directory.path());
    let until = SystemClock.now() + TimeDelta::days(1);
    let lock = Some(Lock { mode: LockMode::Compliance, until });
    let with = ObjectOptions { lock, ..options(&[("unit", "1")]) };
    let place = key("archive/a");
    files.put_with(&place, b"x".to_vec(), Write::IfAbsent, &with).await.unwrap();
    let about = directory.path().join("~about/archive/a~.json");
    let text = std::fs::read_to_string(&about).unwrap();
    assert!(text.contains("COMPLIANCE") && text.contains("\"unit\""), "people can read it: {text}");
    let error = files.put(&place, b"y".to_vec(), Write::Replace).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Refused, "{error}");
    assert!(error.message.contains("locked until"), "{error}");
    std::fs::write(&about, b"{").unwrap();
    let error = files.delete(&place).await.unwrap_err();
    assert!(error.message.contains("~about"), "{error}");
    assert_eq!(files.get(&place, 1).await.unwrap().unwrap(), b"x");
    assert_eq!(names(&files, "", 10).await, ["archive/a"], "what is noted is no object");
}

#[tokio::test]
async fn what_is_noted_of_an_object_that_never_came_locks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let files = sinks::objects::Files::new(directory.path());
    // As a crash between the note and the object leaves it.
    let until = SystemClock.now() + TimeDelta::days(1);
    let lock = Some(Lock { mode: LockMode::Compliance, until });
    let with = ObjectOptions { lock, ..ObjectOptions::default() };
    let about = directory.path().join("~about/a~.json");
    std::fs::create_dir_all(about.parent().unwrap()).unwrap();
    std::fs::write(&about, serde_json::to_vec(&with).unwrap()).unwrap();
    assert_eq!(files.delete(&key("a")).await.unwrap(), Deletion::AlreadyGone);
    files.put(&key("a"), b"x".to_vec(), Write::IfAbsent).await.unwrap();
    assert_eq!(files.head(&key("a")).await.unwrap().unwrap().lock, None);
    assert_eq!(files.delete(&key("a")).await.unwrap(), Deletion::Deleted);
    assert!(!about.exists());
}
