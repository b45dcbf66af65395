//! Alerts told: what the database says is due goes to every configured target, each once by the ledger.
//! Raising and resolving are the database's ([`raise`], [`resolve`]), in the transaction of who finds the
//! trouble. A page that may have gone out is not sent again: the doubt stands in the ledger and in the
//! log, and the alert's reminder is its repeat.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use contracts::Tenant;
use database::alerts::{self, Notice};
pub use database::alerts::{AlertKey, AlertTimes, Raised, Severity, raise, resolve, sweep};
use database::sqlx::{self, PgPool};
use metrics::counter;
use queue_core::Trouble;
use queue_core::effects::{Begun, EffectKey, Effects, Entry, Outcome, Promise};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    EmailAddress, Notification, Notifier, NotifyConfig, SigningSecrets, Target, TargetUrl,
};

/// Notices told of, by `kind` (`opened`, `reminder`, `resolved`), `sink` and `outcome`. `told`, `refused` and
/// `unknown` count a notice once per target, however often the notice comes round for another target's
/// sake; `later` counts each try that came to nothing.
pub const ALERT_NOTICES_TOTAL: &str = "flotilla_alert_notices_total";

/// An entry's epoch when it is taken over for the first time: the first to meet a doubt counts it.
const FIRST_TAKEN_OVER: i64 = 2;
/// In the ledger.
const SCOPE: &str = "alerts.notify";
/// Longer than a delivery may take, its turn at Slack and its goodbye to a mail server included.
const HOLD: Duration = Duration::from_secs(90);
/// Notices of one round; the next one goes on.
const NOTICES_MAX: i64 = 50;
/// Mail targets at most.
const MAILBOXES_MAX: usize = 20;
/// Tries before a notice is given up: over seven hours.
const TRIES_MAX: i32 = 100;
/// A round takes no further notice after this: who sends has other duties.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// The first pause between tries, doubled up to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// Whom to tell of alerts.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Alerts")]
pub struct AlertConfig {
    /// Slack incoming webhook that alerts go to; its URL is a password
    ///
    /// Example: `https://hooks.slack.com/services/T0/B0/XXXX`
    #[arg(long, env = "ALERT_SLACK_WEBHOOK_URL", hide_env_values = true)]
    pub alert_slack_webhook_url: Option<TargetUrl>,
    /// Mailboxes that alerts go to, separated by commas, 20 at most; needs `SMTP_HOST`
    ///
    /// Example: ops@example.com,oncall@example.com
    #[arg(long, env = "ALERT_EMAIL_TO", value_delimiter = ',')]
    pub alert_email_to: Vec<EmailAddress>,
    /// Webhook that alerts go to, signed in the Standard Webhooks shape
    ///
    /// Example: `https://alerts.example.com/flotilla`
    #[arg(long, env = "ALERT_WEBHOOK_URL", requires = "alert_webhook_secret")]
    pub alert_webhook_url: Option<TargetUrl>,
    /// Secret that signs them; during a rotation the new and the old one, separated by a comma
    ///
    /// Example: `whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3`
    #[arg(
        long,
        env = "ALERT_WEBHOOK_SECRET",
        hide_env_values = true,
        requires = "alert_webhook_url"
    )]
    pub alert_webhook_secret: Option<SigningSecrets>,
    /// Seconds after which an alert that is still open is told again, 60 to 604800
    #[arg(long, env = "ALERT_REMIND_SECS", default_value_t = 14_400,
          value_parser = clap::value_parser!(u64).range(60..=604_800))]
    pub alert_remind_secs: u64,
    /// Seconds that trouble must stay away before its alert is over, 0 to 86400
    ///
    /// What comes back sooner is the same alert and rings nobody.
    #[arg(long, env = "ALERT_QUIET_SECS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub alert_quiet_secs: u64,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            alert_slack_webhook_url: None,
            alert_email_to: Vec::new(),
            alert_webhook_url: None,
            alert_webhook_secret: None,
            alert_remind_secs: 14_400,
            alert_quiet_secs: 300,
        }
    }
}

impl AlertConfig {
    /// What is wrong between these values and how mail goes out: the variable, why, and an example.
    pub fn check(&self, notify: &NotifyConfig) -> Option<(&'static str, String, &'static str)> {
        if self.alert_email_to.len() > MAILBOXES_MAX {
            let text = format!("{} mailboxes, {MAILBOXES_MAX} at most", self.alert_email_to.len());
            return Some(("ALERT_EMAIL_TO", text, "ALERT_EMAIL_TO=oncall@example.com"));
        }
        if !self.alert_email_to.is_empty() && !notify.has_mail() {
            let text = "mail is to be sent, but SMTP_HOST is not set".to_owned();
            return Some(("ALERT_EMAIL_TO", text, "SMTP_HOST=smtp.example.com"));
        }
        None
    }

