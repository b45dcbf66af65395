//! How calls to OpenSearch are authenticated: not at all, by name and password, or signed.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use clap::{Args as _, FromArgMatches as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sinks::search::{OpenSearchSink, Search as _, SearchConfig};
use testkit::{Answer, HttpDouble};

fn parse(arguments: &[&str]) -> Result<SearchConfig, String> {
    let command = SearchConfig::augment_args(clap::Command::new("test"));
    let arguments = std::iter::once("test").chain(arguments.iter().copied());
    let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
    SearchConfig::from_arg_matches(&matches).map_err(|error| error.to_string())
}

#[tokio::test]
async fn basic_or_nothing() {
    let double = HttpDouble::start().await;
    double.always(Answer::json(json!({ "acknowledged": true })));
    let url = format!("--opensearch-url={}", double.url());
    for (arguments, expected) in [
        (vec![url.as_str()], ""),
        (
            vec![&url, "--opensearch-username=ada", "--opensearch-password=s3cret"],
            // base64 of ada:s3cret
            "Basic YWRhOnMzY3JldA==",
        ),
    ] {
        let sink = OpenSearchSink::new(&parse(&arguments).unwrap()).await.unwrap();
        sink.ensure().await.unwrap();
        let seen = double.seen().pop().unwrap();
        assert_eq!(seen.header("authorization"), expected);
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("PUT", "/_index_template/audit-logs")
        );
    }
}

#[tokio::test]
async fn signed_for_aws() {
    let double = HttpDouble::start().await;
    double.always(Answer::json(json!({ "acknowledged": true })));
    let credentials = Credentials::new("AKIDEXAMPLE", "s3cret", None, None, "test");
    let aws = aws_config::SdkConfig::builder()
        .region(aws_config::Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let config = SearchConfig::opensearch(double.url());
    OpenSearchSink::signed(&config, &aws).unwrap().ensure().await.unwrap();
    let seen = double.seen().pop().unwrap();
    let authorization = seen.header("authorization");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert!(authorization.contains("/eu-west-1/es/aws4_request"), "{authorization}");
    // The body is signed, too: its hash is the one of what arrived.
    let hash = hex::encode(Sha256::digest(&seen.body));
    assert_eq!(seen.header("x-amz-content-sha256"), hash);
    let nowhere = OpenSearchSink::signed(&config, &aws_config::SdkConfig::builder().build());
    assert!(nowhere.unwrap_err().to_string().contains("AWS_REGION"));
}

#[test]
fn values_are_checked() {
    assert!(parse(&["--opensearch-url=https://search.internal"]).is_ok());
    for bad in [
        "--opensearch-url=search.internal:9200",
        "--opensearch-url=ftp://search.internal",
        "--opensearch-url=http://ada:s3cret@search.internal",
        "--opensearch-index-prefix=Audit",
        "--opensearch-index-prefix=audit-x",
        "--opensearch-index-prefix=",
        "--search-timeout-secs=0",
        "--search-timeout-secs=121",
        "--opensearch-auth=magic",
        "--opensearch-username=ada",
    ] {
        let error = parse(&[bad]).unwrap_err();
        assert!(!error.contains("s3cret") || bad.contains("ada:s3cret"), "{error}");
    }
}
