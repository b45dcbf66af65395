//! Mail by a double that speaks SMTP: what goes over the wire, what each reply means, and that only an
//! end after the text is a doubt.

use queue_core::Trouble;
use sinks::notify::{Channels, Notifier, NotifyConfig, NotifyError, SmtpTls, Target};
use testkit::{SmtpDouble, SmtpSay, SmtpStep};

use crate::notify::{channels, notification, open};

fn config(double: &SmtpDouble) -> NotifyConfig {
    NotifyConfig {
        smtp_host: Some("127.0.0.1".into()),
        smtp_port: double.addr().port(),
        smtp_from: Some("Flotilla <flotilla@example.com>".parse().unwrap()),
        smtp_tls: SmtpTls::None,
        ..open()
    }
}

fn to() -> Target {
    Target::Email("ops@example.org".parse().unwrap())
}

async fn refused(channels: &Channels) -> NotifyError {
    channels.deliver(&notification(), &to()).await.unwrap_err()
}

#[tokio::test]
async fn a_mail_is_text_with_an_id_that_repeats_with_the_notification() {
    let double = SmtpDouble::start().await;
    let channels = channels(&config(&double));
    for _ in 0..2 {
        let receipt = channels.deliver(&notification(), &to()).await.unwrap();
        assert!(receipt.said.contains("taken as 4711"), "{receipt:?}");
    }
    let mails = double.taken(2).await;
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_str()),
        ("flotilla@example.com", "ops@example.org")
    );
    assert_eq!(mails[0].text, mails[1].text, "a repeat is the same message");
    insta::assert_snapshot!("email", mails[0].text);
}

#[tokio::test]
async fn a_title_with_line_breaks_adds_no_header() {
    let double = SmtpDouble::start().await;
    let mut evil = notification();
    evil.title = "x\r\nBcc: everybody@example.com\r\n\r\nbody".into();
    evil.kind = "x\r\nBcc: everybody@example.com".into();
    evil.text = "first\n.\nMAIL FROM:<x@example.com>\n.hidden".into();
    channels(&config(&double)).deliver(&evil, &to()).await.unwrap();
    let mails = double.taken(1).await;
    let (head, body) = mails[0].text.split_once("\n\n").unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert_eq!(double.mails().len(), 1);
    assert!(body.contains("MAIL FROM") && body.contains(".hidden"), "{body}");
}

#[tokio::test]
async fn every_reply_has_its_trouble() {
    use SmtpStep::{Data, Ehlo, Greeting, Mail, Rcpt, Text};
    use Trouble::{Invalid, Throttled, Unavailable};
    let double = SmtpDouble::start().await;
    let channels = channels(&config(&double));
    let cases = [
        (Greeting, "554 5.3.2 no service", Unavailable, "notify-unavailable"),
        (Greeting, "421 4.3.2 too many connections", Throttled, "notify-unavailable"),
        (Ehlo, "502 5.5.1 no", Unavailable, "notify-unavailable"),
        (Mail, "451 4.3.0 later", Throttled, "notify-unavailable"),
        (Mail, "530 5.7.0 authentication required", Unavailable, "notify-unavailable"),
        (Mail, "550 5.7.1 not from you", Invalid, "notify-refused"),
        (Rcpt, "450 4.2.1 greylisted", Throttled, "notify-unavailable"),
        (Rcpt, "550 5.1.1 no such user", Invalid, "notify-target-gone"),
        (
            Data,
            "454 4.7.0 Throttling failure: Maximum sending rate exceeded.",
            Throttled,
            "notify-unavailable",
        ),
        (Data, "503 5.5.1 no", Invalid, "notify-refused"),
        (
            Text,
            "454 4.7.0 Throttling failure: Daily message quota exceeded.",
            Throttled,
            "notify-unavailable",
        ),
        (Text, "432 4.3.0 later", Unavailable, "notify-unavailable"),
        (Text, "554 5.7.1 Message rejected", Invalid, "notify-refused"),
    ];
    for (step, reply, trouble, code) in cases {
        double.agree();
        double.say(step, SmtpSay::Line(reply));
        let error = refused(&channels).await;
        assert_eq!(
            (error.trouble, error.code().code),
            (trouble, code),
            "{step:?} {reply}: {error}"
        );
        let words: String = reply.chars().skip(10).collect();
        assert!(error.to_string().contains(&words), "its words are told: {error}");
    }
}

#[tokio::test]
async fn an_end_is_a_doubt_only_after_the_text() {
    use SmtpStep::{Data, Ehlo, Greeting, Mail, Rcpt, Text};
    let double = SmtpDouble::start().await;
    let channels = channels(&config(&double));
    for step in [Greeting, Ehlo, Mail, Rcpt, Data] {
        for (say, trouble) in
            [(SmtpSay::Drop, Trouble::Unavailable), (SmtpSay::Silence, Trouble::Timeout)]
        {
            double.agree();
            double.say(step, say);
            let error = refused(&channels).await;
            assert_eq!(error.trouble, trouble, "{step:?}: {error}");
        }
    }
    assert_eq!(double.mails().len(), 0, "none of these was sent");
    double.agree();
    for (at, say) in [SmtpSay::Drop, SmtpSay::Silence].into_iter().enumerate() {
        double.say(Text, say);
        let error = refused(&channels).await;
        assert_eq!(error.trouble, Trouble::UnknownOutcome, "{error}");
        assert_eq!(double.taken(at + 1).await.len(), at + 1, "and it was indeed taken");
    }
}

