//! The two policies of dead-letter queues: where a queue sends what failed, and who may send here.

use std::fmt;

use serde_json::Value;

use crate::errors::SqsError;
use crate::limits::{RECEIVE_COUNT, REDRIVE_SOURCES_MAX};
use crate::model::QueueArn;

/// Where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedrivePolicy {
    pub(crate) target: QueueArn,
    pub(crate) receives_max: u32,
}

impl RedrivePolicy {
    pub(crate) fn parse(text: &str) -> Result<Self, SqsError> {
        let wrong = |reason: &str| SqsError::value(text, "RedrivePolicy", reason);
        let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
            return Err(wrong("Redrive policy is not a valid JSON map."));
        };
        let mandatory = |name: &str| {
            policy.get(name).ok_or_else(|| {
                wrong(&format!("Redrive policy does not contain mandatory attribute: {name}."))
            })
        };
        let target = mandatory("deadLetterTargetArn")?;
        let count = mandatory("maxReceiveCount")?;
        let target = target
            .as_str()
            .and_then(QueueArn::parse)
            .ok_or_else(|| wrong("Invalid value for deadLetterTargetArn."))?;
        let number = count.as_i64().or_else(|| count.as_str()?.parse().ok());
        let receives_max = number
            .filter(|number| RECEIVE_COUNT.contains(number))
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| {
                let shown = count.as_str().map_or_else(|| count.to_string(), str::to_owned);
                wrong(&format!(
                    "Invalid value for maxReceiveCount: {shown}, valid values are from 1 to 1000 \
                     both inclusive."
                ))
            })?;
        Ok(Self { target, receives_max })
    }
}

impl fmt::Display for RedrivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, receives_max } = self;
        write!(f, r#"{{"deadLetterTargetArn":"{target}","maxReceiveCount":{receives_max}}}"#)
    }
}

/// Which queues may name this one as their dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AllowPolicy {
    /// Every queue.
    All,
    /// None.
    None,
    /// These.
    Sources(Vec<QueueArn>),
}

impl AllowPolicy {
    pub(crate) fn parse(text: &str) -> Result<Self, SqsError> {
        let wrong = |reason: &str| SqsError::value(text, "RedriveAllowPolicy", reason);
        let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
            return Err(wrong("Redrive allow policy is not a valid JSON map."));
        };
        let sources = policy.get("sourceQueueArns");
        match policy.get("redrivePermission").and_then(Value::as_str) {
            Some("allowAll" | "denyAll") if sources.is_some() => {
                Err(wrong("Can specify sourceQueueArns only when redrivePermission is byQueue."))
            }
            Some("allowAll") => Ok(Self::All),
            Some("denyAll") => Ok(Self::None),
            Some("byQueue") => {
                let arns: Option<Vec<QueueArn>> = sources
                    .and_then(Value::as_array)
                    .filter(|list| (1..=REDRIVE_SOURCES_MAX).contains(&list.len()))
                    .and_then(|list| {
                        list.iter().map(|arn| QueueArn::parse(arn.as_str()?)).collect()
                    });
                arns.map(Self::Sources).ok_or_else(|| {
                    wrong("sourceQueueArns must hold 1 to 10 queue ARNs with byQueue.")
                })
            }
            _ => Err(wrong("Amazon SQS can't create the redrive allow policy.")),
        }
    }

    pub(crate) fn allows(&self, source: &QueueArn) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Sources(sources) => sources.contains(source),
        }
    }
}

impl fmt::Display for AllowPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(r#"{"redrivePermission":"allowAll"}"#),
            Self::None => f.write_str(r#"{"redrivePermission":"denyAll"}"#),
            Self::Sources(sources) => {
                f.write_str(r#"{"redrivePermission":"byQueue","sourceQueueArns":["#)?;
                for (index, source) in sources.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}\"{source}\"")?;
                }
                f.write_str("]}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:dlq";

    #[test]
    fn a_redrive_policy_reads_back_canonically() {
        for (count, good) in [("1", true), ("\"1000\"", true), ("0", false), ("1001", false)] {
            let text =
                format!(r#"{{ "maxReceiveCount": {count}, "deadLetterTargetArn":"{ARN}" }}"#);
            assert_eq!(RedrivePolicy::parse(&text).is_ok(), good, "{count}");
        }
        let text = format!(r#"{{"maxReceiveCount":"3","deadLetterTargetArn":"{ARN}"}}"#);
        assert_eq!(
            RedrivePolicy::parse(&text).unwrap().to_string(),
            format!(r#"{{"deadLetterTargetArn":"{ARN}","maxReceiveCount":3}}"#)
        );
    }

    #[test]
    fn an_allow_policy_names_sources_only_by_queue() {
        for (text, good) in [
            (r#"{"redrivePermission":"allowAll"}"#.to_owned(), true),
            (r#"{"redrivePermission":"byQueue"}"#.to_owned(), false),
            (format!(r#"{{"redrivePermission":"byQueue","sourceQueueArns":["{ARN}"]}}"#), true),
            (format!(r#"{{"redrivePermission":"allowAll","sourceQueueArns":["{ARN}"]}}"#), false),
            (r#"{"redrivePermission":"some"}"#.to_owned(), false),
        ] {
            let parsed = AllowPolicy::parse(&text);
            assert_eq!(parsed.is_ok(), good, "{text}");
            if let Ok(policy) = parsed {
                assert_eq!(AllowPolicy::parse(&policy.to_string()), Ok(policy));
            }
        }
    }
}
