//! Starts that cannot be, each with an error that says what to do.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::process::Place;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_fleet_on_the_same_directory_is_refused() {
    let place = Place::new();
    let first = place.start().await;
    let pid = first.child.id().unwrap();
    let Place { directory, .. } = place;
    let second = Place { directory, ..Place::new() };
    let (code, told) = second.run(&[]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains(&format!("another fleet (process {pid}) runs on")), "{told}");
    assert!(told.contains("--state-dir"), "{told}");
    assert_eq!(first.end(Signal::TERM).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    for (at, option) in ["LISTEN_ADDR", "FLEET_SQS_ADDR", "ADMIN_ADDR"].into_iter().enumerate() {
        let mut place = Place::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        *[&mut place.api, &mut place.sqs, &mut place.admin][at] = port;
        let (code, told) = place.run(&[]).await;
        assert_eq!(code, 78, "{option}: {told}");
        assert!(told.contains(&format!("{option}=127.0.0.1:{port}: cannot listen")), "{told}");
        assert!(told.contains(&format!("for example {option}=")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named_with_the_command_that_installs_it() {
    let place = Place::new();
    // A machine with a shell and without Redis; PostgreSQL is found by its directory.
    let programs = place.directory.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for program in ["sh", "sleep", "kill"] {
        std::os::unix::fs::symlink(format!("/bin/{program}"), programs.join(program)).unwrap();
    }
    let mut command = place.command();
    command.env("PATH", programs).stderr(std::process::Stdio::piped());
    let ended = command.output().await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("redis-server") && told.contains("install"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_can_reach_is_refused_on_the_laptop() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["--check-config"]).env("FLEET_EXCEPT", "everything");
    let ended = command.output().await.unwrap();
    assert_eq!(ended.status.code(), Some(78));
    let mut command = tokio::process::Command::new(testkit::binary("fleet"));
    command.env_clear().args(["up", "--check-config", "--listen-addr", "0.0.0.0:3000"]);
    let ended = command.output().await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(78), "{told}");
    assert!(told.contains("LISTEN_ADDR=0.0.0.0:3000") && told.contains("loopback"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_backends_need_their_usual_variables() {
    let check = async |variables: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(testkit::binary("fleet"));
        command.env_clear().args(["up", "--backends", "aws", "--check-config"]);
        let ended = command.envs(variables.iter().copied()).output().await.unwrap();
        (ended.status.code().unwrap(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, told) = check(&[]).await;
    assert_eq!(code, 78, "{told}");
    for variable in ["DATABASE_URL", "AWS_SQS_INDEX_QUEUE_URL"] {
        assert_eq!(
            told.matches(&format!("  {variable}: not set")).count(),
            1,
            "{variable}: {told}"
        );
    }
    let queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/audit-log-index-queue";
    let (code, told) = check(&[
        ("DATABASE_URL", "postgres://flotilla@db.internal/flotilla"),
        ("REDIS_URL", "redis://redis.internal:6379"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_SQS_INDEX_QUEUE_URL", queue),
    ])
    .await;
    assert_eq!(code, 0, "{told}");
}
