//! Webhooks as the Standard Webhooks specification has them: the id is the same for every repeat, the
//! time is each attempt's, and both keys of a rotation sign. A receiver that keeps to it drops repeats
//! by the id, so a doubt is settled by sending again.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hmac::{Hmac, Mac as _};
use queue_core::{Clock, Trouble};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::error::quoted;
use super::http::{Answer, Client, NoAnswer};
use super::{Notification, NotifyError, Receipt, SigningSecrets, TargetUrl, WEBHOOK};

/// How far a signature's time may be from the receiver's.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_secs(300);
/// Bytes of a body; what a notification shows is cut so that it always fits.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A 429 without a time, and how long a destination that is overloaded is left alone.
const COOLDOWN: Duration = Duration::from_secs(60);

pub(super) struct Webhook {
    client: Client,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Webhook {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock }
    }

    pub(super) async fn deliver(
        &self,
        notification: &Notification,
        url: &TargetUrl,
        secrets: &SigningSecrets,
    ) -> Result<Receipt, NotifyError> {
        let body = payload(notification).to_string();
        if body.len() > BODY_BYTES_MAX {
            let text = format!("a body of {} bytes, the limit is {BODY_BYTES_MAX}", body.len());
            return Err(NotifyError::new(WEBHOOK, Trouble::Invalid, text));
        }
        let headers = headers(notification, &body, secrets, self.clock.now());
        match self.client.post(url, headers, body.into_bytes()).await {
            Ok(answer) => verdict(&answer),
            Err(NoAnswer::Forbidden(why)) => Err(NotifyError::new(WEBHOOK, Trouble::Invalid, why)),
            Err(NoAnswer::NotSent(why)) => {
                Err(NotifyError::new(WEBHOOK, Trouble::Unavailable, why))
            }
            // A repeat has the same id, so it is harmless.
            Err(NoAnswer::Unknown(why)) => Err(NotifyError::new(WEBHOOK, Trouble::Timeout, why)),
        }
    }
}

fn verdict(answer: &Answer) -> Result<Receipt, NotifyError> {
    let said = quoted(&answer.body);
    let text = format!("answered {} {said:?}", answer.status);
    let trouble = match answer.status {
        // The status says it; what follows is nobody's promise.
        200..=299 => return Ok(Receipt { said: format!("{} {said}", answer.status) }),
        410 => return Err(NotifyError::gone(WEBHOOK, text)),
        300..=399 => {
            let text =
                format!("{text}: a redirect, which is not followed; set the URL it leads to");
            return Err(NotifyError::new(WEBHOOK, Trouble::Invalid, text));
        }
        // A receiver that is being deployed.
        404 => Trouble::Unavailable,
        status => Trouble::of_status(status).unwrap_or(Trouble::Unavailable),
    };
    let after = answer.retry_after.or((trouble == Trouble::Throttled).then_some(COOLDOWN));
    Err(NotifyError::new(WEBHOOK, trouble, text).retry_after(after))
}

/// `{type, timestamp, data}`, as the specification has it.
pub(super) fn payload(notification: &Notification) -> Value {
    let (fields, more) = notification.shown_fields();
    let fields: Vec<Value> =
        fields.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut data = Map::new();
    for (name, value) in [
        ("id", json!(notification.id)),
        ("tenant", json!(notification.tenant)),
        ("severity", json!(notification.severity)),
        ("title", json!(notification.shown_title())),
        ("text", json!(notification.shown_text())),
        ("fields", json!(fields)),
        ("fields_left_out", json!(more)),
        ("link", json!(notification.shown_link())),
        ("correlation_id", json!(Notification::shown_word(&notification.correlation_id))),
    ] {
        data.insert(name.to_owned(), value);
    }
    json!({
        "type": Notification::shown_word(&notification.kind),
        "timestamp": notification.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "data": data,
    })
}

/// `webhook-id`, `webhook-timestamp`, `webhook-signature`.
pub(super) fn headers(
    notification: &Notification,
    body: &str,
    secrets: &SigningSecrets,
    now: DateTime<Utc>,
) -> HeaderMap {
    let (id, at) = (notification.id.to_string(), now.timestamp().to_string());
    let signatures: Vec<String> =
        secrets.keys().map(|key| format!("v1,{}", signature(key, &id, &at, body))).collect();
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signatures.join(" "))]
    {
        // Hex, digits and base64.
        let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert(name, value);
    }
    headers
}

fn mac(key: &[u8], id: &str, at: &str, body: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("any length is a key"));
    for part in [id, ".", at, ".", body] {
        mac.update(part.as_bytes());
    }
    mac
}

fn signature(key: &[u8], id: &str, at: &str, body: &str) -> String {
    STANDARD.encode(mac(key, id, at, body).finalize().into_bytes())
}

/// Whether a signed request is one of `secrets`' holder, and of now: the receiver's side, for tests and
/// for receivers written in Rust. Any one of the signatures by any one of the secrets is enough.
pub fn verify(
    secrets: &SigningSecrets,
    [id, timestamp, signatures]: [&str; 3],
    body: &str,
    now: DateTime<Utc>,
) -> bool {
    let tolerance = TimeDelta::from_std(SIGNATURE_TOLERANCE).unwrap_or(TimeDelta::MAX);
    let at = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    if at.is_none_or(|at| (now - at).abs() > tolerance) {
        return false;
    }
    let offered: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|base64| STANDARD.decode(base64).ok())
        .collect();
    let by = |key: &[u8]| {
        // In constant time.
        offered.iter().any(|one| mac(key, id, timestamp, body).verify_slice(one).is_ok())
    };
    secrets.keys().any(by)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(text: &str) -> SigningSecrets {
        text.parse().unwrap()
    }

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the Standard Webhooks specification's own libraries.
        let key = secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let body = r#"{"test": 2432232314}"#;
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let signed = signature(key.keys().next().unwrap(), id, at, body);
        assert_eq!(format!("v1,{signed}"), expected);
        let now = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        assert!(verify(&key, [id, at, expected], body, now));
        assert!(!verify(&key, [id, at, expected], r#"{"test": 2432232315}"#, now));
        assert!(!verify(&key, ["msg_x", at, expected], body, now));
        for seconds in [-301, 301] {
            assert!(!verify(&key, [id, at, expected], body, now + TimeDelta::seconds(seconds)));
        }
    }

    #[test]
    fn during_a_rotation_either_key_verifies() {
        let (new, old) =
            ("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4");
        let notification = crate::notify::notification::sample("t".into(), "x".into(), vec![]);
        let (body, now) = (payload(&notification).to_string(), notification.at);
        let headers = headers(&notification, &body, &secrets(&format!("{new},{old}")), now);
        let header = |name: &str| headers[name].to_str().unwrap();
        let signed =
            [header("webhook-id"), header("webhook-timestamp"), header("webhook-signature")];
        assert!(verify(&secrets(new), signed, &body, now));
        assert!(verify(&secrets(old), signed, &body, now));
        let other = secrets("whsec_eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4");
        assert!(!verify(&other, signed, &body, now));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_body_fits(
            title in any::<String>(),
            text in "[\"\\\\\\PC]{0,4000}",
            fields in prop::collection::vec(("\\PC{0,80}", "[\"\\PC]{0,700}"), 0..14),
        ) {
            let notification = crate::notify::notification::sample(title, text, fields);
            prop_assert!(payload(&notification).to_string().len() <= BODY_BYTES_MAX);
        }
    }
}
