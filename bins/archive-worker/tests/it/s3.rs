//! The same path on S3, as LocalStack speaks it: small objects in one call, a large one in parts.

use std::collections::BTreeMap;

use evidence::Codec;
use testkit::TestLocalStack;

use crate::scene::Scene;

/// A bucket, spoken to without an SDK: LocalStack checks no signature.
struct Bucket {
    url: String,
    name: String,
    authorization: String,
    client: reqwest::Client,
}

impl Bucket {
    async fn made() -> Option<Self> {
        let stack = TestLocalStack::new().await?;
        let credential = "test/20260101/us-east-1/s3/aws4_request";
        let bucket = Self {
            url: stack.url().to_owned(),
            name: format!("archive-{}", stack.access_key_id()),
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00"
            ),
            client: reqwest::Client::new(),
        };
        let made = bucket.client.put(bucket.at("")).header("authorization", &bucket.authorization);
        let made = made.send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        Some(bucket)
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.url, self.name)
    }

    async fn get(&self, name: &str) -> reqwest::Response {
        let asked = self.client.get(self.at(name)).header("authorization", &self.authorization);
        let answer = asked.send().await.unwrap();
        assert!(answer.status().is_success(), "{name}: {answer:?}");
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_s3_hold_each_event_once_whether_small_or_in_parts() {
    let Some(bucket) = Bucket::made().await else { return };
    let mut scene = Scene::new(true).await;
    scene.store =
        vec![("ARCHIVE_BUCKET", bucket.name.clone()), ("AWS_ENDPOINT_URL_S3", bucket.url.clone())];
    let mut worker = scene.start(None);
    scene.accept().await;
    scene.converged().await;
    assert_eq!(worker.drain().await.code(), Some(0), "{}", worker.output());

    let mut held = BTreeMap::new();
    for name in scene.objects().await {
        let answer = bucket.get(&name).await;
        let metadata = answer.headers()["x-amz-meta-tenant"].to_str().unwrap().to_owned();
        assert_eq!(metadata, "acme");
        let codec = Codec::ALL.into_iter().find(|codec| name.ends_with(codec.extension())).unwrap();
        let bytes = answer.bytes().await.unwrap();
        let observed = evidence::object::survey(&bytes[..], codec, |entry| {
            *held.entry(entry.line.key.id).or_default() += 1;
        });
        observed.unwrap().contents.unwrap();
    }
    assert_eq!(held, scene.expected());
    let uploads = bucket.get("?uploads").await.text().await.unwrap();
    assert!(!uploads.contains("<UploadId>"), "an orphan: {uploads}");
    scene.end().await;
}
