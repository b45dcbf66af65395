//! The shared parts start, are found again, and keep tests apart.

use testkit::{TestLocalStack, TestOpenSearch};

#[tokio::test]
async fn opensearch_is_one_for_all_and_a_name_space_for_each() {
    let (one, two) = tokio::join!(TestOpenSearch::new(), TestOpenSearch::new());
    let (Some(one), Some(two)) = (one, two) else { return };
    assert_eq!(one.url(), two.url());
    assert_ne!(one.prefix(), two.prefix());
    let info: serde_json::Value =
        reqwest::get(one.url()).await.expect("answers").json().await.expect("JSON");
    assert_eq!(info["version"]["number"], local_services::opensearch::VERSION);
}

#[tokio::test]
async fn localstack_is_one_for_all_and_an_account_for_each() {
    let (one, two) = tokio::join!(TestLocalStack::new(), TestLocalStack::new());
    let (Some(one), Some(two)) = (one, two) else { return };
    assert_eq!(one.url(), two.url());
    assert_ne!(one.access_key_id(), two.access_key_id());
    let health: serde_json::Value = reqwest::get(format!("{}/_localstack/health", one.url()))
        .await
        .expect("answers")
        .json()
        .await
        .expect("JSON");
    assert_eq!(health["version"], local_services::localstack::VERSION);
    assert!(health["services"]["sqs"].is_string(), "{health}");
}
