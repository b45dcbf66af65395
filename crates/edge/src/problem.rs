//! Problem documents (RFC 9457): what went wrong, where, what was expected, what to do and where to
//! read more, from the one registry of error codes. They never carry a secret or a stack trace.

use axum::response::{IntoResponse, Response};
use contracts::ErrorCode;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the body; empty for the body itself.
    #[schema(example = "/actor/id")]
    pub pointer: String,
    /// What was expected, and what stood there.
    #[schema(example = "expected a string of 1 to 256 characters, got a number")]
    pub detail: String,
}

/// A refusal on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Entry of the registry.
    pub code: ErrorCode,
    /// This occurrence, for a person.
    pub detail: String,
    /// The fields that are wrong, where fields are.
    pub errors: Vec<FieldProblem>,
    /// Whole seconds until it is worth trying again.
    pub retry_after: Option<u32>,
    /// Boxed, since most problems have none and results carry them by value.
    headers: Option<Box<HeaderMap>>,
}

/// The document as it is sent.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct Document<'a> {
    /// Link to the explanation of the code.
    #[serde(rename = "type")]
    #[schema(example = "/docs#invalid-field")]
    kind: String,
    /// What the code means.
    title: &'a str,
    /// HTTP status.
    status: u16,
    /// Stable name of the kind of problem.
    #[schema(example = "invalid-field")]
    code: &'a str,
    /// This occurrence.
    detail: &'a str,
    /// What to do about it.
    hint: &'a str,
    /// Whether the same request may succeed later, unchanged.
    retryable: bool,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
    /// Seconds until it is worth trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
    /// Name it when you ask for help.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// Where the explanation of a code is found: the documentation page that the same server offers.
pub fn docs_link(code: &str) -> String {
    format!("/docs#{code}")
}

impl Problem {
    /// A problem of that code.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None, headers: None }
    }

    /// Names the fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldProblem>) -> Self {
        self.errors = errors;
        self
    }

    /// Says when to try again, in whole seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// The document as JSON.
    pub fn to_json(&self, request_id: Option<&str>) -> Vec<u8> {
        let document = Document {
            kind: docs_link(self.code.code),
            title: self.code.title,
            status: self.code.status,
            code: self.code.code,
            detail: &self.detail,
            hint: self.code.hint,
            retryable: self.code.retryable,
            errors: &self.errors,
            retry_after: self.retry_after,
            request_id,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The response, with the request's id where it is known.
    pub fn respond(&self, request_id: Option<&str>) -> Response {
        let status =
            StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.to_json(request_id)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"flotilla\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        for (name, value) in self.headers.iter().flat_map(|headers| headers.iter()) {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Leaves the problem beside the response, so that the outermost layer can add the request's id.
    fn into_response(self) -> Response {
        let mut response = self.respond(None);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_all_that_helps() {
        let problem = Problem::new(contracts::errors::INVALID_FIELD, "1 field")
            .with_errors(vec![FieldProblem { pointer: "/a".into(), detail: "expected b".into() }])
            .retry_after(7);
        let value: serde_json::Value =
            serde_json::from_slice(&problem.to_json(Some("r1"))).unwrap();
        assert_eq!(value["type"], "/docs#invalid-field");
        assert_eq!(value["status"], 422);
        assert_eq!(value["errors"][0]["pointer"], "/a");
        assert_eq!(value["request_id"], "r1");
        let response = problem.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    }

    #[test]
    fn every_code_of_the_registry_is_a_status() {
        for code in contracts::errors::CODES {
            assert!(StatusCode::from_u16(code.status).is_ok(), "{}", code.code);
        }
    }
}
