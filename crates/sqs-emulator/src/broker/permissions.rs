//! `AddPermission` and `RemovePermission`: they edit the queue's policy document. Nothing enforces it.

use serde_json::{Value, json};

use super::Broker;
use crate::effects::Effect;
use crate::errors::{ErrorKind, SqsError};
use crate::limits::PERMISSION_ACTIONS_MAX;
use crate::model::QueueId;
use crate::operations::{QueueRef, Response};
use crate::queue::Queue;

/// What can be allowed.
const ACTIONS: [&str; 8] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "PurgeQueue",
];

/// What nobody else can be allowed.
const OWNERS: [&str; 9] = [
    "AddPermission",
    "CreateQueue",
    "DeleteQueue",
    "ListQueues",
    "ListQueueTags",
    "RemovePermission",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
];

impl Broker {
    pub(super) fn add_permission(
        &mut self,
        now: i64,
        queue: &QueueRef,
        label: Option<String>,
        accounts: &[String],
        actions: &[String],
    ) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        let label = label.ok_or_else(|| SqsError::missing("Label"))?;
        if actions.is_empty() {
            return Err(SqsError::missing("Actions"));
        }
        if accounts.is_empty() {
            return Err(SqsError::missing("AWSAccountIds"));
        }
        if actions.len() > PERMISSION_ACTIONS_MAX {
            return Err(SqsError::new(
                ErrorKind::OverLimit,
                format!("{} Actions were found, maximum allowed is 7.", actions.len()),
            ));
        }
        if let Some(action) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
            let reason = if OWNERS.contains(&action.as_str()) {
                "Only the queue owner is allowed to invoke this action."
            } else {
                "Please refer to the appropriate WSDL for a list of valid actions. "
            };
            return Err(SqsError::value(format!("SQS:{action}"), "ActionName", reason));
        }
        let mut policy = policy(queue);
        let statements = statements(&mut policy);
        if statements.iter().any(|statement| statement["Sid"] == label.as_str()) {
            return Err(SqsError::value(label, "Label", "Already exists."));
        }
        let principals = accounts.iter().map(|account| format!("arn:aws:iam::{account}:root"));
        statements.push(json!({
            "Sid": label,
            "Effect": "Allow",
            "Principal": { "AWS": one_or_many(principals) },
            "Action": one_or_many(actions.iter().map(|action| format!("SQS:{action}"))),
            "Resource": queue.arn.as_str(),
        }));
        let id = queue.id;
        self.set_policy(now, id, policy.to_string());
        Ok(Response::Done)
    }

    pub(super) fn remove_permission(
        &mut self,
        now: i64,
        queue: &QueueRef,
        label: Option<String>,
    ) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        let label = label.ok_or_else(|| SqsError::missing("Label"))?;
        let mut policy = policy(queue);
        let statements = statements(&mut policy);
        let before = statements.len();
        statements.retain(|statement| statement["Sid"] != label.as_str());
        if statements.len() == before {
            return Err(SqsError::value(label, "Label", "can't find label."));
        }
        let text = if statements.is_empty() { String::new() } else { policy.to_string() };
        let id = queue.id;
        self.set_policy(now, id, text);
        Ok(Response::Done)
    }

    fn set_policy(&mut self, now: i64, queue: QueueId, text: String) {
        let attributes = [("Policy".to_owned(), text)].into();
        self.commit(Effect::AttributesSet { queue, attributes, at: now });
    }
}

fn policy(queue: &Queue) -> Value {
    let kept = queue.settings.text("Policy").and_then(|text| serde_json::from_str(text).ok());
    kept.unwrap_or_else(|| {
        json!({
            "Version": "2008-10-17",
            "Id": format!("{}/SQSDefaultPolicy", queue.arn),
            "Statement": [],
        })
    })
}

/// The list of statements; one that stands alone, or none, becomes a list.
fn statements(policy: &mut Value) -> &mut Vec<Value> {
    let statement = &mut policy["Statement"];
    if !statement.is_array() {
        let alone = statement.take();
        *statement = Value::Array(if alone.is_null() { Vec::new() } else { vec![alone] });
    }
    statement.as_array_mut().expect("it was just made an array")
}

fn one_or_many(texts: impl Iterator<Item = String>) -> Value {
    let mut texts: Vec<Value> = texts.map(Value::String).collect();
    if texts.len() == 1 { texts.remove(0) } else { Value::Array(texts) }
}
