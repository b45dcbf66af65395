//! What the command line promises: help with examples, exit codes, errors that name the cause.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

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

#[test]
fn a_ready_file_names_the_endpoint_and_goes_with_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endpoint");
    let mut command = Command::new(BINARY);
    command.args(["--port", "0", "--ready-file"]).arg(&path);
    let process = Process::run(command);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("http://{}\n", process.addr));
    assert_eq!(process.terminate(), Some(0));
    assert!(!path.exists());
    let (code, text) = run(&["--port", "0", "--ready-file", "/proc/none/endpoint"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("ready file /proc/none/endpoint cannot be written"), "{text}");
}

#[test]
fn json_is_one_object_per_line() {
    let mut command = Command::new(BINARY);
    command.args(["--port", "0", "--json", "--test-controls"]);
    let (process, line) = Process::run_and_read(command);
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["endpoint"], format!("http://{}", process.addr));
    assert_eq!((&ready["test_controls"], &ready["data_dir"]), (&true.into(), &().into()));
    assert_eq!(process.terminate(), Some(0));
}

#[test]
fn fault_rules_are_read_at_the_start_and_again_on_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("faults.json");
    let file = path.to_str().unwrap();
    std::fs::write(&path, r#"{"rules": [{"fault": "sloth"}]}"#).unwrap();
    let (code, text) = run(&["--port", "0", "--faults", file, "--log", "off"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("unknown variant `sloth`"), "{text}");
    std::fs::write(&path, r#"{"rules": [{"fault": "throttle", "action": "ListQueues"}]}"#).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["--port", "0", "--log", "off", "--faults", file]);
    let process = Process::run(command);
    let mut client = process.client();
    let none = serde_json::json!({});
    assert_eq!(client.call("ListQueues", &none).unwrap().0, 403);
    for (rules, expected) in [("{", 403), (r#"{"rules": []}"#, 200)] {
        std::fs::write(&path, rules).unwrap();
        process.hang_up();
        let deadline = Instant::now() + Duration::from_secs(5);
        while client.call("ListQueues", &none).unwrap().0 != expected {
            assert!(Instant::now() < deadline, "{rules}");
        }
    }
    assert_eq!(process.terminate(), Some(0));
}
