//! Mail by SMTP: one connection, one mailbox, one message. What fails before the message's text is sent
//! certainly did not go out; what fails after it is a doubt, since a server that took it may die before
//! it says so. The Message-ID comes from the notification's id, so that a repeat is recognisable.

use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, TlsParameters, TlsVersion,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use queue_core::Trouble;

use super::config::{Smtp, SmtpTls};
use super::error::quoted;
use super::{EMAIL, EmailAddress, Notification, NotifyError, Receipt};

/// How long a goodbye may take; the message is delivered by then.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// A server that asks for fewer messages names no time.
const COOLDOWN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Email {
    smtp: Option<Smtp>,
    timeout: Duration,
}

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connecting, TLS, greeting, logging in.
    Hello,
    /// Who sends.
    Sender,
    /// To whom.
    Recipient,
    /// The message's text is on its way, or there.
    Text,
}

impl Email {
    pub(super) fn new(smtp: Option<Smtp>, timeout: Duration) -> Self {
        Self { smtp, timeout }
    }

    pub(super) async fn deliver(
        &self,
        notification: &Notification,
        to: &EmailAddress,
    ) -> Result<Receipt, NotifyError> {
        let Some(smtp) = &self.smtp else {
            let text = "SMTP_HOST is not set, so no mail can be sent";
            return Err(NotifyError::new(EMAIL, Trouble::Unavailable, text));
        };
        let message = render(notification, &smtp.from, to)
            .map_err(|why| NotifyError::new(EMAIL, Trouble::Invalid, why))?;
        let mut stage = Stage::Hello;
        let talk = talk(smtp, to, &message, self.timeout, &mut stage);
        match tokio::time::timeout(self.timeout, talk).await {
            Ok(Ok(response)) => {
                let said: Vec<&str> = response.message().collect();
                Ok(Receipt { said: quoted(&format!("{} {}", response.code(), said.join(" "))) })
            }
            Ok(Err(error)) => Err(failed(&error, stage)),
            Err(_elapsed) => {
                let text = format!("{}: no answer within {:?}", smtp.host, self.timeout);
                Err(cut_off(&text, stage, Trouble::Timeout))
            }
        }
    }
}

async fn talk(
    smtp: &Smtp,
    to: &EmailAddress,
    message: &[u8],
    timeout: Duration,
    stage: &mut Stage,
) -> Result<Response, lettre::transport::smtp::Error> {
    let hello = ClientId::Domain(smtp.from.email.domain().to_owned());
    let at = (smtp.host.as_str(), smtp.port);
    let implicit = match smtp.tls {
        SmtpTls::Implicit => Some(tls(smtp)?),
        SmtpTls::Starttls | SmtpTls::None => None,
    };
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(at, Some(timeout), &hello, implicit, None).await?;
    if smtp.tls == SmtpTls::Starttls {
        // An error where the server does not offer it: never on in the clear.
        connection.starttls(tls(smtp)?, &hello).await?;
    }
    if let Some((user, password)) = &smtp.login {
        let login = Credentials::new(user.clone(), password.clone());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &login).await?;
    }
    *stage = Stage::Sender;
    connection.command(Mail::new(Some(smtp.from.email.clone()), vec![])).await?;
    *stage = Stage::Recipient;
    connection.command(Rcpt::new(to.address().clone(), vec![])).await?;
    // Asks for the text; without a yes none is sent.
    connection.command(Data).await?;
    *stage = Stage::Text;
    let response = connection.message(message).await?;
    // It is taken: what becomes of the goodbye matters to nobody.
    tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await.ok();
    Ok(response)
}

fn tls(smtp: &Smtp) -> Result<TlsParameters, lettre::transport::smtp::Error> {
    let mut tls = TlsParameters::builder(smtp.host.clone()).set_min_tls_version(TlsVersion::Tlsv12);
    if let Some(pem) = &smtp.ca {
        tls = tls.add_root_certificate(Certificate::from_pem(pem)?);
    }
    tls.build_rustls()
}

/// Reads an error by what the server said and by how far the conversation had come.
fn failed(error: &lettre::transport::smtp::Error, stage: Stage) -> NotifyError {
    let text = quoted(&chain(error));
    let Some(code) = error.status() else { return cut_off(&text, stage, Trouble::Unavailable) };
    match u16::from(code) {
        // SES says 454 to throttling; 421, 450 to 452 are the others' words for it.
        421 | 450..=452 | 454 => {
            NotifyError::new(EMAIL, Trouble::Throttled, text).retry_after(Some(COOLDOWN))
        }
        ..=499 => NotifyError::new(EMAIL, Trouble::Unavailable, text),
        // Our login, or our connection: no message's fault, and somebody will mend it.
        _ if stage == Stage::Hello => NotifyError::new(EMAIL, Trouble::Unavailable, text),
        530 | 534 | 535 | 538 => NotifyError::new(EMAIL, Trouble::Unavailable, text),
        550 | 551 | 553 | 556 if stage == Stage::Recipient => NotifyError::gone(EMAIL, text),
        _ => NotifyError::new(EMAIL, Trouble::Invalid, text),
    }
}

/// The connection ended without the server's word.
fn cut_off(text: &str, stage: Stage, before: Trouble) -> NotifyError {
    if stage == Stage::Text {
        let text = format!(
            "{text}, after the message was sent; it may have been taken: ask the \
             mail server's log for its Message-ID"
        );
        return NotifyError::new(EMAIL, Trouble::UnknownOutcome, text);
    }
    NotifyError::new(EMAIL, before, text)
}

fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The message as it goes over the wire. ASCII: text that is not is encoded.
pub(super) fn render(
    notification: &Notification,
    from: &Mailbox,
    to: &EmailAddress,
) -> Result<Vec<u8>, String> {
    let id = format!("<{}@{}>", notification.id, from.email.domain());
    let header = |name: &'static str, value: String| {
        HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
    };
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to.address().clone()))
        .subject(notification.headline())
        .date(notification.at.into())
        .message_id(Some(id))
        // SES puts an id of its own in the place of ours.
        .raw_header(header("X-Flotilla-Notification", notification.id.to_string()))
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
        .header(lettre::message::header::ContentType::TEXT_PLAIN)
        .body(body(notification))
        .map_err(|error| error.to_string())?;
    Ok(message.formatted())
}

fn body(notification: &Notification) -> String {
    let mut parts = Vec::new();
    let text = notification.shown_text();
    if !text.is_empty() {
        parts.push(text);
    }
    let (fields, more) = notification.shown_fields();
    let mut lines: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    if more > 0 {
        lines.push(format!("({more} more fields)"));
    }
    if !lines.is_empty() {
        parts.push(lines.join("\n"));
    }
    parts.extend(notification.shown_link().map(str::to_owned));
    parts.push(format!(
        "-- \n{} · {} · {}\nid {} · correlation {}",
        notification.tenant,
        Notification::shown_word(&notification.kind),
        notification.at.format("%Y-%m-%d %H:%M:%S UTC"),
        notification.id,
        Notification::shown_word(&notification.correlation_id),
    ));
    parts.join("\n\n") + "\n"
}
