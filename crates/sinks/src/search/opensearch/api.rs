//! One HTTP call to OpenSearch: authentication, a time limit, and an honest account of how it
//! failed. It knows no index and no document.

use std::time::Duration;

use opensearch::auth::Credentials;
use opensearch::http::headers::{CONTENT_TYPE, HeaderMap, HeaderValue};
use opensearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use opensearch::http::{Method, Url};
use queue_core::taxonomy::retry_after;
use queue_core::{Clock, SystemClock, Trouble};
use serde_json::Value;

use super::NAME;
use crate::error::{SinkError, SinkErrorKind};
use crate::search::config::{SearchAuth, SearchConfig};

/// Characters of an error's text that are kept for people.
const ERROR_TEXT_MAX: usize = 500;

/// How a call failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// No answer, or an answer that refuses the whole call.
    Whole(SinkError),
    /// The head of a successful answer came, then less than a body: the call may have worked.
    CutOff(String),
}

impl From<CallError> for SinkError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Whole(error) => error,
            CallError::CutOff(why) => Self::new(NAME, SinkErrorKind::Unavailable, why),
        }
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// When it said to come back.
    retry_after: Option<Duration>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a success as JSON; else the error it is.
    pub(super) fn json(self) -> Result<Value, SinkError> {
        if !self.is_success() {
            return Err(self.into_error());
        }
        serde_json::from_str(&self.body).map_err(|error| {
            SinkError::new(NAME, SinkErrorKind::Refused, format!("the answer is not JSON: {error}"))
        })
    }

    /// The refusal as an error: 408, 429 and 5xx pass, everything else needs a person.
    pub(super) fn into_error(self) -> SinkError {
        let kind = match Trouble::of_status(self.status) {
            Some(Trouble::Timeout) => SinkErrorKind::Timeout,
            Some(Trouble::Throttled) => SinkErrorKind::Throttled,
            Some(Trouble::Unavailable) if self.status >= 500 => SinkErrorKind::Unavailable,
            _ => SinkErrorKind::Refused,
        };
        let text = format!("status {}: {}", self.status, reason(&self.body));
        SinkError::new(NAME, kind, text).retry_after(self.retry_after)
    }
}

/// The reason inside an error's body, else its beginning.
fn reason(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let found = parsed.as_ref().and_then(|body| {
        let error = body.get("error")?;
        let kind = error.get("type")?.as_str()?;
        Some(format!("{kind}: {}", error.get("reason")?.as_str()?))
    });
    found.unwrap_or_else(|| body.to_owned()).chars().take(ERROR_TEXT_MAX).collect()
}

/// A client of one cluster. It follows no redirect of its own and retries nothing.
#[derive(Clone, Debug)]
pub(super) struct Api {
    transport: Transport,
}

impl Api {
    /// A client that authenticates as the configuration says.
    pub(super) async fn new(config: &SearchConfig) -> Result<Self, SinkError> {
        let credentials = match config.opensearch_auth {
            SearchAuth::Aws => {
                let behavior = aws_config::BehaviorVersion::latest();
                Some(signing(&aws_config::defaults(behavior).load().await)?)
            }
            SearchAuth::Auto => config.opensearch_username.clone().map(|user| {
                Credentials::Basic(user, config.opensearch_password.clone().unwrap_or_default())
            }),
        };
        Self::with(config, credentials)
    }

    /// A client that signs with these credentials.
    pub(super) fn signed(
        config: &SearchConfig,
        aws: &aws_config::SdkConfig,
    ) -> Result<Self, SinkError> {
        Self::with(config, Some(signing(aws)?))
    }

    fn with(config: &SearchConfig, credentials: Option<Credentials>) -> Result<Self, SinkError> {
        let url = config.opensearch_url.as_deref().unwrap_or_default();
        let url = Url::parse(url).map_err(|error| refused(format!("OPENSEARCH_URL: {error}")))?;
        let pool = SingleNodeConnectionPool::new(url);
        let mut builder = TransportBuilder::new(pool).timeout(config.timeout());
        if let Some(credentials) = credentials {
            builder = builder.auth(credentials);
        }
        let transport = builder.build().map_err(|error| refused(error.to_string()))?;
        Ok(Self { transport })
    }

    /// One call. `path` starts without a slash.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, CallError> {
        let mut headers = HeaderMap::new();
        if path.ends_with("_bulk") {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        }
        let sent = self.transport.send(method, path, headers, Some(query), body, None).await;
        let response = sent.map_err(|error| CallError::Whole(unanswered(&error)))?;
        let status = response.status_code().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after")
            .and_then(|value| retry_after(value, header("date"), SystemClock.now()));
        match response.text().await {
            Ok(body) => Ok(Answer { status, body, retry_after }),
            Err(error) if (200..300).contains(&status) => {
                Err(CallError::CutOff(format!("the answer was cut off: {}", chain(&error))))
            }
            Err(error) => Err(CallError::Whole(
                Answer { status, body: chain(&error), retry_after }.into_error(),
            )),
        }
    }

    /// One call with a JSON body and a JSON answer; anything but a success is an error.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, SinkError> {
        self.call(method, path, query, body.map(Value::to_string)).await?.json()
    }
}

fn signing(aws: &aws_config::SdkConfig) -> Result<Credentials, SinkError> {
    Credentials::try_from(aws)
        .map_err(|error| refused(format!("OPENSEARCH_AUTH=aws: {error}; set AWS_REGION")))
}

fn refused(why: String) -> SinkError {
    SinkError::new(NAME, SinkErrorKind::Refused, why)
}

fn unanswered(error: &opensearch::Error) -> SinkError {
    let kind = if error.is_timeout() { SinkErrorKind::Timeout } else { SinkErrorKind::Unavailable };
    SinkError::new(NAME, kind, chain(error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().take(ERROR_TEXT_MAX).collect()
}
