//! Forms to members. Names are those of the service's 2012-11-05 description; the names of the JSON
//! protocol's lists are read too, since a client that nests its lists uses them.

use std::collections::BTreeMap;

use super::form::Fields;
use crate::codec::members::{
    Attribute, Batch, Members, Parameters, ReceiveMembers, SendMembers, SettleEntry,
};
use crate::errors::SqsError;

/// A request's parameters, and the queue whose URL it was sent to.
pub(super) struct Form {
    pub(super) fields: Fields,
    pub(super) path: Option<String>,
}

impl Form {
    /// A queue URL among the parameters wins over the one that was called: recorded from AWS.
    fn queue_url(&self) -> Option<String> {
        self.fields.text("QueueUrl").or_else(|| self.path.clone())
    }
}

impl Members for Form {
    fn parameters(&self) -> Result<Parameters, SqsError> {
        let fields = &self.fields;
        let text = |name: &str| fields.text(name);
        Ok(Parameters {
            queue_url: self.queue_url(),
            queue_name: text("QueueName"),
            owner: text("QueueOwnerAWSAccountId"),
            attributes: fields.pairs(&["Attribute", "Attributes"]),
            attribute_names: fields.texts(&["AttributeName", "AttributeNames"]),
            tags: fields.pairs(&["Tag", "Tags", "tags"]),
            create_tags: None,
            tag_keys: fields.texts(&["TagKey", "TagKeys"]),
            label: text("Label"),
            accounts: fields.texts(&["AWSAccountId", "AWSAccountIds"]),
            actions: fields.texts(&["ActionName", "Actions"]),
            queue_name_prefix: text("QueueNamePrefix"),
            next_token: text("NextToken"),
            max_results: fields.number("MaxResults")?,
            source_arn: text("SourceArn"),
            destination_arn: text("DestinationArn"),
            max_number_of_messages_per_second: fields.number("MaxNumberOfMessagesPerSecond")?,
            task_handle: text("TaskHandle"),
            receipt_handle: text("ReceiptHandle"),
            visibility_timeout: fields.number("VisibilityTimeout")?,
        })
    }

    fn receive(&self) -> Result<ReceiveMembers, SqsError> {
        let fields = &self.fields;
        Ok(ReceiveMembers {
            queue_url: self.queue_url(),
            attribute_names: fields.texts(&["AttributeName", "AttributeNames"]),
            message_system_attribute_names: fields
                .texts(&["MessageSystemAttributeName", "MessageSystemAttributeNames"]),
            message_attribute_names: fields
                .texts(&["MessageAttributeName", "MessageAttributeNames"]),
            max_number_of_messages: fields.number("MaxNumberOfMessages")?,
            visibility_timeout: fields.number("VisibilityTimeout")?,
            wait_time_seconds: fields.number("WaitTimeSeconds")?,
            receive_request_attempt_id: fields.text("ReceiveRequestAttemptId"),
        })
    }

    fn send(&self) -> Result<SendMembers, SqsError> {
        send(&self.fields, self.queue_url())
    }

    fn sends(&self) -> Result<Batch<SendMembers>, SqsError> {
        self.batch(&["SendMessageBatchRequestEntry", "Entries"], |entry| send(entry, None))
    }

    fn settles(&self) -> Result<Batch<SettleEntry>, SqsError> {
        let names = [
            "DeleteMessageBatchRequestEntry",
            "ChangeMessageVisibilityBatchRequestEntry",
            "Entries",
        ];
        self.batch(&names, |entry| {
            Ok(SettleEntry {
                id: entry.text("Id"),
                receipt_handle: entry.text("ReceiptHandle"),
                visibility_timeout: entry.number("VisibilityTimeout")?,
            })
        })
    }
}

impl Form {
    fn batch<T>(
        &self,
        names: &[&str],
        read: impl Fn(&Fields) -> Result<T, SqsError>,
    ) -> Result<Batch<T>, SqsError> {
        let entries = self.fields.list(names).unwrap_or_default();
        // A list that is sent empty stands as one member without a value.
        let entries = entries.into_iter().filter(|entry| !entry.is_empty()).map(read);
        Ok(Batch { queue_url: self.queue_url(), entries: Some(entries.collect::<Result<_, _>>()?) })
    }
}

fn send(fields: &Fields, queue_url: Option<String>) -> Result<SendMembers, SqsError> {
    Ok(SendMembers {
        queue_url,
        id: fields.text("Id"),
        message_body: fields.text("MessageBody"),
        delay_seconds: fields.number("DelaySeconds")?,
        message_attributes: attributes(fields, &["MessageAttribute", "MessageAttributes"]),
        message_system_attributes: attributes(
            fields,
            &["MessageSystemAttribute", "MessageSystemAttributes"],
        ),
        message_deduplication_id: fields.text("MessageDeduplicationId"),
        message_group_id: fields.text("MessageGroupId"),
    })
}

fn attributes(fields: &Fields, names: &[&str]) -> Option<BTreeMap<String, Attribute>> {
    let attribute = |entry: &Fields| {
        let value = entry.value();
        let text = |name: &str| value.and_then(|value| value.text(name));
        let list = |names: &[&str]| value.and_then(|value| value.texts(names));
        Attribute {
            data_type: text("DataType"),
            string_value: text("StringValue"),
            binary_value: text("BinaryValue"),
            string_list_values: list(&["StringListValue", "StringListValues"]),
            binary_list_values: list(&["BinaryListValue", "BinaryListValues"]),
        }
    };
    let entries = fields.list(names)?;
    // An attribute without a name is one with an empty name, which the broker refuses.
    let entries = entries.into_iter().filter(|entry| !entry.is_empty());
    Some(entries.map(|entry| (entry.key().unwrap_or_default(), attribute(entry))).collect())
}
