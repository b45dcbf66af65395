//! The nouns: who calls, which queue, what a message is. Pure data; no state machine, no IO.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

/// The account of callers whose access key is not twelve digits.
pub const DEFAULT_ACCOUNT: &str = "000000000000";
/// The region of callers whose request is not signed.
pub const DEFAULT_REGION: &str = "us-east-1";

/// Whose queues a call sees: from the signature's credential scope, which is not verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Twelve digits.
    pub account: Arc<str>,
    /// Such as `eu-central-1`.
    pub region: Arc<str>,
}

impl Default for Caller {
    fn default() -> Self {
        Self { account: DEFAULT_ACCOUNT.into(), region: DEFAULT_REGION.into() }
    }
}

impl Caller {
    /// The queue of that name in the caller's account and region.
    pub fn queue(&self, name: &str) -> QueueArn {
        QueueArn::new(&self.region, &self.account, name)
    }
}

/// `arn:aws:sqs:<region>:<account>:<name>`: a queue's identity, and the order queues are listed in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueArn(Arc<str>);

impl QueueArn {
    /// From its parts.
    pub fn new(region: &str, account: &str, name: &str) -> Self {
        Self(format!("arn:aws:sqs:{region}:{account}:{name}").into())
    }

    /// Reads an ARN; `None` when it is not one of an SQS queue.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let well_formed = parts.len() == 6
            && parts[0] == "arn"
            && parts[1].starts_with("aws")
            && parts[2] == "sqs"
            && parts[3..].iter().all(|part| !part.is_empty());
        well_formed.then(|| Self(text.into()))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region's part.
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account's part.
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        self.part(5)
    }

    fn part(&self, index: usize) -> &str {
        self.0.split(':').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for QueueArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A queue's number inside one broker: never used again, also not after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// A message attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Of a `String` or `Number` type.
    Text(String),
    /// Of a `Binary` type.
    Binary(Bytes),
}

impl AttributeValue {
    /// The bytes that count and are hashed.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// One message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAttribute {
    /// Its name, unique in the message.
    pub name: String,
    /// `String`, `Number` or `Binary`, with a custom suffix after a dot.
    pub data_type: String,
    /// Its value; `None` when the caller sent none, which is an error.
    pub value: Option<AttributeValue>,
}

/// What a caller sends, hashed before the broker is locked.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Body; `None` when absent.
    pub body: Option<String>,
    /// MD5 of the body.
    pub md5_body: [u8; 16],
    /// Attributes, sorted by name.
    pub attributes: Vec<MessageAttribute>,
    /// MD5 of the attributes; `None` without any.
    pub md5_attributes: Option<[u8; 16]>,
    /// The one system attribute that can be sent.
    pub trace_header: Option<String>,
    /// MD5 of the system attributes; `None` without any.
    pub md5_system_attributes: Option<[u8; 16]>,
    /// Seconds until it is visible; the queue's own when `None`.
    pub delay_seconds: Option<i64>,
    /// FIFO group, or the tenant on a standard queue.
    pub group: Option<String>,
    /// FIFO deduplication id.
    pub deduplication: Option<String>,
}

impl Draft {
    /// A plain message; set the other fields as needed, then call [`Draft::hashed`].
    pub fn text(body: impl Into<String>) -> Self {
        Self { body: Some(body.into()), ..Self::default() }.hashed()
    }

    /// Sorts the attributes and computes the three hashes.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.attributes.sort_by(|a, b| a.name.cmp(&b.name));
        self.md5_body = crate::digest::md5_text(self.body.as_deref().unwrap_or_default());
        self.md5_attributes = crate::digest::md5_attributes(self.attributes.iter());
        self.md5_system_attributes = self.trace_header.as_ref().and_then(|header| {
            let attribute = MessageAttribute {
                name: "AWSTraceHeader".to_owned(),
                data_type: "String".to_owned(),
                value: Some(AttributeValue::Text(header.clone())),
            };
            crate::digest::md5_attributes(std::iter::once(&attribute))
        });
        self
    }

    /// Bytes that count against the message and batch limits.
    pub fn size(&self) -> usize {
        let attributes: usize = self
            .attributes
            .iter()
            .map(|a| {
                a.name.len()
                    + a.data_type.len()
                    + a.value.as_ref().map_or(0, |value| value.as_bytes().len())
            })
            .sum();
        self.body.as_ref().map_or(0, String::len) + attributes
    }
}

/// A message's content: never changes after the send, shared by whoever looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The id that the sender got.
    pub id: Uuid,
    /// Body.
    pub body: String,
    /// MD5 of the body.
    pub md5_body: [u8; 16],
    /// Attributes, sorted by name, each with a value.
    pub attributes: Vec<MessageAttribute>,
    /// MD5 of all attributes; `None` without any.
    pub md5_attributes: Option<[u8; 16]>,
    /// Trace header as sent.
    pub trace_header: Option<String>,
    /// FIFO group, or the tenant on a standard queue.
    pub group: Option<Arc<str>>,
    /// FIFO deduplication id, given or computed.
    pub deduplication: Option<String>,
    /// Who sent it: the account.
    pub sender: Arc<str>,
}

/// A message as one receive hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The content.
    pub message: Arc<Message>,
    /// Names this receive.
    pub receipt: String,
    /// How often it was handed out, this time included.
    pub receives: u32,
    /// When it was sent, milliseconds since the epoch.
    pub sent_at_ms: i64,
    /// When it was first received, milliseconds since the epoch.
    pub first_received_at_ms: i64,
    /// FIFO only.
    pub sequence: Option<SequenceNumber>,
    /// The queue it was dead-lettered from.
    pub dead_letter_source: Option<Arc<str>>,
}

/// A FIFO message's place: printed with 20 digits, increasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// AWS's numbers have 20 digits from the first one on, and no digit that repeats for long: tests
    /// that blank out an account of twelve zeros would find it in a round number.
    const BASE: u64 = 18_140_737_488_355_328_000;
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", Self::BASE.saturating_add(self.0))
    }
}
