//! What the command line promises: help with examples, exit codes, errors that name the cause.

use std::process::{Command, Output};

use crate::process::{BINARY, Process};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(BINARY).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn help_shows_examples_and_wrong_usage_exits_64() {
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for expected in ["[default: 4566]", "[default: 127.0.0.1]", "--data-dir", "Examples:", "aws"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(run(&["--port", "many"]).0, Some(64));
    let (code, text) = run(&["--describe"]);
    let described: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &described["options"][1]["flag"]), (Some(0), &"--port".into()));
}

#[test]
fn a_taken_port_and_a_used_directory_exit_78_and_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path());
    let port = process.addr.rsplit(':').next().unwrap();
    let (code, text) = run(&["--port", port]);
    assert_eq!(code, Some(78));
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{text}");
    assert!(text.contains("SQS_LOCAL_PORT"), "{text}");
    let (code, text) = run(&["--port", "0", "--data-dir", directory.path().to_str().unwrap()]);
    assert_eq!(code, Some(78));
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(process.terminate(), Some(0));
}
