//! Slack's incoming webhooks: blocks within Slack's limits, its own words for what is gone, one message
//! a second. Slack answers `ok` and no id: what was not answered may have been posted, so it is a doubt.

use std::time::Duration;

use queue_core::Trouble;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::error::quoted;
use super::http::{Answer, Client, NoAnswer};
use super::pace::Pace;
use super::{Notification, NotifyError, Receipt, SLACK, TargetUrl};

/// Slack: one message a second per webhook, short bursts tolerated.
const INTERVAL: Duration = Duration::from_secs(1);
/// A message that would wait longer for its turn is given back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// A 429 without a time.
const COOLDOWN: Duration = Duration::from_secs(30);
/// Slack: characters of a header block.
const HEADER_MAX: usize = 150;
/// Slack: characters of a section's text.
const SECTION_MAX: usize = 3_000;
/// Slack: characters of a section's field.
const FIELD_MAX: usize = 2_000;

/// Slack's words for a webhook that will never take anything again.
const GONE: [&str; 10] = [
    "channel_is_archived",
    "channel_not_found",
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_service_id",
    "no_team",
    "team_disabled",
    "token_revoked",
    "user_not_found",
];

#[derive(Debug)]
pub(super) struct Slack {
    client: Client,
    pace: Pace,
}

impl Slack {
    pub(super) fn new(client: Client) -> Self {
        Self { client, pace: Pace::new(INTERVAL, WAIT_MAX) }
    }

    pub(super) async fn deliver(
        &self,
        notification: &Notification,
        url: &TargetUrl,
    ) -> Result<Receipt, NotifyError> {
        let place = url.reveal().as_str();
        if let Err(wait) = self.pace.turn(place).await {
            let text = format!("one message a second: the next turn is in {wait:?}, not sent");
            return Err(NotifyError::new(SLACK, Trouble::Throttled, text).retry_after(Some(wait)));
        }
        let body = payload(notification).to_string().into_bytes();
        match self.client.post(url, HeaderMap::new(), body).await {
            Ok(answer) => {
                let verdict = verdict(&answer);
                if let Err(NotifyError { trouble: Trouble::Throttled, retry_after, .. }) = &verdict
                {
                    self.pace.close(place, retry_after.unwrap_or(COOLDOWN));
                }
                verdict
            }
            Err(NoAnswer::Forbidden(why)) => Err(NotifyError::new(SLACK, Trouble::Invalid, why)),
            Err(NoAnswer::NotSent(why)) => Err(NotifyError::new(SLACK, Trouble::Unavailable, why)),
            Err(NoAnswer::Unknown(why)) => Err(doubt(&why)),
        }
    }
}

fn doubt(why: &str) -> NotifyError {
    let text = format!("{why}; it may have been posted: look into the channel");
    NotifyError::new(SLACK, Trouble::UnknownOutcome, text)
}

fn verdict(answer: &Answer) -> Result<Receipt, NotifyError> {
    let said = quoted(&answer.body);
    let text = format!("answered {} {said:?}", answer.status);
    let word = said.split_whitespace().next().unwrap_or_default();
    Err(match answer.status {
        200 if said == "ok" && answer.whole => return Ok(Receipt { said }),
        400 | 403 | 404 | 410 if GONE.contains(&word) => NotifyError::gone(SLACK, text),
        410 => NotifyError::gone(SLACK, text),
        429 => NotifyError::new(SLACK, Trouble::Throttled, text).retry_after(answer.retry_after),
        // Not Slack's words, or not all of them; or a gateway speaks for a Slack that may have posted.
        200..=299 | 408 | 502 | 504 => doubt(&text),
        500.. => {
            NotifyError::new(SLACK, Trouble::Unavailable, text).retry_after(answer.retry_after)
        }
        _ => NotifyError::new(SLACK, Trouble::Invalid, text),
    })
}

