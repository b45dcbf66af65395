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

#[tokio::test]
async fn nothing_goes_in_the_clear_where_tls_is_asked_for() {
    let double = SmtpDouble::start().await;
    double.say(SmtpStep::Auth, SmtpSay::Drop);
    for tls in [SmtpTls::Starttls, SmtpTls::Implicit] {
        let config = NotifyConfig {
            smtp_tls: tls,
            smtp_username: Some("user".into()),
            smtp_password: Some("hunter2".into()),
            ..config(&double)
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = refused(&channels(&config)).await;
        assert!(
            matches!(error.trouble, Trouble::Unavailable | Trouble::Timeout),
            "{tls:?}: {error}"
        );
    }
    assert_eq!(double.mails().len(), 0);
    let clear = NotifyConfig { smtp_username: Some("user".into()), ..config(&double) };
    assert_eq!(clear.check().unwrap_err().option, "SMTP_TLS");
}

#[tokio::test]
async fn without_a_mail_server_it_says_so() {
    let error = refused(&channels(&open())).await;
    assert!(error.to_string().contains("SMTP_HOST"), "{error}");
}
