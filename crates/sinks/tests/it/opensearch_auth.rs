//! How calls to OpenSearch are authenticated: not at all, by name and password, or signed.

use clap::{Args as _, FromArgMatches as _};
use serde_json::json;
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
