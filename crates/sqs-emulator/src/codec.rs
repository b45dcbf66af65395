//! Wire protocols: bytes to [`Request`](crate::Request), [`Response`](crate::Response) to bytes. JSON
//! is here; the older query protocol is a second module of the same shape.

pub mod credentials;
pub mod json;
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
