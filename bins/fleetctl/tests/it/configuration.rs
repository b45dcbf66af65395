//! Exit codes, hints, env files and help.

use crate::command::fleetctl;

#[tokio::test]
async fn wrong_usage_is_64_and_help_is_no_failure() {
    assert_eq!(fleetctl(&[], &["nonsense"]).await.code, 64);
    assert_eq!(fleetctl(&[], &["dlq", "list", "no-such-queue"]).await.code, 64);
    assert_eq!(fleetctl(&[], &["--help"]).await.ok().err, "");
}

#[tokio::test]
async fn a_missing_or_wrong_variable_is_78_and_named() {
    let said = fleetctl(&[], &["keys", "list"]).await;
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.err.contains("DATABASE_URL"), "{said:?}");
    let url = [("DATABASE_URL", "postgres://u:hunter2@[bad".to_owned())];
    let said = fleetctl(&url, &["keys", "list"]).await;
    assert_eq!(said.code, 78, "{said:?}");
    assert!(!said.err.contains("hunter2"), "a secret in an error: {said:?}");
}

#[tokio::test]
async fn what_does_not_answer_is_69_with_a_hint() {
    let nobody = [("DATABASE_URL", "postgres://u@127.0.0.1:1/x".to_owned())];
    let said = fleetctl(&nobody, &["tenants", "list"]).await;
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.err.contains("hint:"), "{said:?}");
    let said = fleetctl(&[], &["healthcheck", "--admin", "http://127.0.0.1:1"]).await;
    assert_eq!(said.code, 69, "{said:?}");
}

#[tokio::test]
async fn an_env_file_is_read_and_the_process_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.env");
    std::fs::write(&path, "# made by a test\nFLOTILLA_URL=ftp://from-file\n").unwrap();
    let file = path.to_str().unwrap();
    let words = ["--env-file", file, "search"];
    assert!(fleetctl(&[], &words).await.err.contains("ftp://from-file"));
    let process = [("FLOTILLA_URL", "ftp://from-process".to_owned())];
    assert!(fleetctl(&process, &words).await.err.contains("ftp://from-process"));
    let said = fleetctl(&[], &["--env-file", "/nowhere/fleet.env", "search"]).await;
    assert_eq!(said.code, 78, "{said:?}");
}

#[tokio::test]
async fn completions_and_the_description_are_printed() {
    let script = fleetctl(&[], &["completions", "bash"]).await.ok().out;
    assert!(script.contains("redrive"));
    let described = &fleetctl(&[], &["--describe"]).await.ok().lines()[0];
    assert_eq!(described["name"], "fleetctl");
    assert!(described["options"].as_array().is_some_and(|options| !options.is_empty()));
}
