//! How notifications go out: flags and environment. Nothing is connected at start; whom to tell is the
//! options of who tells.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;

use super::Guard;

/// Bytes of a file of root certificates.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// How a connection to the mail server is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SmtpTls {
    /// In the clear first, then TLS or nothing; port 587.
    #[default]
    Starttls,
    /// TLS from the first byte; port 465.
    Implicit,
    /// No TLS and no login; a relay on the same machine.
    None,
}

/// Slack, mail and webhooks.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Notifications")]
pub struct NotifyConfig {
    /// Mail server; without one, no mail is sent
    ///
    /// Of Amazon SES its SMTP endpoint
    ///
    /// Example: email-smtp.eu-central-1.amazonaws.com
    #[arg(long, env = "SMTP_HOST", requires = "smtp_from")]
    pub smtp_host: Option<String>,
    /// Port of the mail server: 587 for `starttls`, 465 for `implicit`
    #[arg(long, env = "SMTP_PORT", default_value_t = 587,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub smtp_port: u16,
    /// User name at the mail server; SES has SMTP credentials of its own
    ///
    /// Example: AKIAIOSFODNN7EXAMPLE
    #[arg(long, env = "SMTP_USERNAME", requires = "smtp_password")]
    pub smtp_username: Option<String>,
    /// Password at the mail server
    ///
    /// Example: correct-horse-battery
    #[arg(long, env = "SMTP_PASSWORD", hide_env_values = true, requires = "smtp_username")]
    pub smtp_password: Option<String>,
    /// Sender of mail
    ///
    /// Example: `Flotilla <flotilla@example.com>`
    #[arg(long, env = "SMTP_FROM", value_parser = mailbox)]
    pub smtp_from: Option<Mailbox>,
    /// How the connection is secured
    #[arg(long, env = "SMTP_TLS", value_enum, default_value = "starttls")]
    pub smtp_tls: SmtpTls,
    /// File of root certificates (PEM) for the mail server, besides the system's
    ///
    /// Example: /etc/flotilla/mail-ca.pem
    #[arg(long, env = "SMTP_CA_FILE")]
    pub smtp_ca_file: Option<PathBuf>,
    /// Let Slack and webhook URLs lead to loopback and private addresses
    ///
    /// Link-local addresses, where clouds keep credentials, are refused all the same
    #[arg(long, env = "WEBHOOK_ALLOW_PRIVATE")]
    pub webhook_allow_private: bool,
    /// Let Slack and webhook URLs be http, without TLS
    #[arg(long, env = "WEBHOOK_ALLOW_HTTP")]
    pub webhook_allow_http: bool,
    /// Seconds after which a delivery is given up, 1 to 60
    #[arg(long, env = "NOTIFY_TIMEOUT_SECS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    pub notify_timeout_secs: u64,
}

impl std::fmt::Debug for NotifyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password is left out.
        f.debug_struct("NotifyConfig")
            .field("smtp_host", &self.smtp_host)
            .field("smtp_port", &self.smtp_port)
            .field("smtp_username", &self.smtp_username)
            .field("smtp_from", &self.smtp_from.as_ref().map(ToString::to_string))
            .field("smtp_tls", &self.smtp_tls)
            .field("guard", &self.guard())
            .finish_non_exhaustive()
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            smtp_host: None,
            smtp_port: 587,
            smtp_username: None,
            smtp_password: None,
            smtp_from: None,
            smtp_tls: SmtpTls::Starttls,
            smtp_ca_file: None,
            webhook_allow_private: false,
            webhook_allow_http: false,
            notify_timeout_secs: 15,
        }
    }
}

/// Options that do not fit together or do not work here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct InvalidNotifyConfig {
    /// The variable to mend.
    pub option: &'static str,
    /// What is wrong.
    pub reason: String,
    /// A valid value.
    pub example: &'static str,
}

/// The mail server, where one is set.
#[derive(Clone)]
pub(super) struct Smtp {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: SmtpTls,
    pub(super) from: Mailbox,
    pub(super) login: Option<(String, String)>,
    pub(super) ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).finish_non_exhaustive()
    }
}

impl NotifyConfig {
    /// What one option alone cannot show. No IO.
    pub fn check(&self) -> Result<(), InvalidNotifyConfig> {
        if self.smtp_tls == SmtpTls::None && self.smtp_username.is_some() {
            return Err(InvalidNotifyConfig {
                option: "SMTP_TLS",
                reason: "none, but SMTP_USERNAME is set: a password is never sent in the clear"
                    .to_owned(),
                example: "SMTP_TLS=starttls",
            });
        }
        Ok(())
    }

    /// Whether mail can be sent.
    pub fn has_mail(&self) -> bool {
        self.smtp_host.is_some()
    }

    pub(super) fn guard(&self) -> Guard {
        Guard { allow_private: self.webhook_allow_private, allow_http: self.webhook_allow_http }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.notify_timeout_secs)
    }

    /// Reads the root certificates, where a file of them is named.
    pub(super) fn smtp(&self) -> Result<Option<Smtp>, InvalidNotifyConfig> {
        let Some((host, from)) = self.smtp_host.clone().zip(self.smtp_from.clone()) else {
            return Ok(None);
        };
        let ca = self.smtp_ca_file.as_ref().map(|path| read_ca(path)).transpose()?;
        Ok(Some(Smtp {
            host,
            port: self.smtp_port,
            tls: self.smtp_tls,
            from,
            login: self.smtp_username.clone().zip(self.smtp_password.clone()),
            ca,
        }))
    }
}

fn read_ca(path: &std::path::Path) -> Result<Vec<u8>, InvalidNotifyConfig> {
    use std::io::Read as _;
    let invalid = |reason: String| InvalidNotifyConfig {
        option: "SMTP_CA_FILE",
        reason: format!("{}: {reason}", path.display()),
        example: "SMTP_CA_FILE=/etc/flotilla/mail-ca.pem",
    };
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| invalid(error.to_string()))?;
    file.take(CA_BYTES_MAX + 1)
        .read_to_end(&mut pem)
        .map_err(|error| invalid(error.to_string()))?;
    if pem.len() as u64 > CA_BYTES_MAX {
        return Err(invalid(format!("is longer than {CA_BYTES_MAX} bytes")));
    }
    match lettre::transport::smtp::client::Certificate::from_pem(&pem) {
        Ok(_) => Ok(pem),
        Err(error) => Err(invalid(format!("holds no certificate in PEM: {error}"))),
    }
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    match text.parse::<Mailbox>() {
        Ok(mailbox) if mailbox.email.to_string().is_ascii() => Ok(mailbox),
        _ => Err("not a mailbox: user@host or Name <user@host> is expected".into()),
    }
}
