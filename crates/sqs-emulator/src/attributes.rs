//! Queue attributes: what each may be, what it defaults to, how it reads back. Values are kept in the
//! canonical text that `GetQueueAttributes` returns, since Terraform compares strings.

use std::collections::BTreeMap;

use crate::errors::{ErrorKind, SqsError};
use crate::limits;

pub(crate) mod redrive;

use redrive::{AllowPolicy, RedrivePolicy};

/// Attributes that only FIFO queues have.
const FIFO_ONLY: [&str; 4] =
    ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"];
/// Attributes that are computed and cannot be set.
const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];
/// Attributes that can be set, with the value a new queue has; `None` is absent until set.
const SETTABLE: [(&str, Option<&str>); 15] = [
    ("ContentBasedDeduplication", Some("false")),
    ("DeduplicationScope", Some("queue")),
    ("DelaySeconds", Some("0")),
    ("FifoQueue", None),
    ("FifoThroughputLimit", Some("perQueue")),
    ("KmsDataKeyReusePeriodSeconds", None),
    ("KmsMasterKeyId", None),
    ("MaximumMessageSize", Some("1048576")),
    ("MessageRetentionPeriod", Some("345600")),
    ("Policy", None),
    ("ReceiveMessageWaitTimeSeconds", Some("0")),
    ("RedriveAllowPolicy", None),
    ("RedrivePolicy", None),
    ("SqsManagedSseEnabled", Some("true")),
    ("VisibilityTimeout", Some("30")),
];

/// A queue's settings: the texts, and what the broker needs of them as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) fifo: bool,
    pub(crate) content_deduplication: bool,
    /// Fixed at creation; the attribute may read otherwise later, as on AWS.
    pub(crate) deduplication_per_group: bool,
    /// Seconds.
    pub(crate) delay: i64,
    pub(crate) bytes_max: usize,
    /// Seconds.
    pub(crate) retention: i64,
    /// Seconds.
    pub(crate) wait: i64,
    /// Seconds.
    pub(crate) visibility: i64,
    pub(crate) redrive: Option<RedrivePolicy>,
    pub(crate) allow: AllowPolicy,
    /// Attributes that differ from absence, in canonical text.
    texts: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Of a new queue with these canonical attributes.
    pub(crate) fn new(attributes: &BTreeMap<String, String>) -> Self {
        let fifo = attributes.get("FifoQueue").is_some_and(|value| value == "true");
        let texts = SETTABLE
            .iter()
            .filter(|(name, _)| fifo || !FIFO_ONLY.contains(name))
            .filter_map(|(name, value)| Some((*name, (*value)?.to_owned())))
            .collect();
        let mut settings = Self {
            fifo,
            content_deduplication: false,
            deduplication_per_group: attributes
                .get("DeduplicationScope")
                .is_some_and(|scope| scope == "messageGroup"),
            delay: 0,
            bytes_max: limits::MESSAGE_BYTES_MAX,
            retention: 0,
            wait: 0,
            visibility: 0,
            redrive: None,
            allow: AllowPolicy::All,
            texts,
        };
        settings.apply(attributes);
        settings
    }

    /// Takes over canonical attributes.
    pub(crate) fn apply(&mut self, attributes: &BTreeMap<String, String>) {
        for (name, value) in attributes {
            let Some((name, _)) = SETTABLE.iter().find(|(known, _)| known == name) else {
                continue;
            };
            if value.is_empty() {
                self.texts.remove(name);
            } else {
                self.texts.insert(name, value.clone());
            }
        }
        if attributes.get("KmsMasterKeyId").is_some_and(|key| !key.is_empty()) {
            self.texts.insert("SqsManagedSseEnabled", "false".to_owned());
        }
        if attributes.get("SqsManagedSseEnabled").is_some_and(|value| value == "true") {
            self.texts.remove("KmsMasterKeyId");
        }
        if !self.texts.contains_key("KmsMasterKeyId") {
            self.texts.remove("KmsDataKeyReusePeriodSeconds");
        }
        self.content_deduplication = self.text("ContentBasedDeduplication") == Some("true");
        self.delay = self.number("DelaySeconds");
        self.bytes_max =
            usize::try_from(self.number("MaximumMessageSize")).unwrap_or(limits::MESSAGE_BYTES_MAX);
        self.retention = self.number("MessageRetentionPeriod");
        self.wait = self.number("ReceiveMessageWaitTimeSeconds");
        self.visibility = self.number("VisibilityTimeout");
        self.redrive = self.text("RedrivePolicy").and_then(|text| RedrivePolicy::parse(text).ok());
        self.allow = self
            .text("RedriveAllowPolicy")
            .and_then(|text| AllowPolicy::parse(text).ok())
            .unwrap_or(AllowPolicy::All);
    }

    /// An attribute's canonical text, when it has one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// How the deduplication scope is spelled.
    pub(crate) fn scope_name(per_group: bool) -> &'static str {
        if per_group { "messageGroup" } else { "queue" }
    }

    /// Everything that has a value.
    pub(crate) fn texts(&self) -> &BTreeMap<&'static str, String> {
        &self.texts
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Whether `GetQueueAttributes` may ask for it.
pub(crate) fn is_known(name: &str) -> bool {
    name == "All" || COMPUTED.contains(&name) || SETTABLE.iter().any(|(known, _)| *known == name)
}

