//! The query protocol of 2012-11-05: a form in a POST's body or a GET's query, on `/` or on a queue's
//! URL, and XML back. Older SDKs and `curl` speak it.

mod form;
mod negotiated;
mod requests;
mod responses;
mod xml;

use super::{Reply, members, urls};
use crate::errors::{ErrorKind, SqsError};
use crate::model::Caller;
use crate::operations::{Request, Response};
use form::Fields;

/// What the protocol's replies are.
pub const CONTENT_TYPE: &str = "text/xml";

/// A request, and the action that its reply names.
#[derive(Debug)]
pub struct Call {
    /// Of the 23.
    pub action: &'static str,
    /// What it asks for.
    pub request: Request,
}

/// Reads a request; `None` when it names no action, for [`no_action`]. `path` and `query` are those of
/// its URL.
pub fn decode(
    path: &str,
    query: Option<&str>,
    body: &[u8],
    caller: &Caller,
) -> Result<Option<Call>, SqsError> {
    let fields = Fields::parse([query.unwrap_or_default().as_bytes(), body])?;
    let Some(name) = fields.text("Action").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let path = urls::parse(path, caller).map(|_| path.to_owned());
    // On a queue's own URL only what concerns that queue can be asked.
    let elsewhere = path.is_some() && ["CreateQueue", "ListQueues"].contains(&name.as_str());
    let action = members::known(&name).filter(|_| !elsewhere).ok_or_else(|| not_here(&name))?;
    let request = members::request(action, &requests::Form { fields, path }, caller)?;
    request.map(|request| Some(Call { action, request })).ok_or_else(|| not_here(action))
}

/// The key and the region that a URL signed for later use carries, as `X-Amz-Credential` spells them.
pub fn credential(query: Option<&str>) -> Option<String> {
    let fields = Fields::parse([query?.as_bytes()]).ok()?;
    fields.text("X-Amz-Credential").or_else(|| fields.text("AWSAccessKeyId"))
}

/// How a caller wants replies written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Unless it says otherwise.
    Xml,
    /// When that is what it accepts.
    Json,
}

impl Format {
    /// By the `Accept` header.
    pub fn of(accept: Option<&str>) -> Self {
        if accept == Some(negotiated::CONTENT_TYPE) { Self::Json } else { Self::Xml }
    }

    fn reply(self, status: u16, body: Vec<u8>) -> Reply {
        let content_type = match self {
            Self::Xml => CONTENT_TYPE,
            Self::Json => negotiated::CONTENT_TYPE,
        };
        Reply { status, content_type, query_error: None, body: body.into() }
    }
}

/// Writes a reply. `host` is the one that the caller used.
pub fn encode(
    format: Format,
    action: &str,
    response: &Response,
    host: &str,
    request_id: &str,
) -> Reply {
    let body = match format {
        Format::Xml => responses::encode(action, response, host, request_id),
        Format::Json => negotiated::encode(action, response, host, request_id),
    };
    format.reply(200, body)
}

/// Writes an error.
pub fn encode_error(format: Format, error: &SqsError, request_id: &str) -> Reply {
    let message = match error.kind {
        // The one text that is another than in JSON.
        ErrorKind::QueueDoesNotExist => "The specified queue does not exist for this wsdl version.",
        _ => &error.message,
    };
    let body = match format {
        Format::Xml => responses::encode_error(error, message, request_id),
        Format::Json => negotiated::encode_error(error, message, request_id),
    };
    format.reply(error.kind.status(), body)
}

/// What a request without an action gets.
pub fn no_action() -> Reply {
    let body = b"<UnknownOperationException/>\n".as_slice();
    Reply { status: 404, content_type: CONTENT_TYPE, query_error: None, body: body.into() }
}

fn not_here(action: &str) -> SqsError {
    SqsError::new(
        ErrorKind::UnknownOperation,
        format!("The action {action} is not valid for this endpoint."),
    )
}
