//! A directory survives what happens to its server.

use std::path::Path;
use std::process::Command;

use local_services::{PartError, Postgres, Redis};

use crate::open_directory;

/// Runs SQL through the installed `psql`.
fn psql(url: &str, sql: &str) -> String {
    let bin = local_services::postgres::server_binaries().expect("PostgreSQL");
    let output =
        Command::new(bin.join("psql")).args([url, "-XAtqc", sql]).output().expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[tokio::test]
async fn postgres_keeps_what_was_committed_over_a_crash() {
    let base = open_directory();
    let dir = base.path().join("postgres");
    let server = Postgres::start(&dir).await.expect("starts");
    psql(&server.url(), "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    let (url, place) = (server.url(), server.dir().to_path_buf());
    server.kill().await.expect("dies");
    assert!(place.join("data/postmaster.pid").exists(), "the crash left its pid file");

    let server = Postgres::start(&dir).await.expect("starts again");
    assert_eq!(psql(&server.url(), "SELECT n FROM t"), "7");
    assert_eq!(server.url(), url, "the port is kept");
    assert_private(&place);
    server.stop().await.expect("stops");
    assert!(!place.join("data/postmaster.pid").exists(), "a clean stop leaves none");
}

#[tokio::test]
async fn postgres_starts_beside_a_pid_file_of_somebody_else() {
    let base = open_directory();
    let dir = base.path().join("postgres");
    let server = Postgres::start(&dir).await.expect("starts");
    let place = server.dir().to_path_buf();
    server.kill().await.expect("dies");
    // The id has gone to another process meanwhile: this one.
    let file = place.join("data/postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("reads");
    let rest = text.split_once('\n').expect("lines").1;
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).expect("writes");
    Postgres::start(&dir).await.expect("starts").stop().await.expect("stops");
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name() {
    let base = open_directory();
    let dir = base.path().join("redis");
    let first = Redis::start(&dir).await.expect("starts");
    let second = Redis::start(&dir).await.expect_err("in use");
    assert!(matches!(&second, PartError::InUse(place) if place.ends_with("redis")), "{second}");
    first.stop().await.expect("stops");
    Redis::start(&dir).await.expect("starts").stop().await.expect("stops");
}

#[tokio::test]
async fn the_end_of_the_log_is_in_the_error() {
    let base = open_directory();
    let dir = base.path().join("postgres");
    let server = Postgres::start(&dir).await.expect("starts");
    let place = server.dir().to_path_buf();
    server.stop().await.expect("stops");
    std::fs::write(place.join("data/postgresql.conf"), "no_such_setting = 1\n").expect("writes");
    let error = Postgres::start(&dir).await.expect_err("cannot start").to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

/// Nobody else may look into a server's directory.
fn assert_private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for path in [dir.to_path_buf(), dir.join("data"), dir.join("password"), dir.join("log")] {
        let mode = path.metadata().expect("exists").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", path.display());
    }
}

/// Root's servers run as another account, which cannot enter a closed directory.
#[tokio::test]
async fn below_a_closed_directory_root_s_data_lies_elsewhere_and_is_found_again() {
    use std::os::unix::fs::PermissionsExt;
    if !local_services::account::is_root() {
        return;
    }
    let base = open_directory();
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(base.path(), closed).expect("closes");
    let dir = base.path().join("postgres");
    let server = Postgres::start(&dir).await.expect("starts");
    psql(&server.url(), "CREATE TABLE t (n int)");
    let place = server.dir().to_path_buf();
    assert!(place.starts_with("/var/lib/flotilla"), "{}", place.display());
    assert_private(&place);
    server.stop().await.expect("stops");
    let server = Postgres::start(&dir).await.expect("starts again");
    assert_eq!(server.dir(), place);
    psql(&server.url(), "DROP TABLE t");
    server.stop().await.expect("stops");

    // A directory made anew has nothing to do with that.
    std::fs::remove_dir_all(&dir).expect("is removed");
    let server = Postgres::start(&dir).await.expect("starts");
    let second = server.dir().to_path_buf();
    assert_ne!(second, place);
    server.stop().await.expect("stops");
    for place in [place, second] {
        std::fs::remove_dir_all(place).expect("is cleaned up");
    }
}