/// The message: a header, the text, the fields, a foot; and the headline for clients without blocks.
pub(super) fn payload(notification: &Notification) -> Value {
    let headline = notification.headline();
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": within(&headline, HEADER_MAX, str::to_owned), "emoji": false},
    })];
    let text = notification.shown_text();
    if !text.is_empty() {
        blocks.push(
            json!({"type": "section", "text": markdown(&within(&text, SECTION_MAX, escaped))}),
        );
    }
    let (fields, more) = notification.shown_fields();
    if !fields.is_empty() {
        let fields: Vec<Value> = fields
            .iter()
            .map(|(name, value)| {
                let field = format!("*{}*\n{}", escaped(name), escaped(value));
                // Escapes are at most five times as long as what they stand for.
                let short =
                    || format!("*{}*\n{}", escaped(name), within(value, FIELD_MAX / 2, escaped));
                markdown(&if units(&field) > FIELD_MAX { short() } else { field })
            })
            .collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    blocks.push(json!({"type": "context", "elements": [markdown(&foot(notification, more))]}));
    json!({
        "text": escaped(&headline),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn foot(notification: &Notification, more: usize) -> String {
    let mut parts = vec![
        format!("{} · {}", notification.tenant, Notification::shown_word(&notification.kind)),
        notification.at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        format!("id {}", notification.id),
        format!("correlation {}", Notification::shown_word(&notification.correlation_id)),
    ];
    if more > 0 {
        parts.push(format!("{more} more fields"));
    }
    let foot = escaped(&parts.join(" · "));
    match notification.shown_link() {
        Some(link) => format!("{foot} · <{}|open>", escaped(link)),
        None => foot,
    }
}

/// `verbatim`: nothing in it becomes a link, a mention or a channel by itself.
fn markdown(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Slack's three escapes; without them `<!channel>` in a text would ring for everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// UTF-16 units: the widest way in which Slack may count.
fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// As much of the text as is, written by `write`, at most `max` long; never half of an escape.
fn within(text: &str, max: usize, write: impl Fn(&str) -> String) -> String {
    let whole = write(text);
    if units(&whole) <= max {
        return whole;
    }
    let mut shown = String::new();
    let mut room = max - 1;
    for c in text.chars() {
        let one = write(c.encode_utf8(&mut [0; 4]));
        let Some(left) = room.checked_sub(units(&one)) else { break };
        (room, shown) = (left, shown + &one);
    }
    shown + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_payload_keeps_to_slacks_limits(
            title in any::<String>(),
            text in "[&<>\\PC]{0,4000}",
            fields in prop::collection::vec(("[&<>a]{0,80}", "[&<>\\PC]{0,700}"), 0..14),
        ) {
            let notification = crate::notify::notification::sample(title, text, fields);
            let payload = payload(&notification);
            let mut all = 0;
            for block in payload["blocks"].as_array().unwrap() {
                let texts = block["text"].get("text").into_iter()
                    .chain(block["fields"].as_array().into_iter().flatten().map(|f| &f["text"]))
                    .chain(block["elements"].as_array().into_iter().flatten().map(|e| &e["text"]));
                let limit = match block["type"].as_str().unwrap() {
                    "header" => HEADER_MAX,
                    _ if block.get("fields").is_some() => FIELD_MAX,
                    _ => SECTION_MAX,
                };
                for text in texts {
                    let text = text.as_str().unwrap();
                    prop_assert!(!text.is_empty() && units(text) <= limit, "{limit}: {text}");
                    all += units(text);
                    if block["type"] == "section" {
                        prop_assert!(!text.contains(['<', '>']), "{text}");
                        let left = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                        prop_assert!(!left.contains('&'), "half of an escape: {text}");
                    }
                }
                prop_assert!(block["fields"].as_array().is_none_or(|fields| fields.len() <= 10));
            }
            prop_assert!(all <= 3_000 + 10 * 2_000 + 2_000, "{all}");
        }
    }
}