    /// Every target.
    pub fn targets(&self) -> Vec<Target> {
        let slack = self.alert_slack_webhook_url.clone().map(Target::Slack);
        let mail = self.alert_email_to.iter().cloned().map(Target::Email);
        let webhook = self.alert_webhook_url.clone().zip(self.alert_webhook_secret.clone());
        let webhook = webhook.map(|(url, secrets)| Target::Webhook { url, secrets });
        slack.into_iter().chain(mail).chain(webhook).collect()
    }

    /// When to tell again, and when an alert is over.
    pub fn times(&self) -> AlertTimes {
        AlertTimes {
            remind_every: Duration::from_secs(self.alert_remind_secs),
            quiet: Duration::from_secs(self.alert_quiet_secs),
        }
    }
}

/// Sends what is due. Two at the same time tell nobody twice.
#[derive(Clone)]
pub struct AlertSender {
    notifier: Arc<dyn Notifier>,
    effects: Arc<dyn Effects>,
    targets: Vec<Target>,
    holder: String,
}

impl std::fmt::Debug for AlertSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertSender").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// What became of one notice at one target.
enum Told {
    /// Now.
    Heard,
    /// An earlier time settled it, and counted it.
    Before,
    /// The target will never take it.
    Refused,
    /// Nobody knows.
    Unknown,
    /// Not now.
    Later(Option<Duration>),
}

impl AlertSender {
    /// `holder` is who a person would ask, e.g. this process's name.
    pub fn new(
        notifier: Arc<dyn Notifier>,
        effects: Arc<dyn Effects>,
        targets: Vec<Target>,
        holder: String,
    ) -> Self {
        Self { notifier, effects, targets, holder }
    }

