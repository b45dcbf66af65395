//! What an import does with a batch that the API does not take. Here and not beside the other tests of
//! the command, because the pause between two tries is no option.

use std::time::Duration;

use clap::{Args, FromArgMatches};
use indicatif::ProgressBar;
use serde_json::json;
use testkit::{Answer, HttpDouble};

use super::state::State;
use super::{Import, Summary};
use crate::api::{Api, ApiConfig};
use crate::failure::{Failure, UNAVAILABLE};

fn parse<T: Args + FromArgMatches>(words: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("test"));
    let matches = command.get_matches_from([&["test"], words].concat());
    T::from_arg_matches(&matches).unwrap()
}

async fn run(double: &HttpDouble, import: &Import) -> Result<Summary, Failure> {
    let config: ApiConfig =
        parse(&["--flotilla-url", &double.url(), "--flotilla-api-key", "flt_test_a_b"]);
    let source = import.open()?;
    let state = State::load(import.state.as_deref(), &source.name)?;
    import.send(source, state, &Api::new(&config)?, &ProgressBar::hidden()).await
}

#[tokio::test]
async fn what_is_never_taken_is_not_done_and_the_resume_sends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, state, receipts) = (path("events"), path("state"), path("ids"));
    std::fs::write(&file, "{\"at\":0}\n{\"at\":1}\n{\"at\":2}\n").unwrap();
    let words = ["--batch", "1", "--concurrency", "1", "--state", &state, "--receipts", &receipts];
    let mut import: Import = parse(&[&words[..], &["ndjson", &file]].concat());
    import.pause = Duration::ZERO;
    let double = HttpDouble::start().await;
    let taken = |id: &str| Answer::json(json!({ "results": [{ "id": id }] })).with_status(202);
    let later = json!({ "code": "overloaded", "retryable": true });
    let later = Answer::json(json!({ "results": [{ "error": later }] })).with_status(207);

    double.next([taken("a")]);
    double.always(later);
    let failure = run(&double, &import).await.err().unwrap();
    assert_eq!(failure.exit, UNAVAILABLE, "{failure:?}");
    assert_eq!(double.seen().len(), 6, "one that is taken, and five tries of the next");
    assert_eq!(State::load(import.state.as_deref(), &format!("ndjson {file}")).unwrap().done, 1);

    double.next([taken("b"), taken("c")]);
    let summary = run(&double, &import).await.unwrap();
    assert_eq!((summary.skipped, summary.accepted, summary.rejected), (1, 2, 0));
    let (seen, ids) = (double.seen(), std::fs::read_to_string(&receipts).unwrap());
    assert_eq!(ids, "a\nb\nc\n");
    assert_eq!(seen[6].text(), "{\"at\":1}\n", "what was not taken comes first");
    assert_eq!(seen[6].header("idempotency-key"), seen[1].header("idempotency-key"));
}
