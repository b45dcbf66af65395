//! What is told, the same for every channel. Nothing is refused for its length: a notification about
//! trouble must not fail on the trouble's text, so each channel cuts to its limits and says that it did.

use chrono::{DateTime, Utc};
use contracts::Tenant;
pub use database::alerts::Severity;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Fields that are shown; of further ones only the number is.
pub const FIELDS_MAX: usize = 10;
/// Characters of a field's name that are shown.
pub(super) const FIELD_NAME_MAX: usize = 60;
/// Characters of a field's value that are shown.
pub(super) const FIELD_VALUE_MAX: usize = 500;
/// Characters of a title that are shown.
pub(super) const TITLE_MAX: usize = 120;
/// Characters of the text that are shown.
pub(super) const TEXT_MAX: usize = 2_800;
/// Characters of a kind or a correlation id that are shown.
pub(super) const WORD_MAX: usize = 100;
/// Bytes of a link; a longer one is left out, since half of one leads nowhere.
pub(super) const LINK_MAX: usize = 1_000;

/// Something that somebody is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The same for every repeat and for every target: what receivers know a repeat by.
    pub id: Uuid,
    /// Whose; `system` for the operator's own.
    pub tenant: Tenant,
    /// What it is about, in words that programs match: `alert.opened`, `retention.run.failed`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What happened and what to do, plain text; may be empty.
    pub text: String,
    /// Facts by name, in this order.
    pub fields: Vec<(String, String)>,
    /// Where more is to be seen: an `http` or `https` URL.
    pub link: Option<String>,
    /// Of the request that led here.
    pub correlation_id: String,
    /// When it happened.
    pub at: DateTime<Utc>,
}

impl Notification {
    /// `[critical] title`, one line.
    pub(super) fn headline(&self) -> String {
        format!("[{}] {}", self.severity.as_str(), self.shown_title())
    }

    /// The title as it is shown.
    pub(super) fn shown_title(&self) -> String {
        cut(&one_line(&self.title), TITLE_MAX)
    }

    /// The text as it is shown.
    pub(super) fn shown_text(&self) -> String {
        cut(&printable(&self.text), TEXT_MAX)
    }

    /// The fields as they are shown, and how many more there are.
    pub(super) fn shown_fields(&self) -> (Vec<(String, String)>, usize) {
        let shown = self.fields.iter().take(FIELDS_MAX).map(|(name, value)| {
            (cut(&one_line(name), FIELD_NAME_MAX), cut(&one_line(value), FIELD_VALUE_MAX))
        });
        (shown.collect(), self.fields.len().saturating_sub(FIELDS_MAX))
    }

    /// The link, where it is one that may be shown.
    pub(super) fn shown_link(&self) -> Option<&str> {
        let link = self.link.as_deref()?;
        let plain = link.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'|'));
        let web = link.starts_with("https://") || link.starts_with("http://");
        (plain && web && link.len() <= LINK_MAX).then_some(link)
    }

    /// A word of the head or foot.
    pub(super) fn shown_word(word: &str) -> String {
        cut(&one_line(word), WORD_MAX)
    }
}

/// At most `max` characters; what is cut is counted.
pub(super) fn cut(text: &str, max: usize) -> String {
    let all = text.chars().count();
    if all <= max {
        return text.to_owned();
    }
    let mark = |left: usize| format!("… ({left} more characters)");
    // The mark for everything is the longest that there can be.
    let kept = max.saturating_sub(mark(all).chars().count());
    let head: String = text.chars().take(kept).collect();
    (head + &mark(all - kept)).chars().take(max).collect()
}

/// Without line breaks and other control characters.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if unseen(c) { ' ' } else { c }).collect();
    line.trim().to_owned()
}

/// With line breaks, without other control characters.
fn printable(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let kept: String = text.chars().map(|c| if unseen(c) && c != '\n' { ' ' } else { c }).collect();
    kept.trim_end().to_owned()
}

/// Controls, and what turns the direction of the text around it.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// For tests of the channels.
#[cfg(test)]
pub(super) fn sample(title: String, text: String, fields: Vec<(String, String)>) -> Notification {
    Notification {
        id: Uuid::from_u128(0x0194_1f29_7c01_7000_8000_0000_0000_0001),
        tenant: "acme".parse().expect("a tenant"),
        kind: "alert.opened".into(),
        severity: Severity::Critical,
        title,
        text,
        fields,
        link: Some("https://console.example.com/alerts/1?a=1&b=2".into()),
        correlation_id: "req-1".into(),
        at: DateTime::from_timestamp(1_735_689_600, 123_456_000).expect("a time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_cut_fits_and_what_fits_is_not_cut(text in "\\PC{0,200}", max in 40_usize..120) {
            let shown = cut(&text, max);
            prop_assert!(shown.chars().count() <= max, "{shown}");
            prop_assert_eq!(text.chars().count() <= max, shown == text);
        }

        #[test]
        fn a_line_is_one_line(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(char::is_control));
        }
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        assert_eq!(cut(&"x".repeat(100), 40), format!("{}… (83 more characters)", "x".repeat(17)));
    }
}
