//! Which attributes a receive shows. The filter rules are SQS's, whatever the protocol.

use crate::digest::md5_attributes;
use crate::model::{Delivery, MessageAttribute};

/// The names a receive asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `AttributeNames` and `MessageSystemAttributeNames` together.
    pub system: Vec<String>,
    /// `MessageAttributeNames`: `All`, `*`, `.*`, a name, or a prefix before `.*`.
    pub attributes: Vec<String>,
}

impl Selection {
    /// The system attributes to show, by name.
    pub fn system_attributes(&self, delivery: &Delivery) -> Vec<(&'static str, String)> {
        if self.system.is_empty() {
            return Vec::new();
        }
        let message = &delivery.message;
        let all = [
            ("SenderId", Some(message.sender.to_string())),
            ("SentTimestamp", Some(delivery.sent_at_ms.to_string())),
            ("ApproximateReceiveCount", Some(delivery.receives.to_string())),
            ("ApproximateFirstReceiveTimestamp", Some(delivery.first_received_at_ms.to_string())),
            ("SequenceNumber", delivery.sequence.map(|number| number.to_string())),
            ("MessageDeduplicationId", message.deduplication.clone()),
            ("MessageGroupId", message.group.as_deref().map(str::to_owned)),
            ("AWSTraceHeader", message.trace_header.clone()),
            ("DeadLetterQueueSourceArn", delivery.dead_letter_source.as_deref().map(str::to_owned)),
        ];
        let wanted = |name: &str| self.system.iter().any(|asked| asked == "All" || asked == name);
        all.into_iter()
            .filter(|(name, _)| wanted(name))
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// The message attributes to show.
    pub fn message_attributes<'a>(&self, delivery: &'a Delivery) -> Vec<&'a MessageAttribute> {
        let wanted = |name: &str| self.attributes.iter().any(|asked| matches(asked, name));
        delivery.message.attributes.iter().filter(|a| wanted(&a.name)).collect()
    }

    /// The hash over the attributes shown; `None` when none is.
    pub fn md5(delivery: &Delivery, shown: &[&MessageAttribute]) -> Option<[u8; 16]> {
        if shown.len() == delivery.message.attributes.len() {
            return delivery.message.md5_attributes;
        }
        md5_attributes(shown.iter().copied())
    }
}

/// `prefix.*` means "starts with prefix": recorded from AWS, `col.*` also matches `color`, and a star
/// alone matches all.
fn matches(asked: &str, name: &str) -> bool {
    match asked.strip_suffix(".*") {
        Some(prefix) => name.starts_with(prefix),
        None => ["All", "*", name].contains(&asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_by_name_prefix_and_all() {
        for (asked, name, expected) in [
            ("All", "color", true),
            (".*", "color", true),
            ("*", "color", true),
            ("c*", "color", false),
            ("color", "color", true),
            ("colo", "color", false),
            ("col.*", "color", true),
            ("col.*", "colour.dark", true),
            ("col.*", "cool", false),
        ] {
            assert_eq!(matches(asked, name), expected, "{asked} on {name}");
        }
    }
}
