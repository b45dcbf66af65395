//! Slack and webhooks by doubles that answer in each one's dialect: what is sent, what each answer
//! means, that nothing is sent twice or to where it must not go.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue_core::{Clock, Failure, Trouble};
use sinks::notify::alerts::AlertConfig;
use sinks::notify::{
    Channels, Notification, Notifier, NotifyConfig, NotifyError, Severity, Target,
};
use testkit::{Answer, HttpDouble};

/// An old and a new key of a rotation.
const SECRETS: &str =
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3,whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4";
const NOW: &str = "2025-01-01T00:05:00Z";

/// Always the same moment.
pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        NOW.parse().unwrap()
    }
}

pub(crate) fn notification() -> Notification {
    Notification {
        id: "01941f29-7c01-7000-8000-000000000001".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        kind: "alert.opened".into(),
        severity: Severity::Critical,
        title: "3 dead letters in <audit-index>".into(),
        text: "Zoë & Co: first since 09:14.\nRun `fleetctl dlq list` <!channel>.".into(),
        fields: vec![("queue".into(), "audit-index".into()), ("depth".into(), "3".into())],
        link: Some("https://console.example.com/dlq?queue=audit-index&n=3".into()),
        correlation_id: "req-1".into(),
        at: "2025-01-01T00:00:00.123456Z".parse().unwrap(),
    }
}

pub(crate) fn channels(config: &NotifyConfig) -> Channels {
    Channels::new(config, Arc::new(Fixed)).unwrap()
}

/// Doubles are on the loopback interface, without TLS.
pub(crate) fn open() -> NotifyConfig {
    NotifyConfig {
        webhook_allow_private: true,
        webhook_allow_http: true,
        notify_timeout_secs: 1,
        ..NotifyConfig::default()
    }
}

fn slack(double: &HttpDouble, path: usize) -> Target {
    Target::Slack(format!("{}/services/T0/B0/{path}", double.url()).parse().unwrap())
}

fn webhook(url: &str) -> Target {
    Target::Webhook { url: url.parse().unwrap(), secrets: SECRETS.parse().unwrap() }
}

async fn refused(channels: &Channels, target: &Target) -> NotifyError {
    channels.deliver(&notification(), target).await.unwrap_err()
}

#[tokio::test]
async fn slack_is_sent_blocks_and_a_fallback() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(200).body("ok"));
    let target = slack(&double, 1);
    let receipt = channels(&open()).deliver(&notification(), &target).await.unwrap();
    assert_eq!(receipt.said, "ok");
    let seen = double.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/services/T0/B0/1"));
    assert_eq!(seen.header("content-type"), "application/json");
    insta::assert_snapshot!("slack", serde_json::to_string_pretty(&seen.json()).unwrap());
}

#[tokio::test]
async fn every_answer_of_slack_has_its_trouble_and_is_asked_for_once() {
    use Trouble::{Invalid, Throttled, Unavailable, UnknownOutcome};
    let double = HttpDouble::start().await;
    let channels = channels(&open());
    let said = |status, text: &'static str| Answer::status(status).body(text);
    let cases = [
        (said(400, "invalid_payload"), Invalid, "notify-refused"),
        (said(403, "action_prohibited"), Invalid, "notify-refused"),
        (said(403, "invalid_token"), Invalid, "notify-target-gone"),
        (said(404, "no_service"), Invalid, "notify-target-gone"),
        (said(404, "channel_not_found"), Invalid, "notify-target-gone"),
        (said(410, "channel_is_archived"), Invalid, "notify-target-gone"),
        (said(302, ""), Invalid, "notify-refused"),
        (Answer::too_many(30), Throttled, "notify-unavailable"),
        (said(500, "rollup_error"), Unavailable, "notify-unavailable"),
        (said(503, ""), Unavailable, "notify-unavailable"),
        (said(502, "<html>"), UnknownOutcome, "effect-unknown"),
        (said(504, "<html>"), UnknownOutcome, "effect-unknown"),
        (said(200, "<html>a proxy</html>"), UnknownOutcome, "effect-unknown"),
        (said(200, "ok and more").truncated_at(2), UnknownOutcome, "effect-unknown"),
        (Answer::dropped(), UnknownOutcome, "effect-unknown"),
        (said(200, "ok").after(Duration::from_secs(30)), UnknownOutcome, "effect-unknown"),
    ];
    for (at, (answer, trouble, code)) in cases.into_iter().enumerate() {
        double.next([answer]);
        let error = refused(&channels, &slack(&double, at)).await;
        assert_eq!((error.trouble, error.code().code), (trouble, code), "{at}: {error}");
        assert!(!error.to_string().contains("services"), "the URL is a password: {error}");
        assert_eq!(double.seen().len(), at + 1, "asked once: {at}");
    }
}

