//! One suite for objects over files and S3, and for the claims on top of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use chrono::TimeDelta;
use contracts::{Claim, EnvelopeId, Tenant};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use queue_core::claim::{ClaimError, ClaimStore, MARK_BYTES_MAX, digest};
use queue_core::{Clock, Probe, SystemClock};
use sinks::objects::{
    ClaimObjects, Files, ORPHAN_TERM, ObjectKey, ObjectOptions, Objects, S3, SharedObjects,
    SinkErrorKind, Write, Written, sweep,
};
use tempfile::TempDir;
use testkit::TestLocalStack;
use tokio::sync::Barrier;
use uuid::Uuid;

/// The SDK set up for an endpoint that does not check who we are.
pub(crate) async fn sdk(endpoint: &str, account: &str) -> SdkConfig {
    let credentials = Credentials::new(account, "test", None, None, "test");
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

type Asked<T> = Box<dyn Fn(String) -> BoxFuture<'static, T>>;

/// A store to test, and what keeps it.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) objects: SharedObjects,
    /// The tags of an object, asked beside the port.
    pub(crate) tags: Asked<BTreeMap<String, String>>,
    /// How many versions and delete markers there are of a name, asked beside the port.
    pub(crate) versions: Asked<usize>,
    _directory: Option<TempDir>,
}

pub(crate) async fn backends() -> Vec<Backend> {
    backends_with(false).await
}

/// With or without versions and Object Lock, where the store knows of them.
pub(crate) async fn backends_with(object_lock: bool) -> Vec<Backend> {
    let mut backends = vec![files_backend()];
    if let Some(localstack) = TestLocalStack::new().await {
        let shared = sdk(localstack.url(), localstack.access_key_id()).await;
        let bucket = format!("flotilla-{}", localstack.access_key_id());
        backends.push(s3_backend(&shared, bucket, object_lock).await);
    }
    backends
}

fn files_backend() -> Backend {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not/made/yet");
    let (about, object) = (root.clone(), root.clone());
    Backend {
        name: "files",
        objects: Arc::new(Files::new(root)),
        tags: Box::new(move |name| {
            let about = about.join(format!("~about/{name}~.json"));
            let read = std::fs::read(about).unwrap();
            let options: ObjectOptions = serde_json::from_slice(&read).unwrap();
            async move { options.tags }.boxed()
        }),
        versions: Box::new(move |name| {
            let there = usize::from(object.join(name).exists());
            async move { there }.boxed()
        }),
        _directory: Some(directory),
    }
}

async fn s3_backend(shared: &SdkConfig, bucket: String, object_lock: bool) -> Backend {
    let admin = aws_sdk_s3::config::Builder::from(shared).force_path_style(true).build();
    let admin = aws_sdk_s3::Client::from_conf(admin);
    let placed = aws_sdk_s3::types::CreateBucketConfiguration::builder()
        .location_constraint(aws_sdk_s3::types::BucketLocationConstraint::EuCentral1);
    admin
        .create_bucket()
        .bucket(&bucket)
        .create_bucket_configuration(placed.build())
        .object_lock_enabled_for_bucket(object_lock)
        .send()
        .await
        .unwrap();
    let tags = {
        let (admin, bucket) = (admin.clone(), bucket.clone());
        move |name: String| {
            let call = admin.get_object_tagging().bucket(&bucket).key(name);
            async move {
                let tags = call.send().await.unwrap().tag_set;
                tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
            }
            .boxed()
        }
    };
    let versions = {
        let bucket = bucket.clone();
        move |name: String| {
            let call = admin.list_object_versions().bucket(&bucket).prefix(&name);
            async move {
                let answer = call.send().await.unwrap();
                let named = |key: Option<&str>| key == Some(name.as_str());
                let versions = answer.versions().iter().filter(|version| named(version.key()));
                let markers = answer.delete_markers().iter().filter(|marker| named(marker.key()));
                versions.count() + markers.count()
            }
            .boxed()
        }
    };
    Backend {
        name: "s3",
        objects: Arc::new(S3::new(shared, bucket)),
        tags: Box::new(tags),
        versions: Box::new(versions),
        _directory: None,
    }
}

pub(crate) fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

pub(crate) async fn names(objects: &dyn Objects, prefix: &str, limit: usize) -> Vec<String> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = objects.list(prefix, after.as_ref(), limit).await.unwrap();
        assert!(page.objects.len() <= limit);
        names.extend(page.objects.iter().map(|object| object.key.to_string()));
        after = page.next;
        if after.is_none() {
            return names;
        }
    }
}

