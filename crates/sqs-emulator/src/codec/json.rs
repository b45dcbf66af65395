//! AWS JSON 1.0: one POST, the action in `X-Amz-Target`, a JSON object each way.

mod requests;
mod responses;

use bytes::Bytes;
use serde::Serialize;

use super::{Reply, members};
use crate::errors::{ErrorKind, SqsError};
use crate::model::Caller;
use crate::operations::{Request, Response};

/// What the protocol's messages are.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// What stands before the action.
const TARGET_PREFIX: &str = "AmazonSQS.";

/// Reads a request.
pub fn decode(target: Option<&str>, body: &[u8], caller: &Caller) -> Result<Request, SqsError> {
    let action = target.and_then(|target| target.strip_prefix(TARGET_PREFIX));
    let action = action.ok_or_else(|| unknown(target.unwrap_or_default()))?;
    let request = members::request(action, &requests::Body(body), caller)?;
    request.ok_or_else(|| unknown(action))
}

/// Writes a reply. `host` is the one that the caller used.
pub fn encode(response: &Response, host: &str) -> Reply {
    Reply {
        status: 200,
        content_type: CONTENT_TYPE,
        query_error: None,
        body: responses::encode(response, host).into(),
    }
}

/// Writes an error.
pub fn encode_error(error: &SqsError) -> Reply {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        shape: &'static str,
        message: &'a str,
    }
    let fault = if error.kind.is_sender_fault() { "Sender" } else { "Receiver" };
    let body = Body { shape: error.kind.shape(), message: &error.message };
    Reply {
        status: error.kind.status(),
        content_type: CONTENT_TYPE,
        query_error: Some(format!("{};{fault}", error.kind.query_code())),
        body: Bytes::from(serde_json::to_vec(&body).unwrap_or_default()),
    }
}

fn unknown(action: &str) -> SqsError {
    SqsError::new(
        ErrorKind::UnknownOperation,
        format!("The action '{action}' is not one of Amazon SQS in AWS JSON 1.0."),
    )
}