#[tokio::test]
async fn a_429_of_slack_closes_its_webhook_and_no_other() {
    let double = HttpDouble::start().await;
    double.next([Answer::too_many(30)]);
    double.always(Answer::status(200).body("ok"));
    let channels = channels(&open());
    let Failure::RetryAfter(_, delay) = Failure::from(refused(&channels, &slack(&double, 1)).await)
    else {
        panic!("not throttled")
    };
    assert_eq!(delay, Duration::from_secs(30));
    let error = refused(&channels, &slack(&double, 1)).await;
    assert!(error.retry_after.unwrap() > Duration::from_secs(20), "{error}");
    assert_eq!(double.seen().len(), 1, "nothing was sent meanwhile");
    channels.deliver(&notification(), &slack(&double, 2)).await.unwrap();
}

#[tokio::test]
async fn a_webhook_is_signed_and_a_repeat_has_its_id() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(204));
    let (channels, target) = (channels(&open()), webhook(&format!("{}/hook", double.url())));
    for _ in 0..2 {
        channels.deliver(&notification(), &target).await.unwrap();
    }
    let seen = double.seen();
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    let seen = &seen[0];
    let signed =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| seen.header(name));
    for secret in SECRETS.split(',') {
        let secret = secret.parse().unwrap();
        assert!(sinks::notify::verify(&secret, signed, &seen.text(), Fixed.now()), "{secret:?}");
    }
    let shown = serde_json::to_string_pretty(&seen.json()).unwrap();
    let [id, at, signature] = signed;
    insta::assert_snapshot!(
        "webhook",
        format!(
            "webhook-id: {id}\nwebhook-timestamp: {at}\nwebhook-signature: {signature}\n\n{shown}"
        )
    );
}