#[tokio::test]
async fn what_was_written_is_read_and_what_was_not_is_not_there() {
    for Backend { name, objects, .. } in backends().await {
        objects.probe().await.unwrap();
        let (place, nothing) = (key("a/b/c.json"), key("a/b"));
        assert_eq!(objects.get(&place, 10).await.unwrap(), None, "{name}");
        assert_eq!(objects.head(&place).await.unwrap(), None, "{name}");
        objects.delete(&place).await.unwrap();
        for bytes in [b"first".to_vec(), Vec::new(), vec![7; 1 << 20]] {
            let size = bytes.len() as u64;
            let put = objects.put(&place, bytes.clone(), Write::Replace).await.unwrap();
            assert_eq!(put, Written::New, "{name}");
            assert_eq!(objects.get(&place, size).await.unwrap(), Some(bytes), "{name}");
            let meta = objects.head(&place).await.unwrap().unwrap();
            assert_eq!((meta.key, meta.size), (place.clone(), size), "{name}");
            let age = SystemClock.now() - meta.modified;
            assert!(age.abs() < TimeDelta::minutes(5), "{name}: {age}");
        }
        assert_eq!(objects.get(&nothing, 10).await.unwrap(), None, "{name}: a folder is nothing");
        assert_eq!(objects.head(&nothing).await.unwrap(), None, "{name}");
        objects.delete(&place).await.unwrap();
        objects.delete(&place).await.unwrap();
        assert_eq!(objects.get(&place, 10).await.unwrap(), None, "{name}");
        assert!(names(&*objects, "", 10).await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_larger_object_than_asked_for_is_refused() {
    for Backend { name, objects, .. } in backends().await {
        let place = key("large");
        objects.put(&place, vec![1; 1_000], Write::Replace).await.unwrap();
        assert_eq!(objects.get(&place, 1_000).await.unwrap().unwrap().len(), 1_000, "{name}");
        let error = objects.get(&place, 999).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Refused, "{name}: {error}");
        assert!(error.message.contains("999"), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_first_writers_one_is_first() {
    for Backend { name, objects, .. } in backends().await {
        let barrier = Arc::new(Barrier::new(8));
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8_u8 {
            let (objects, barrier) = (Arc::clone(&objects), Arc::clone(&barrier));
            tasks.spawn(async move {
                barrier.wait().await;
                // S3 may ask a writer that met another one to try again.
                for _ in 0..20 {
                    match objects.put(&key("one"), vec![writer; 10_000], Write::IfAbsent).await {
                        Ok(written) => return (writer, written),
                        Err(error) => assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}"),
                    }
                }
                panic!("never taken")
            });
        }
        let outcomes = tasks.join_all().await;
        let first: Vec<u8> = outcomes
            .iter()
            .filter(|(_, written)| *written == Written::New)
            .map(|(writer, _)| *writer)
            .collect();
        assert_eq!(first.len(), 1, "{name}: {outcomes:?}");
        let there = objects.get(&key("one"), 10_000).await.unwrap().unwrap();
        assert_eq!(there, vec![first[0]; 10_000], "{name}");
    }
}

#[tokio::test]
async fn names_are_listed_in_the_order_of_their_bytes_page_by_page() {
    let all = ["a", "a-b", "a.b", "a/a", "a/b/c", "a/b.c", "a0", "b/x", "b/y/z", "c"];
    for Backend { name, objects, .. } in backends().await {
        for place in all.iter().filter(|place| **place != "a" && **place != "a0") {
            objects.put(&key(place), b"x".to_vec(), Write::Replace).await.unwrap();
        }
        let mut expected: Vec<&str> =
            all.into_iter().filter(|place| *place != "a" && *place != "a0").collect();
        expected.sort_unstable();
        for limit in [1, 2, 3, 100] {
            assert_eq!(names(&*objects, "", limit).await, expected, "{name}, {limit} a page");
        }
        for prefix in ["a", "a/", "a/b", "b/y", "nothing", "a-"] {
            let expected: Vec<_> =
                expected.iter().filter(|place| place.starts_with(prefix)).collect();
            let listed = names(&*objects, prefix, 2).await;
            assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{name}: {prefix}");
        }
    }
}

#[tokio::test]
async fn a_claim_is_its_tenants_own_and_cannot_be_guessed() {
    for Backend { name, objects, .. } in backends().await {
        let claims = ClaimObjects::new(Arc::clone(&objects));
        let (acme, globex) = (tenant("acme"), tenant("acme-2"));
        let claim = claims.put(&acme, b"body".to_vec()).await.unwrap();
        let other = claims.put(&acme, b"body".to_vec()).await.unwrap();
        assert_ne!(claim.key, other.key, "{name}");
        let parts: Vec<&str> = claim.key.split('/').collect();
        let [prefix, own, day, random] = parts[..] else { panic!("{name}: {}", claim.key) };
        assert_eq!((prefix, own, day.len(), random.len()), ("claims", "acme", 8, 32), "{name}");
        assert_eq!((claim.size, claim.sha256.as_str()), (4, digest(b"body").as_str()), "{name}");
        assert_eq!(claims.get(&acme, &claim).await.unwrap(), b"body", "{name}");

        objects.put(&key("archive/acme/1"), b"body".to_vec(), Write::Replace).await.unwrap();
        let elsewhere = |key: &str| Claim { key: key.into(), ..claim.clone() };
        let foreign = [
            (&globex, claim.clone()),
            (&acme, Claim { bucket: "another".into(), ..claim.clone() }),
            (&acme, elsewhere("archive/acme/1")),
            (&acme, elsewhere("claims/acme/../../archive/acme/1")),
            (&acme, elsewhere("/etc/passwd")),
            (&acme, elsewhere("")),
            (&acme, Claim { size: u64::MAX, ..claim.clone() }),
        ];
        for (who, claim) in foreign {
            let read = claims.get(who, &claim).await;
            assert!(matches!(read, Err(ClaimError::Foreign(_))), "{name}: {claim:?} {read:?}");
            let removed = claims.remove(who, &claim).await;
            assert!(matches!(removed, Err(ClaimError::Foreign(_))), "{name}: {claim:?}");
        }
        assert!(objects.head(&key("archive/acme/1")).await.unwrap().is_some(), "{name}");
        assert!(objects.head(&key(&claim.key)).await.unwrap().is_some(), "{name}");

        objects.put(&key(&other.key), vec![0; 500], Write::Replace).await.unwrap();
        let larger = claims.get(&acme, &other).await;
        assert!(matches!(larger, Err(ClaimError::Foreign(_))), "{name}: {larger:?}");

        claims.remove(&acme, &claim).await.unwrap();
        claims.remove(&acme, &claim).await.unwrap();
        let gone = claims.get(&acme, &claim).await;
        assert_eq!(gone, Err(ClaimError::Missing(claim.key)), "{name}");
    }
}

#[tokio::test]
async fn a_settled_body_leaves_a_mark_that_is_no_body() {
    let id = EnvelopeId(Uuid::from_u128(7));
    for Backend { name, objects, .. } in backends().await {
        let claims = ClaimObjects::new(Arc::clone(&objects));
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        // Shorter than a mark, and longer.
        for body in [b"1".to_vec(), vec![b'1'; 10_000]] {
            let claim = claims.put(&acme, body.clone()).await.unwrap();
            let foreign = claims.settle(&globex, &claim, id).await;
            assert!(matches!(foreign, Err(ClaimError::Foreign(_))), "{name}: {foreign:?}");
            assert_eq!(claims.get(&acme, &claim).await, Ok(body), "{name}");
            for _ in 0..2 {
                claims.settle(&acme, &claim, id).await.unwrap();
                let settled = claims.get(&acme, &claim).await;
                assert_eq!(settled, Err(ClaimError::Settled(id.to_string())), "{name}");
            }
            let left = objects.head(&key(&claim.key)).await.unwrap().unwrap();
            assert!(left.size <= MARK_BYTES_MAX as u64, "{name}: nothing of the body is left");
        }
    }
}

#[tokio::test]
async fn what_nobody_removed_goes_after_every_redelivery_and_nothing_else() {
    let longest = Duration::from_secs(contracts::catalogue::redelivery_max_secs());
    assert!(ORPHAN_TERM > longest);
    for Backend { name, objects, .. } in backends().await {
        let claims = ClaimObjects::new(Arc::clone(&objects));
        for who in ["acme", "globex"] {
            claims.put(&tenant(who), b"body".to_vec()).await.unwrap();
        }
        objects.put(&key("archive/kept"), b"x".to_vec(), Write::Replace).await.unwrap();
        let term = TimeDelta::from_std(ORPHAN_TERM).unwrap();
        let minute = TimeDelta::minutes(1);
        let early = sweep(&*objects, SystemClock.now() + term - minute * 5).await.unwrap();
        assert_eq!(early, 0, "{name}");
        let late = sweep(&*objects, SystemClock.now() + term + minute * 5).await.unwrap();
        assert_eq!(late, 2, "{name}");
        assert_eq!(names(&*objects, "", 10).await, ["archive/kept"], "{name}");
    }
}

#[tokio::test]
async fn what_was_not_finished_is_no_object_and_does_not_stand_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let unfinished = directory.path().join("~unfinished");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("half"), b"hal").unwrap();
    let files = Files::new(directory.path());
    assert!(names(&files, "", 10).await.is_empty());
    files.put(&key("whole"), b"whole".to_vec(), Write::IfAbsent).await.unwrap();
    assert_eq!(names(&files, "", 10).await, ["whole"]);
    let left: Vec<_> = std::fs::read_dir(&unfinished).unwrap().collect();
    assert_eq!(left.len(), 1, "its own draft is gone: {left:?}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let files = Files::new(&file);
    assert!(files.probe().await.unwrap_err().contains("file"));
    let error = files.put(&key("a"), vec![1], Write::Replace).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn files_are_listed_as_s3_lists_objects(
        places in prop::collection::btree_set("[a-c](/[a.-]{1,2}[a-c]){0,3}", 1..20),
        limit in 1usize..5,
    ) {
        // No name is a folder of another: S3 could have both.
        let places: Vec<String> = places.iter()
            .filter(|place| !places.iter().any(|other| other.starts_with(&format!("{place}/"))))
            .cloned().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let files = Files::new(directory.path());
            for place in &places {
                files.put(&key(place), b"x".to_vec(), Write::Replace).await.unwrap();
            }
            prop_assert_eq!(names(&files, "", limit).await, places);
            Ok(())
        })?;
    }
}
