//! Real processes: exit codes, signals, the drain budget.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The example beside this test's executable; `cargo test` builds both.
fn idle() -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let mut command = Command::new(path.join("examples/idle"));
    command.env_clear().env("ADMIN_ADDR", "127.0.0.1:0").env("LOG_FORMAT", "json");
    command
}

/// A started process and what it has logged since its start, line by line.
struct Started {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Started {
    fn new(mut command: Command) -> Self {
        command.env("IDLE_SECRET", "x").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut started = Self { child, log };
        started.until("starting");
        started
    }

    /// Reads the log up to a line with `text`.
    fn until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "ended before {text:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_signal_drains_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut started = Started::new(idle());
        started.signal(signal);
        started.until("draining");
        assert_eq!(started.code(), 0);
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut command = idle();
        command.env("IDLE_DRAIN", "never");
        let mut started = Started::new(command);
        started.signal(Signal::TERM);
        started.until("draining");
        started.signal(signal);
        assert_eq!(started.code(), code);
    }
}

#[test]
fn work_that_says_the_budget_ended_exits_75() {
    let mut command = idle();
    command.env("IDLE_DRAIN", "late");
    let started = Started::new(command);
    started.signal(Signal::TERM);
    assert_eq!(started.code(), 75);
}

#[test]
fn work_that_ignores_the_budget_is_ended_and_exits_75() {
    let mut command = idle();
    command.env("IDLE_DRAIN", "never").env("DRAIN_BUDGET_SECS", "1");
    let started = Started::new(command);
    let begun = std::time::Instant::now();
    started.signal(Signal::TERM);
    assert_eq!(started.code(), 75);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn check_config_exits_0_or_78() {
    let (code, stdout, _) = run(idle().arg("--check-config").env("IDLE_SECRET", "hunter2"));
    assert_eq!((code, stdout.as_str()), (0, "idle: the configuration is valid\n"));
    let (code, _, stderr) = run(idle().arg("--check-config").env("DRAIN_BUDGET_SECS", "soon"));
    assert_eq!(code, 78);
    assert!(stderr.contains("DRAIN_BUDGET_SECS=soon: "), "{stderr}");
    assert!(stderr.contains("IDLE_SECRET: not set"), "{stderr}");
}

#[test]
fn a_wrong_value_exits_78_without_check_config_too() {
    let (code, _, stderr) = run(idle().env("IDLE_SECRET", "x").env("LOG_LEVEL", "info,==="));
    assert_eq!(code, 78, "{stderr}");
    assert!(stderr.contains("LOG_LEVEL=info,==="), "{stderr}");
}

#[test]
fn the_drain_budget_must_fit_into_the_stop_timeout() {
    let check = |budget, stop| {
        let mut command = idle();
        command.arg("--check-config").env("IDLE_SECRET", "x");
        command.env("DRAIN_BUDGET_SECS", budget).env("ECS_STOP_TIMEOUT_SECS", stop);
        run(&mut command)
    };
    assert_eq!(check("118", "120").0, 0);
    let (code, _, stderr) = check("119", "120");
    assert_eq!(code, 78);
    assert!(stderr.contains("for example DRAIN_BUDGET_SECS=118"), "{stderr}");
}

#[test]
fn an_admin_port_that_others_can_reach_needs_a_token() {
    let mut command = idle();
    command.arg("--check-config").env("IDLE_SECRET", "x").env("ADMIN_ADDR", "0.0.0.0:9090");
    let (code, _, stderr) = run(&mut command);
    assert_eq!(code, 78);
    assert!(stderr.contains("ADMIN_TOKEN"), "{stderr}");
    assert_eq!(run(command.env("ADMIN_TOKEN", "t")).0, 0);
}

#[test]
fn usage_exits_64_and_help_0() {
    assert_eq!(run(idle().arg("--nonsense")).0, 64);
    let (code, stdout, _) = run(idle().arg("--help"));
    assert_eq!(code, 0);
    assert!(stdout.contains("--admin-addr"), "{stdout}");
}

#[test]
fn describe_prints_the_options_before_any_check() {
    let (code, stdout, _) = run(idle().arg("--describe"));
    assert_eq!(code, 0);
    let described: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(described["about"], "Does nothing until it is told to stop.");
    let options = described["options"].as_array().unwrap();
    assert!(
        options.iter().any(|option| option["env"] == "IDLE_SECRET" && option["secret"] == true)
    );
}

#[test]
fn a_taken_admin_port_exits_78_and_names_the_variable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(idle().env("IDLE_SECRET", "x").env("ADMIN_ADDR", &addr));
    assert_eq!(code, 78, "{stderr}");
    assert!(stderr.contains(&format!("ADMIN_ADDR={addr}: cannot listen there")), "{stderr}");
    assert!(stderr.contains("for example ADMIN_ADDR=127.0.0.1:9091"), "{stderr}");
}