    /// Tells what is due at `now`; answers how many notices need nothing more. After `stop` it ends with
    /// the delivery that it is at: one that is dropped half way is a doubt.
    pub async fn send_due(
        &self,
        pool: &PgPool,
        now: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<u64, sqlx::Error> {
        let (mut finished, started) = (0, Instant::now());
        for notice in alerts::due(pool, now, NOTICES_MAX).await? {
            if stop.is_cancelled() || started.elapsed() > ROUND_MAX {
                break;
            }
            let Some(notification) = notification(&notice) else {
                // Only we write the table; a newer release's word is left to that release.
                alerts::later(pool, &notice, now + pause(notice.attempts)).await?;
                continue;
            };
            if self.targets.is_empty() {
                warn!(alert = notice.name, kind = notice.kind, "no target is set for alerts");
            }
            match self.tell_all(&notice, &notification, stop).await {
                Some(wait) if notice.attempts < TRIES_MAX => {
                    let wait = wait.map_or_else(
                        || pause(notice.attempts),
                        |wait| {
                            TimeDelta::from_std(wait).unwrap_or_default().max(TimeDelta::seconds(1))
                        },
                    );
                    alerts::later(pool, &notice, now + wait).await?;
                }
                left => {
                    if left.is_some() {
                        error!(
                            alert = notice.name,
                            kind = notice.kind,
                            "given up: no target takes it"
                        );
                    }
                    alerts::done(pool, &notice, now).await?;
                    finished += 1;
                }
            }
        }
        Ok(finished)
    }

    /// Every target in turn; `Some` where one has to be tried again, with the time it named.
    async fn tell_all(
        &self,
        notice: &Notice,
        notification: &Notification,
        stop: &CancellationToken,
    ) -> Option<Option<Duration>> {
        let mut again = None;
        for target in &self.targets {
            if stop.is_cancelled() {
                return again.or(Some(None));
            }
            let told = self.tell(notification, target).await;
            let outcome = match told {
                Told::Before => continue,
                Told::Heard => "told",
                Told::Refused => "refused",
                Told::Unknown => "unknown",
                Told::Later(wait) => {
                    again = Some(again.flatten().max(wait));
                    "later"
                }
            };
            let (kind, sink) = (notice.kind.clone(), target.sink());
            counter!(ALERT_NOTICES_TOTAL, "kind" => kind, "sink" => sink, "outcome" => outcome)
                .increment(1);
        }
        again
    }

    async fn tell(&self, notification: &Notification, target: &Target) -> Told {
        let name = format!("{}/{}", notification.id, target.fingerprint());
        let key = EffectKey::named(SCOPE, notification.tenant.clone(), &name);
        let entry = match self.effects.begin(&key, &self.holder, HOLD).await {
            Ok(Begun::Fresh(entry)) => entry,
            Ok(Begun::Done(_)) => return Told::Before,
            Ok(Begun::Busy(left)) => return Told::Later(Some(left)),
            Ok(Begun::Abandoned { entry, .. }) if target.promise() == Promise::Idempotent => entry,
            Ok(Begun::Abandoned { entry, .. }) if entry.epoch > FIRST_TAKEN_OVER => {
                // The doubt is known: it stays for a person to settle.
                self.effects.extend(&entry, Duration::ZERO).await.ok();
                return Told::Before;
            }
            Ok(Begun::Abandoned { entry, since, by }) => {
                return self
                    .doubt(&entry, &format!("begun at {since} by {by} and not ended"))
                    .await;
            }
            Err(error) => {
                warn!(%error, "an alert waits for the ledger");
                return Told::Later(None);
            }
        };
        match self.notifier.deliver(notification, target).await {
            Ok(receipt) => {
                self.complete(&entry, &receipt.said).await;
                let kind = notification.kind.as_str();
                info!(kind, id = %notification.id, sink = target.sink(), "alert told");
                Told::Heard
            }
            Err(error) if error.trouble == Trouble::UnknownOutcome => {
                let told = self.doubt(&entry, &error.to_string()).await;
                self.note_doubt(&key).await;
                told
            }
            Err(error) if error.trouble == Trouble::Invalid => {
                error!(%error, gone = error.gone, "a target of alerts refuses them: mend its option");
                self.complete(&entry, "refused").await;
                Told::Refused
            }
            Err(error) => {
                warn!(%error, "an alert could not be told and is tried again");
                // Unreleased it only expires: then it is told as a doubt.
                self.effects.release(&entry).await.ok();
                Told::Later(error.retry_after)
            }
        }
    }

    async fn complete(&self, entry: &Entry, said: &str) {
        let outcome = Outcome::new(said).unwrap_or_default();
        if let Err(error) = self.effects.complete(entry, &outcome).await {
            warn!(%error, "it was told, and the ledger did not hear of it");
        }
    }

    /// Takes our own doubt over, so that who meets it next finds it counted. Where this fails it is counted
    /// twice, and told once all the same.
    async fn note_doubt(&self, key: &EffectKey) {
        if let Ok(Begun::Abandoned { entry, .. }) =
            self.effects.begin(key, &self.holder, HOLD).await
        {
            self.effects.extend(&entry, Duration::ZERO).await.ok();
        }
    }

    async fn doubt(&self, entry: &Entry, why: &str) -> Told {
        // Nobody is at it: a person may settle it at once. Not heard, our hold ends by itself.
        self.effects.extend(entry, Duration::ZERO).await.ok();
        error!(
            effect = %entry.key,
            "an alert may or may not have been told ({why}); it is not sent again, a reminder follows \
             while it is open"
        );
        Told::Unknown
    }
}

fn pause(attempts: i32) -> TimeDelta {
    let [first, most] = PAUSES;
    let factor = 1_u32 << u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
    TimeDelta::from_std((first * factor).min(most)).unwrap_or_default()
}

/// What people read.
fn notification(notice: &Notice) -> Option<Notification> {
    let tenant: Tenant = notice.tenant.parse().ok()?;
    let severity = Severity::ALL.into_iter().find(|one| one.as_str() == notice.severity)?;
    let since = notice.opened_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (severity, title, text) = match notice.kind.as_str() {
        "opened" => (severity, notice.title.clone(), notice.text.clone()),
        "reminder" => (severity, format!("Still: {}", notice.title), notice.text.clone()),
        "resolved" => {
            let text = "It was not found again since. Nothing is left to do.".to_owned();
            (Severity::Info, format!("Resolved: {}", notice.title), text)
        }
        _ => return None,
    };
    Some(Notification {
        id: notice.id,
        tenant,
        kind: format!("alert.{}", notice.kind),
        severity,
        title,
        text,
        fields: vec![
            ("alert".to_owned(), notice.name.clone()),
            ("open since".to_owned(), since),
            ("times found".to_owned(), notice.raised.to_string()),
        ],
        link: None,
        correlation_id: notice.episode.to_string(),
        at: notice.at,
    })
}
