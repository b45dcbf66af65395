//! A server ends with the process that started it, however that process ends.

use std::process::{Command, Stdio};
use std::time::Duration;

use local_services::Redis;
use local_services::process::alive;
use testkit::eventually;

use crate::open_directory;

#[tokio::test]
async fn a_dropped_handle_stops_the_server() {
    let base = open_directory();
    let server = Redis::start(&base.path().join("redis")).await.expect("starts");
    let pid = server.pid().expect("a process id");
    assert!(alive(pid));
    drop(server);
    gone(pid).await;
}

/// The process of [`a_killed_parent_leaves_no_server`] is this test binary again, running this
/// test, which does nothing without its variable.
#[tokio::test]
async fn parent() {
    let Some(dir) = std::env::var_os("FLOTILLA_TEST_PARENT_DIR") else { return };
    let server = Redis::start(std::path::Path::new(&dir)).await.expect("starts");
    println!("pid={}", server.pid().expect("a process id"));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_parent_leaves_no_server() {
    use std::io::{BufRead, BufReader};
    let base = open_directory();
    let mut parent = Command::new(std::env::current_exe().expect("this binary"))
        .args(["parents::parent", "--exact", "--nocapture"])
        .env("FLOTILLA_TEST_PARENT_DIR", base.path().join("redis"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(parent.stdout.take().expect("its output")).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("pid=").map(|(_, pid)| pid.trim().parse::<i32>()))
        .expect("says the server's process id")
        .expect("a number");
    assert!(alive(pid));
    parent.kill().expect("dies by signal 9");
    parent.wait().expect("ends");
    gone(pid).await;
}

async fn gone(pid: i32) {
    let gone = async || (!alive(pid)).then_some(());
    eventually(Duration::from_secs(60), "the server is gone", gone).await;
}
