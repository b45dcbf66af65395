//! Notifications: one port that tells a person or a program of something, by Slack, by mail or by a
//! signed webhook. It makes one attempt, says truthfully what became of it, and follows no redirect to
//! anywhere. It never decides who is told of what, and never tries again: that is the caller's, with the
//! ledger.

pub mod alerts;
mod config;
mod email;
mod error;
mod guard;
mod http;
mod notification;
mod pace;
mod slack;
mod target;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use queue_core::Clock;

use crate::events::{Outcome, told};

pub use config::{InvalidNotifyConfig, NotifyConfig, SmtpTls};
pub use error::NotifyError;
pub use guard::Guard;
pub use notification::{FIELDS_MAX, Notification, Severity};
pub use target::{EmailAddress, InvalidTarget, SigningSecrets, Target, TargetUrl};
pub use webhook::{SIGNATURE_TOLERANCE, verify};

/// The sinks' names in metrics and errors.
pub const SLACK: &str = "slack";
/// As above.
pub const EMAIL: &str = "email";
/// As above.
pub const WEBHOOK: &str = "webhook";

/// That the other side took a notification, with what it said of it: goes into the ledger's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// One line, at most 500 characters; never a secret.
    pub said: String,
}

/// Tells a target of something.
///
/// Guarantees: one attempt per call, ended within the configured time; `Ok` only after the other side
/// said that it took it; an error that is not [`queue_core::Trouble::UnknownOutcome`] means that
/// nobody was told, or, for a webhook, that telling again is harmless: [`Target::promise`] says which.
#[async_trait]
pub trait Notifier: Send + Sync + std::fmt::Debug + 'static {
    /// Delivers `notification` to `target`. Calling it again with the same notification may tell twice;
    /// who must not, asks the ledger first (`queue_core::effects::once`).
    async fn deliver(
        &self,
        notification: &Notification,
        target: &Target,
    ) -> Result<Receipt, NotifyError>;
}

/// [`Notifier`] by Slack's incoming webhooks, SMTP and signed webhooks.
#[derive(Debug)]
pub struct Channels {
    slack: slack::Slack,
    email: email::Email,
    webhook: webhook::Webhook,
}

impl Channels {
    /// Nothing is connected before the first delivery.
    pub fn new(config: &NotifyConfig, clock: Arc<dyn Clock>) -> Result<Self, InvalidNotifyConfig> {
        config.check()?;
        let client = http::Client::new(config.guard(), config.timeout(), clock.clone());
        Ok(Self {
            slack: slack::Slack::new(client.clone()),
            email: email::Email::new(config.smtp()?, config.timeout()),
            webhook: webhook::Webhook::new(client, clock),
        })
    }
}

#[async_trait]
impl Notifier for Channels {
    async fn deliver(
        &self,
        notification: &Notification,
        target: &Target,
    ) -> Result<Receipt, NotifyError> {
        let delivery = async {
            match target {
                Target::Slack(url) => self.slack.deliver(notification, url).await,
                Target::Email(to) => self.email.deliver(notification, to).await,
                Target::Webhook { url, secrets } => {
                    self.webhook.deliver(notification, url, secrets).await
                }
            }
        };
        told(target.sink(), "notify", outcome, delivery).await
    }
}

fn outcome(answer: &Result<Receipt, NotifyError>) -> Outcome {
    answer.as_ref().map_or_else(NotifyError::outcome, |_| Outcome::Ok)
}
