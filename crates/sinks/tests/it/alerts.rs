//! Alerts to doubles of Slack, mail and a webhook, with the ledger in PostgreSQL: each target is told
//! once, also by two senders, also when one of the targets fails.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use database::{Database, PostgresEffects, Role};
use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use sinks::notify::alerts::{
    ALERT_NOTICES_TOTAL, AlertConfig, AlertKey, AlertSender, Severity, raise,
};
use sinks::notify::{NotifyConfig, SmtpTls};
use testkit::{Answer, HttpDouble, SmtpDouble, SmtpSay, SmtpStep, TestDatabase};
use tokio_util::sync::CancellationToken;

use crate::notify::{channels, open};

/// Everything that an alert goes to.
struct Stage {
    _database: TestDatabase,
    worker: Database,
    slack: HttpDouble,
    hook: HttpDouble,
    mail: SmtpDouble,
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::seconds(seconds)
}

impl Stage {
    async fn set() -> Self {
        let database = TestDatabase::new().await;
        let (slack, hook) = (HttpDouble::start().await, HttpDouble::start().await);
        slack.always(Answer::status(200).body("ok"));
        hook.always(Answer::status(204));
        let worker = database.connect(Role::Worker);
        let mail = SmtpDouble::start().await;
        let mut connection = worker.pool().acquire().await.unwrap();
        let key = AlertKey::dead_letters("audit-index");
        let words = ["3 dead letters of audit-index", "Look at them."];
        raise(&mut connection, &key, Severity::Critical, words, at(0)).await.unwrap();
        drop(connection);
        Self { _database: database, worker, slack, hook, mail }
    }

    fn sender(&self) -> AlertSender {
        let config = AlertConfig {
            alert_slack_webhook_url: Some(format!("{}/a", self.slack.url()).parse().unwrap()),
            alert_email_to: vec!["ops@example.org".parse().unwrap()],
            alert_webhook_url: Some(self.hook.url().parse().unwrap()),
            alert_webhook_secret: Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3".parse().unwrap()),
            ..AlertConfig::default()
        };
        let notify = NotifyConfig {
            smtp_host: Some("127.0.0.1".into()),
            smtp_port: self.mail.addr().port(),
            smtp_from: Some("flotilla@example.com".parse().unwrap()),
            smtp_tls: SmtpTls::None,
            ..open()
        };
        assert_eq!(config.check(&notify), None);
        let effects = Arc::new(PostgresEffects::new(&self.worker));
        AlertSender::new(Arc::new(channels(&notify)), effects, config.targets(), "test".into())
    }

    async fn send(&self, seconds: i64) -> u64 {
        let go_on = CancellationToken::new();
        self.sender().send_due(self.worker.pool(), at(seconds), &go_on).await.unwrap()
    }

    fn told(&self) -> [usize; 3] {
        [self.slack.seen().len(), self.mail.mails().len(), self.hook.seen().len()]
    }
}

#[tokio::test]
async fn two_senders_at_once_tell_every_target_once() {
    let stage = Stage::set().await;
    let (one, two) = (stage.sender(), stage.sender());
    let pool = stage.worker.pool();
    let go_on = CancellationToken::new();
    let (one, two) =
        tokio::join!(one.send_due(pool, at(0), &go_on), two.send_due(pool, at(0), &go_on));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    // Whoever met the other at a target comes back to it.
    stage.send(120).await;
    assert_eq!(stage.told(), [1, 1, 1]);
    assert_eq!(stage.send(10_000).await, 0, "nothing is left");
    let seen = stage.slack.seen().remove(0).json();
    assert_eq!(seen["text"], "[critical] 3 dead letters of audit-index");
    let shown = format!("{:?}", stage.sender());
    assert!(shown.contains("127.0.0.1") && !shown.contains("/a"), "its URL is a password: {shown}");
    assert!(!shown.contains("MDEyMzQ1"), "{shown}");
}

#[tokio::test]
async fn a_target_that_is_down_is_tried_again_and_the_others_are_not_told_again() {
    let stage = Stage::set().await;
    stage.slack.next([Answer::status(503), Answer::too_many(40)]);
    stage.mail.say(SmtpStep::Rcpt, SmtpSay::Line("451 4.3.0 later"));
    assert_eq!(stage.send(0).await, 0);
    assert_eq!(stage.told(), [1, 0, 1]);
    stage.mail.agree();
    assert_eq!(stage.send(1).await, 0, "not before its time");
    assert_eq!(stage.told(), [1, 0, 1]);
    assert_eq!(stage.send(60).await, 0);
    assert_eq!(stage.told(), [2, 1, 1]);
    assert_eq!(stage.send(99).await, 0, "the time that Slack named is kept");
    assert_eq!(stage.send(100).await, 1);
    assert_eq!(stage.told(), [3, 1, 1]);
}

