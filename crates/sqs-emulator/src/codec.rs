//! Wire protocols: bytes to [`Request`](crate::Request), [`Response`](crate::Response) to bytes. Two
//! of the same shape over the same operations, JSON and the older query protocol.

pub mod credentials;
pub mod json;
pub(crate) mod members;
pub mod query;
pub mod urls;

use bytes::Bytes;

/// A reply, ready for HTTP.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `x-amzn-query-error`, on errors.
    pub query_error: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// AWS JSON 1.0.
    Json,
    /// Forms and XML.
    Query,
}

impl Protocol {
    /// A target makes it JSON, whatever `curl` calls the body; without one the content type says.
    pub fn of(target: Option<&str>, content_type: Option<&str>) -> Self {
        let json = content_type.is_some_and(|of| of.starts_with("application/x-amz-json"));
        if target.is_some() || json { Self::Json } else { Self::Query }
    }
}
