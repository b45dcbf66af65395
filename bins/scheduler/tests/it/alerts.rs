//! Schedulers that find dead letters: one page however many run and whoever leads, a notice when it is
//! over, and figures for CloudWatch.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use contracts::catalogue::{AUDIT_ARCHIVE, AUDIT_INDEX};
use database::Role;
use database::sqlx::{self, PgPool};
use queue_core::{Clock, Driver, Outgoing};
use scheduler::SchedulerConfig;
use scheduler::queues::QueueUrls;
use sinks::notify::NotifyConfig;
use sinks::notify::alerts::AlertConfig;
use testkit::{Answer, Gate, HttpDouble, TestDatabase, TestSqs, eventually};

use crate::duties::{Hands, Running, quick, run_by};

const DEADLINE: Duration = Duration::from_secs(120);

fn config(url: &str, sqs: &TestSqs, slack: &HttpDouble) -> SchedulerConfig {
    SchedulerConfig {
        queues: QueueUrls(vec![(&AUDIT_INDEX, sqs.url(AUDIT_INDEX.name))]),
        aws: sqs.options(),
        alerts: AlertConfig {
            alert_slack_webhook_url: Some(slack.url().parse().expect("a URL")),
            ..AlertConfig::default()
        },
        notify: NotifyConfig {
            webhook_allow_private: true,
            webhook_allow_http: true,
            ..NotifyConfig::default()
        },
        ..quick(url)
    }
}

async fn dead_letter(dead_letters: &Arc<dyn Driver>) {
    let letter = Outgoing { body: "{}".into(), ..Outgoing::default() };
    dead_letters.send(&[letter]).await.expect("sends").remove(0).expect("is taken");
}

/// Times that the alert was found since it opened; zero before it is there.
async fn found(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT coalesce(max(raised), 0) FROM alerts WHERE closed_at IS NULL")
        .fetch_one(pool)
        .await
        .expect("counts")
}

/// A round of the duty that began after now.
async fn another_round(pool: &PgPool) {
    let before = found(pool).await;
    eventually(DEADLINE, "two more rounds", async || {
        (found(pool).await >= before + 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn dead_letters_ring_once_over_schedulers_and_restarts_and_their_end_is_told() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    let slack = HttpDouble::start().await;
    slack.always(Answer::status(200).body("ok"));
    sqs.create(&AUDIT_INDEX).await;
    let dead_letters = sqs.queue(AUDIT_INDEX.dlq);
    let (owner, clock) = (database.connect(Role::Worker), Hands::ahead(0));
    let start = async || run_by(config(database.url(), &sqs, &slack), clock.clone()).await;
    let (one, two): (Running, Running) = (start().await, start().await);
    dead_letter(&dead_letters).await;
    let page = slack.asked(1).await.remove(0).json();
    assert_eq!(page["text"], "[critical] Dead letters of audit-index: 1");
    another_round(owner.pool()).await;
    // Whichever leads, the other follows; and one that starts afresh knows no more than the database.
    one.drained().await;
    another_round(owner.pool()).await;
    let three = start().await;
    two.drained().await;
    another_round(owner.pool()).await;
    assert_eq!(slack.seen().len(), 1, "one page");

    let letters = queue_core::driver::ReceiveRequest {
        max: 10,
        wait: Duration::ZERO,
        lease: Duration::from_secs(30),
    };
    let letter = dead_letters.receive(letters).await.expect("receives").remove(0);
    dead_letters.settle(&[letter.receipt]).await.expect("settles").remove(0).expect("is gone");
    eventually(DEADLINE, "it is not found any more", async || {
        let quiet = "SELECT count(*) FROM alerts WHERE quiet_since IS NOT NULL";
        let quiet: i64 = sqlx::query_scalar(quiet).fetch_one(owner.pool()).await.expect("counts");
        (quiet == 1).then_some(())
    })
    .await;
    *clock.0.lock().expect("not poisoned") += TimeDelta::seconds(301);
    let end = slack.asked(2).await.remove(1).json();
    assert_eq!(end["text"], "[info] Resolved: Dead letters of audit-index: 1");
    three.drained().await;
    assert_eq!(slack.seen().len(), 2);
}

#[tokio::test]
async fn a_queue_that_cannot_be_asked_neither_rings_nor_resolves() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    let slack = HttpDouble::start().await;
    slack.always(Answer::status(200).body("ok"));
    sqs.create(&AUDIT_INDEX).await;
    dead_letter(&sqs.queue(AUDIT_INDEX.dlq)).await;
    let mut config = config(database.url(), &sqs, &slack);
    // Never made: the emulator refuses it, round after round.
    config.queues.0.insert(0, (&AUDIT_ARCHIVE, sqs.url(AUDIT_ARCHIVE.name)));
    let clock = Hands::ahead(0);
    let scheduler = run_by(config, clock.clone()).await;
    slack.asked(1).await;
    let worker = database.connect(Role::Worker);
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM alerts")
        .fetch_all(worker.pool())
        .await
        .expect("reads");
    assert_eq!(names, ["dead-letters/audit-index"]);
    assert!(clock.now() > chrono::DateTime::UNIX_EPOCH);
    scheduler.drained().await;
}

#[tokio::test]
async fn a_drain_waits_for_the_page_that_is_on_its_way() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    let (slack, gate) = (HttpDouble::start().await, Gate::closed());
    slack.always(Answer::status(200).body("ok").behind(&gate));
    sqs.create(&AUDIT_INDEX).await;
    dead_letter(&sqs.queue(AUDIT_INDEX.dlq)).await;
    let scheduler = run_by(config(database.url(), &sqs, &slack), Hands::ahead(0)).await;
    slack.asked(1).await;
    scheduler.drain.cancel();
    gate.open();
    scheduler.drained().await;
    let told = "SELECT count(*) FROM effects WHERE scope = 'alerts.notify' AND busy_until IS NULL";
    let worker = database.connect(Role::Worker);
    let told: i64 = sqlx::query_scalar(told).fetch_one(worker.pool()).await.expect("counts");
    assert_eq!(told, 1, "and it is no doubt");
}

#[tokio::test]
async fn figures_for_cloudwatch_are_on_stdout_at_the_end_at_the_latest() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    sqs.create(&AUDIT_INDEX).await;
    dead_letter(&sqs.queue(AUDIT_INDEX.dlq)).await;
    let mut process = Command::new(env!("CARGO_BIN_EXE_scheduler"))
        .args(["--scheduler-interval-secs=1", "--admin-addr=127.0.0.1:0", "--log-level=warn"])
        .env_clear()
        .env("DATABASE_URL", database.url())
        .env(AUDIT_INDEX.env, sqs.url(AUDIT_INDEX.name))
        .env("METRICS_EMF", "stdout")
        .envs(sqs.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let worker = database.connect(Role::Worker);
    eventually(DEADLINE, "a round", async || (found(worker.pool()).await > 0).then_some(())).await;
    let pid = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::TERM)
        .expect("signals");
    let mut text = String::new();
    process.stdout.take().expect("a pipe").read_to_string(&mut text).expect("reads");
    assert!(process.wait().expect("ends").success());
    let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one line of JSON");
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Flotilla");
    assert_eq!(
        (line["queue"].as_str(), line["worker"].as_str()),
        (Some(AUDIT_INDEX.name), Some("index-worker"))
    );
    assert_eq!((&line["DeadLetters"], &line["QueueDepth"]), (&1.0.into(), &0.0.into()));
}