fn secured(double: &SmtpDouble, tls: SmtpTls) -> NotifyConfig {
    NotifyConfig {
        smtp_tls: tls,
        smtp_username: Some("user".into()),
        smtp_password: Some("hunter2".into()),
        ..config(double)
    }
}

/// What the double heard, as lines, without a goodbye.
async fn heard(double: &SmtpDouble, conversations: usize) -> Vec<String> {
    let heard = double.heard(conversations).await;
    let lines = String::from_utf8_lossy(&heard).into_owned();
    lines.lines().filter(|line| *line != "QUIT").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_server_that_offers_no_tls_hears_neither_the_login_nor_a_word_of_the_mail() {
    let double = SmtpDouble::start().await;
    let channels = channels(&secured(&double, SmtpTls::Starttls));
    // It offers to take the login, to tempt; and it may name TLS, and then refuse it.
    let refusals = [
        (
            SmtpStep::Ehlo,
            "250-double.example\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
            &[] as &[&str],
        ),
        (SmtpStep::StartTls, "454 4.7.0 not now", &["STARTTLS"]),
        (SmtpStep::StartTls, "502 5.5.1 not known here", &["STARTTLS"]),
    ];
    let mut expected: Vec<String> = Vec::new();
    for (at, (step, line, asked)) in refusals.into_iter().enumerate() {
        double.agree();
        double.say(SmtpStep::Ehlo, SmtpSay::Line(OFFERED));
        double.say(step, SmtpSay::Line(line));
        let error = refused(&channels).await;
        assert!(
            matches!(error.trouble, Trouble::Unavailable | Trouble::Throttled),
            "{line}: {error}"
        );
        expected.push("EHLO example.com".into());
        expected.extend(asked.iter().map(|line| (*line).to_owned()));
        assert_eq!(heard(&double, at + 1).await, expected, "{line}");
    }
    assert_eq!(double.mails().len(), 0);
}

/// The answer to `EHLO` of a server that offers both.
const OFFERED: &str = "250-double.example\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN";

#[tokio::test]
async fn a_server_that_offers_tls_hears_nothing_else_before_it() {
    let double = SmtpDouble::start().await;
    double.say(SmtpStep::Ehlo, SmtpSay::Line(OFFERED));
    let error = refused(&channels(&secured(&double, SmtpTls::Starttls))).await;
    assert!(matches!(error.trouble, Trouble::Unavailable | Trouble::Timeout), "{error}");
    let heard = double.heard(1).await;
    let begin = b"EHLO example.com\r\nSTARTTLS\r\n";
    let hello = heard.strip_prefix(begin).expect("these two first");
    assert_is_tls(hello);
    // From the first byte on, where that is asked for.
    let double = SmtpDouble::start().await;
    double.say(SmtpStep::Greeting, SmtpSay::Silence);
    let error = refused(&channels(&secured(&double, SmtpTls::Implicit))).await;
    assert!(matches!(error.trouble, Trouble::Unavailable | Trouble::Timeout), "{error}");
    assert_is_tls(&double.heard(1).await);
    assert_eq!(double.mails().len(), 0);
}

/// A TLS record of a handshake, and in it nothing of ours.
fn assert_is_tls(bytes: &[u8]) {
    assert_eq!(bytes.get(..2), Some(&[22, 3][..]), "{bytes:?}");
    let text = String::from_utf8_lossy(bytes);
    // As it is, and as AUTH PLAIN and AUTH LOGIN would write it.
    for secret in
        ["hunter2", "AHVzZXIAaHVudGVyMg==", "aHVudGVyMg==", "AUTH", "MAIL", "dead letters"]
    {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn without_tls_all_of_it_would_be_heard_so_a_login_needs_it() {
    let double = SmtpDouble::start().await;
    let clear = config(&double);
    channels(&clear).deliver(&notification(), &to()).await.unwrap();
    let lines = heard(&double, 1).await.join("\n");
    assert!(lines.contains("MAIL FROM:<flotilla@example.com>"), "{lines}");
    assert!(lines.contains("3 dead letters in <audit-index>"), "{lines}");
    let login = secured(&double, SmtpTls::None);
    assert!(!format!("{login:?}").contains("hunter2"));
    assert_eq!(login.check().unwrap_err().option, "SMTP_TLS");
    assert!(Channels::new(&login, std::sync::Arc::new(crate::notify::Fixed)).is_err());
}

#[tokio::test]
async fn without_a_mail_server_it_says_so() {
    let error = refused(&channels(&open())).await;
    assert!(error.to_string().contains("SMTP_HOST"), "{error}");
}