/// Checks what a caller wants to set on a queue of that kind and puts it into canonical text.
pub(crate) fn canonical(
    attributes: &BTreeMap<String, String>,
    fifo: bool,
) -> Result<BTreeMap<String, String>, SqsError> {
    let kms = attributes.get("KmsMasterKeyId").is_some_and(|key| !key.is_empty());
    if kms && attributes.get("SqsManagedSseEnabled").is_some_and(|value| value == "true") {
        return Err(SqsError::new(
            ErrorKind::InvalidAttributeName,
            "You can use one type of server-side encryption (SSE) at one time. You can either \
             enable KMS SSE or SQS SSE.",
        ));
    }
    attributes
        .iter()
        .map(|(name, value)| Ok((name.clone(), canonical_value(name, value, fifo)?)))
        .collect()
}

fn canonical_value(name: &str, value: &str, fifo: bool) -> Result<String, SqsError> {
    if !fifo && FIFO_ONLY.contains(&name) {
        return Err(match name {
            "FifoQueue" | "ContentBasedDeduplication" => SqsError::unknown_attribute(name),
            _ => SqsError::new(
                ErrorKind::InvalidAttributeName,
                format!("You can specify the {name} only when FifoQueue is set to true."),
            ),
        });
    }
    let range = match name {
        "DelaySeconds" => Some(limits::DELAY_SECONDS),
        "KmsDataKeyReusePeriodSeconds" => Some(limits::KMS_REUSE_SECONDS),
        "MaximumMessageSize" => Some(limits::MESSAGE_BYTES),
        "MessageRetentionPeriod" => Some(limits::RETENTION_SECONDS),
        "ReceiveMessageWaitTimeSeconds" => Some(limits::WAIT_SECONDS),
        "VisibilityTimeout" => Some(limits::VISIBILITY_SECONDS),
        _ => None,
    };
    if let Some(range) = range {
        let number = value.parse::<i64>().ok().filter(|number| range.contains(number));
        return number.map(|n| n.to_string()).ok_or_else(|| SqsError::attribute_value(name));
    }
    match name {
        "FifoQueue" if !value.eq_ignore_ascii_case("true") => Err(SqsError::new(
            ErrorKind::InvalidAttributeValue,
            "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not \
             supported.",
        )),
        "FifoQueue" | "ContentBasedDeduplication" | "SqsManagedSseEnabled" => {
            match value.to_ascii_lowercase() {
                text if text == "true" || text == "false" => Ok(text),
                _ => Err(SqsError::attribute_value(name)),
            }
        }
        "DeduplicationScope" => one_of(name, value, ["queue", "messageGroup"]),
        "FifoThroughputLimit" => one_of(name, value, ["perQueue", "perMessageGroupId"]),
        "KmsMasterKeyId" => Ok(value.to_owned()),
        "Policy" => policy(value),
        "RedrivePolicy" | "RedriveAllowPolicy" if value.is_empty() => Ok(String::new()),
        "RedrivePolicy" => RedrivePolicy::parse(value).map(|policy| policy.to_string()),
        "RedriveAllowPolicy" => AllowPolicy::parse(value).map(|policy| policy.to_string()),
        _ => Err(SqsError::unknown_attribute(name)),
    }
}

/// High throughput has to be asked for as a whole: a limit per group needs deduplication per group.
/// `current` are the settings of a queue that is there.
pub(crate) fn check_throughput(
    wanted: &BTreeMap<String, String>,
    current: Option<&Settings>,
) -> Result<(), SqsError> {
    let text = |name: &str| {
        let wanted = wanted.get(name).map(String::as_str);
        wanted.or_else(|| current.and_then(|settings| settings.text(name)))
    };
    if text("FifoThroughputLimit") == Some("perMessageGroupId")
        && text("DeduplicationScope") != Some("messageGroup")
    {
        return Err(SqsError::new(
            ErrorKind::InvalidAttributeValue,
            "Invalid value for the parameter FifoThroughputLimit. Reason: perMessageGroupId is \
             allowed only when DeduplicationScope is messageGroup.",
        ));
    }
    Ok(())
}

fn one_of(name: &str, value: &str, allowed: [&str; 2]) -> Result<String, SqsError> {
    if allowed.contains(&value) {
        Ok(value.to_owned())
    } else {
        Err(SqsError::attribute_value(name))
    }
}

/// A policy is kept as it is sent; it only has to be a JSON object. An empty one removes it.
fn policy(value: &str) -> Result<String, SqsError> {
    let is_object = serde_json::from_str::<serde_json::Value>(value).is_ok_and(|v| v.is_object());
    if value.is_empty() || is_object {
        Ok(value.to_owned())
    } else {
        Err(SqsError::attribute_value("Policy"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, fifo: bool) -> Result<String, ErrorKind> {
        canonical_value(name, value, fifo).map_err(|error| error.kind)
    }

    #[test]
    fn numbers_hold_just_inside_their_range() {
        let wrong = Err(ErrorKind::InvalidAttributeValue);
        for (name, low, high) in [
            ("DelaySeconds", 0, 900),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
        ] {
            for (value, good) in [(low, true), (high, true), (low - 1, false), (high + 1, false)] {
                let expected = if good { Ok(value.to_string()) } else { wrong.clone() };
                assert_eq!(check(name, &value.to_string(), false), expected, "{name} {value}");
            }
            assert_eq!(check(name, "x", false), wrong);
        }
    }

    #[test]
    fn fifo_attributes_are_unknown_on_standard_queues() {
        for name in FIFO_ONLY {
            assert_eq!(check(name, "true", false), Err(ErrorKind::InvalidAttributeName), "{name}");
        }
        assert_eq!(check("FifoQueue", "false", true), Err(ErrorKind::InvalidAttributeValue));
        assert_eq!(check("ContentBasedDeduplication", "TRUE", true), Ok("true".to_owned()));
        assert_eq!(check("QueueArn", "x", true), Err(ErrorKind::InvalidAttributeName));
    }
}