#[tokio::test]
async fn a_page_in_doubt_is_not_sent_again_and_stands_in_the_ledger() {
    let stage = Stage::set().await;
    stage.slack.next([Answer::dropped()]);
    stage.mail.say(SmtpStep::Text, SmtpSay::Drop);
    stage.hook.next([Answer::dropped()]);
    assert_eq!(stage.send(0).await, 0);
    assert_eq!(stage.send(60).await, 1, "the webhook took the repeat");
    assert_eq!(stage.told(), [1, 1, 2]);
    let ids = stage.hook.seen();
    assert_eq!(ids[0].header("webhook-id"), ids[1].header("webhook-id"));
    let open: i64 = database::sqlx::query_scalar(
        "SELECT count(*) FROM effects WHERE scope = 'alerts.notify' AND busy_until <= clock_timestamp()",
    )
    .fetch_one(stage.worker.pool())
    .await
    .unwrap();
    assert_eq!(open, 2, "for a person to settle");
}

/// The counters of the thread that a test runs on, by name and labels.
#[derive(Debug, Default)]
struct Counted(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counted {
    /// Those of notices: `sink outcome`, and how many.
    fn notices(&self) -> Vec<(String, u64)> {
        let counted = self.0.lock().unwrap();
        let ours = counted.iter().filter_map(|(name, count)| {
            let labels = name.strip_prefix(ALERT_NOTICES_TOTAL)?;
            Some((labels.trim().to_owned(), count.load(Ordering::Relaxed)))
        });
        ours.collect()
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn a_notice_is_counted_once_per_target_however_often_it_comes_round() {
    let counted = Counted::default();
    let _here = metrics::set_default_local_recorder(&counted);
    let stage = Stage::set().await;
    stage.mail.say(SmtpStep::Text, SmtpSay::Drop);
    stage.hook.next([Answer::status(410)]);
    for round in 0..3 {
        stage.slack.next([Answer::status(503)]);
        assert_eq!(stage.send(round * 600).await, 0, "Slack is down");
    }
    assert_eq!(stage.send(1_800).await, 1);
    assert_eq!(stage.told(), [4, 1, 1]);
    let expected = [
        ("opened email unknown", 1),
        ("opened slack later", 3),
        ("opened slack told", 1),
        ("opened webhook refused", 1),
    ];
    assert_eq!(counted.notices(), expected.map(|(labels, count)| (labels.to_owned(), count)));
}

#[tokio::test]
async fn a_target_that_refuses_is_told_once_of_and_the_others_go_on() {
    let stage = Stage::set().await;
    stage.slack.always(Answer::status(404).body("no_service"));
    assert_eq!(stage.send(0).await, 1);
    assert_eq!(stage.told(), [1, 1, 1]);
}

#[tokio::test]
async fn a_sender_that_died_at_a_target_leaves_a_doubt_and_not_a_second_page() {
    let stage = Stage::set().await;
    let gate = testkit::Gate::closed();
    stage.slack.next([Answer::status(200).body("ok").behind(&gate)]);
    let (sender, pool) = (stage.sender(), stage.worker.pool().clone());
    let dies =
        tokio::spawn(async move { sender.send_due(&pool, at(0), &CancellationToken::new()).await });
    stage.slack.asked(1).await;
    dies.abort();
    assert!(dies.await.unwrap_err().is_cancelled());
    let counted = Counted::default();
    let _here = metrics::set_default_local_recorder(&counted);
    // Its hold ends.
    database::sqlx::query(
        "UPDATE effects SET busy_until = clock_timestamp() WHERE busy_until IS NOT NULL",
    )
    .execute(stage.worker.pool())
    .await
    .unwrap();
    stage.mail.say(SmtpStep::Rcpt, SmtpSay::Line("451 4.3.0 later"));
    assert_eq!(stage.send(120).await, 0);
    stage.mail.agree();
    assert_eq!(stage.send(600).await, 1);
    assert_eq!(stage.told(), [1, 1, 1]);
    let doubts = ("opened slack unknown".to_owned(), 1);
    assert!(counted.notices().contains(&doubts), "{:?}", counted.notices());
}

#[test]
fn what_does_not_fit_together_is_told() {
    let config = AlertConfig {
        alert_email_to: vec!["ops@example.org".parse().unwrap()],
        ..AlertConfig::default()
    };
    let (option, reason, _) = config.check(&NotifyConfig::default()).unwrap();
    assert!(option == "ALERT_EMAIL_TO" && reason.contains("SMTP_HOST"), "{option}: {reason}");
    assert_eq!(config.times().remind_every, Duration::from_secs(14_400));
}
