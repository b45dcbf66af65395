//! Where a notification goes. What is secret of it never shows in `Debug` or in an error: a Slack
//! webhook's URL is a password, and so may be any other's path.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use queue_core::effects::Promise;
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::{EMAIL, SLACK, WEBHOOK};

/// Bytes of a URL.
const URL_MAX: usize = 2_048;
/// Bytes of a signing key, by the Standard Webhooks specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Keys that sign at the same time: the new one and the old one of a rotation.
const KEYS_MAX: usize = 2;
/// What a signing secret begins with.
const PREFIX: &str = "whsec_";

/// A text that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTarget(String);

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidTarget> {
    Err(InvalidTarget(why.into()))
}

/// Whom to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Slack incoming webhook, or what takes the same payload.
    Slack(TargetUrl),
    /// One mailbox; several are several targets, since each may fail on its own.
    Email(EmailAddress),
    /// A webhook in the Standard Webhooks shape.
    Webhook {
        /// Where.
        url: TargetUrl,
        /// What signs.
        secrets: SigningSecrets,
    },
}

impl Target {
    /// The sink's name in metrics and errors.
    pub const fn sink(&self) -> &'static str {
        match self {
            Self::Slack(_) => SLACK,
            Self::Email(_) => EMAIL,
            Self::Webhook { .. } => WEBHOOK,
        }
    }

    /// What a delivery that was begun and not confirmed means. Slack and mail keep no account of what
    /// they took: a repeat may be seen twice, so it is a person's to decide. A receiver of webhooks
    /// knows a repeat by its `webhook-id`.
    pub const fn promise(&self) -> Promise {
        match self {
            Self::Slack(_) | Self::Email(_) => Promise::Unknown,
            Self::Webhook { .. } => Promise::Idempotent,
        }
    }

    /// A name for the ledger's keys: the same for the same place, telling nothing secret. A webhook keeps
    /// its name when its secrets are rotated.
    pub fn fingerprint(&self) -> String {
        let place = match self {
            Self::Slack(url) | Self::Webhook { url, .. } => url.reveal().as_str(),
            Self::Email(to) => to.as_str(),
        };
        let digest = Sha256::new_with_prefix(self.sink()).chain_update([0]).chain_update(place);
        let short: String = hex::encode(digest.finalize()).chars().take(16).collect();
        format!("{}:{short}", self.sink())
    }
}

/// An `https` (or, for tests and private networks, `http`) URL whose path may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

impl TargetUrl {
    /// The whole of it, for the one place that calls it.
    pub(super) fn reveal(&self) -> &Url {
        &self.0
    }
}

impl FromStr for TargetUrl {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > URL_MAX {
            return invalid(format!("a URL of {} bytes, the limit is {URL_MAX}", text.len()));
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return invalid(format!("not a URL: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return invalid("not a URL to post to: https://HOST/PATH is expected");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("a URL with a user or a password in it; sign the webhook instead");
        }
        Ok(Self(url))
    }
}

/// Scheme and host; the rest may be secret.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One mailbox: `user@host`, ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress(Address);

impl EmailAddress {
    /// `user@host`.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    pub(super) fn address(&self) -> &Address {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        match text.parse::<Address>() {
            Ok(address) if text.is_ascii() && text.len() <= 254 => Ok(Self(address)),
            _ => invalid("not a mailbox: user@host in ASCII is expected, e.g. ops@example.com"),
        }
    }
}

/// One or two keys that sign a webhook: during a rotation each request carries both signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecrets(Vec<Vec<u8>>);

impl SigningSecrets {
    /// The keys, newest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl FromStr for SigningSecrets {
    type Err = InvalidTarget;

    /// `whsec_…`, or two of them separated by a comma, the new one first.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut keys = Vec::new();
        for secret in text.split(',').map(str::trim) {
            let key = secret.strip_prefix(PREFIX).and_then(|base64| STANDARD.decode(base64).ok());
            match key {
                Some(key) if KEY_BYTES.contains(&key.len()) => keys.push(key),
                _ => {
                    return invalid(
                        "not a signing secret: whsec_ and the base64 of 24 to 64 random bytes",
                    );
                }
            }
        }
        if keys.len() > KEYS_MAX {
            return invalid(format!("{} signing secrets, {KEYS_MAX} at most", keys.len()));
        }
        Ok(Self(keys))
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets (redacted)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";

    #[test]
    fn nothing_secret_is_shown() {
        let url: TargetUrl = "https://hooks.slack.com/services/T0/B0/verysecret".parse().unwrap();
        let secrets: SigningSecrets = format!("{SECRET}, {SECRET}").parse().unwrap();
        let target = Target::Webhook { url: url.clone(), secrets };
        for shown in [format!("{target:?}"), url.to_string(), target.fingerprint()] {
            assert!(!shown.contains("verysecret") && !shown.contains("MDEy"), "{shown}");
        }
        assert!(format!("{target:?}").contains("hooks.slack.com"));
    }

    #[test]
    fn a_fingerprint_is_of_the_place_and_not_of_the_secret() {
        let of = |secret: &str, url: &str| {
            let (url, secrets) = (url.parse().unwrap(), secret.parse().unwrap());
            Target::Webhook { url, secrets }.fingerprint()
        };
        let other = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4";
        assert_eq!(of(SECRET, "https://a.example/x"), of(other, "https://a.example/x"));
        assert_ne!(of(SECRET, "https://a.example/x"), of(SECRET, "https://a.example/y"));
        let slack = Target::Slack("https://a.example/x".parse().unwrap());
        assert_ne!(slack.fingerprint(), of(SECRET, "https://a.example/x"));
    }

    #[test]
    fn what_names_no_target_is_refused_with_why() {
        for bad in ["", "ftp://a/b", "https://", "https://u:p@a.example/", "mailto:a@b"] {
            assert!(bad.parse::<TargetUrl>().is_err(), "{bad}");
        }
        let long = format!("https://a.example/{}", "x".repeat(URL_MAX));
        assert!(long.parse::<TargetUrl>().unwrap_err().to_string().contains("2048"));
        for bad in
            ["", "a", "a@", "a b@c.example", "ä@c.example", "a@b.example\r\nBcc: c@d.example"]
        {
            assert!(bad.parse::<EmailAddress>().is_err(), "{bad}");
        }
        let three = [SECRET; 3].join(",");
        for bad in ["", "whsec_", "whsec_AAAA", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", &three] {
            assert!(bad.parse::<SigningSecrets>().is_err(), "{bad}");
        }
    }
}