#[tokio::test]
async fn every_answer_to_a_webhook_has_its_trouble_and_is_asked_for_once() {
    use Trouble::{Conflict, Invalid, Throttled, Timeout, Unavailable};
    let double = HttpDouble::start().await;
    let (channels, target) = (channels(&open()), webhook(&format!("{}/hook", double.url())));
    let cases = [
        (Answer::status(400), Invalid, "notify-refused"),
        (Answer::status(401), Unavailable, "notify-unavailable"),
        (Answer::status(404), Unavailable, "notify-unavailable"),
        (Answer::status(409), Conflict, "notify-unavailable"),
        (Answer::status(410), Invalid, "notify-target-gone"),
        (Answer::too_many(7), Throttled, "notify-unavailable"),
        (Answer::status(429), Throttled, "notify-unavailable"),
        (Answer::status(500), Unavailable, "notify-unavailable"),
        (Answer::status(504), Timeout, "notify-unavailable"),
        (Answer::dropped(), Timeout, "notify-unavailable"),
        (Answer::status(200).after(Duration::from_secs(30)), Timeout, "notify-unavailable"),
    ];
    for (at, (answer, trouble, code)) in cases.into_iter().enumerate() {
        double.next([answer]);
        let error = refused(&channels, &target).await;
        assert_eq!((error.trouble, error.code().code), (trouble, code), "{at}: {error}");
        assert_eq!(double.seen().len(), at + 1, "asked once: {at}");
        assert_eq!(error.retry_after.is_some(), trouble == Throttled, "{error}");
    }
    // The status is the receiver's word; what becomes of the rest of its answer does not matter.
    let long = Answer::status(200).body("x".repeat(1_000_000));
    double.next([long.clone(), long.truncated_at(10)]);
    for _ in 0..2 {
        let receipt = channels.deliver(&notification(), &target).await.unwrap();
        assert!(receipt.said.len() < 500, "{}", receipt.said.len());
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (double, elsewhere) = (HttpDouble::start().await, HttpDouble::start().await);
    for status in [301, 302, 307, 308] {
        double.next([Answer::status(status).header("location", &elsewhere.url())]);
        let error = refused(&channels(&open()), &webhook(&double.url())).await;
        assert!(error.to_string().contains("redirect"), "{error}");
    }
    assert_eq!((double.seen().len(), elsewhere.seen().len()), (4, 0));
}

#[tokio::test]
async fn no_address_of_our_own_network_is_called() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(200).body("ok"));
    let port = double.addr().port();
    let guarded = |allow_private| NotifyConfig { webhook_allow_private: allow_private, ..open() };
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/latest/meta-data");
        for target in [webhook(&url), Target::Slack(url.parse().unwrap())] {
            let error = refused(&channels(&guarded(false)), &target).await;
            assert_eq!(error.code().code, "notify-refused", "{error}");
            assert!(error.to_string().contains("WEBHOOK_ALLOW_PRIVATE"), "{error}");
        }
    }
    let metadata = webhook(&format!("http://169.254.169.254:{port}/latest/meta-data"));
    let error = refused(&channels(&guarded(true)), &metadata).await;
    assert!(error.to_string().contains("link-local"), "{error}");
    let plain = NotifyConfig { webhook_allow_http: false, ..open() };
    let error = refused(&channels(&plain), &webhook(&double.url())).await;
    assert!(error.to_string().contains("WEBHOOK_ALLOW_HTTP"), "{error}");
    assert_eq!(double.seen().len(), 0);
    // And the same name is called where that is allowed.
    let allowed = webhook(&format!("http://localhost:{port}/"));
    channels(&guarded(true)).deliver(&notification(), &allowed).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_an_outage_and_no_doubt() {
    let nobody = format!("http://127.0.0.1:{}/x", testkit::free_port());
    for target in [webhook(&nobody), Target::Slack(nobody.parse().unwrap())] {
        let error = refused(&channels(&open()), &target).await;
        assert_eq!(error.trouble, Trouble::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn nothing_that_is_shown_for_a_programmer_holds_a_secret() {
    let double = HttpDouble::start().await;
    double.always(Answer::status(200).body("ok"));
    let url = |path: &str| format!("{}/services/{path}", double.url()).parse().unwrap();
    let notify = NotifyConfig {
        smtp_host: Some("127.0.0.1".into()),
        smtp_from: Some("flotilla@example.com".parse().unwrap()),
        smtp_username: Some("user".into()),
        smtp_password: Some("hunter2".into()),
        ..open()
    };
    let alerts = AlertConfig {
        alert_slack_webhook_url: Some(url("T0/B0/slacksecret")),
        alert_webhook_url: Some(url("hooksecret")),
        alert_webhook_secret: Some(SECRETS.parse().unwrap()),
        ..AlertConfig::default()
    };
    let channels = channels(&notify);
    let mut shown = vec![format!("{notify:?}"), format!("{alerts:?}"), format!("{alerts:#?}")];
    for target in alerts.targets() {
        // Each is remembered from its first delivery on.
        let receipt = channels.deliver(&notification(), &target).await.unwrap();
        shown.extend([format!("{target:?}"), format!("{receipt:?}"), target.fingerprint()]);
    }
    double.next([Answer::status(404).body("no_service")]);
    shown.push(format!("{:?}", refused(&channels, &Target::Slack(url("T0/B1/slacksecret"))).await));
    shown.push(format!("{channels:?}"));
    for shown in shown {
        for secret in ["slacksecret", "hooksecret", "hunter2", "MDEyMzQ", "ZmVkY2", "48, 49, 50"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
