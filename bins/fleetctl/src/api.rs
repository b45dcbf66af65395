//! The public HTTP API as a client: one bounded try, or a few that honour `Retry-After`. Problem
//! documents become failures with their hint.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::failure::Failure;

/// Tries of one request at most, the first included.
pub(crate) const TRIES_MAX: u32 = 8;
/// Longest wait between two tries, whatever the server asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// First wait where the server names none; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// A request ends within this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the API is and who asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct ApiConfig {
    /// The HTTP API
    #[arg(long, env = "FLOTILLA_URL", default_value = "http://127.0.0.1:3000")]
    flotilla_url: String,
    /// API key, `flt_…`
    #[arg(long, env = "FLOTILLA_API_KEY", hide_env_values = true)]
    flotilla_api_key: Option<String>,
}

/// A client of one API with one key.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client,
    base: String,
    key: Option<chassis::Secret>,
}

impl Api {
    /// Checks the URL's form; connects to nothing.
    pub(crate) fn new(config: &ApiConfig) -> Result<Self, Failure> {
        let base = config.flotilla_url.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Failure::config(format!("FLOTILLA_URL is {base:?}, which is no URL"))
                .hint("e.g. FLOTILLA_URL=http://127.0.0.1:3000"));
        }
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| Failure::new(format!("no HTTP client: {error}")))?;
        Ok(Self { client, base, key: config.flotilla_api_key.clone().map(Into::into) })
    }

    /// The API's URL.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The key's text, for the `Authorization` header.
    pub(crate) fn bearer(&self) -> Result<String, Failure> {
        let key = self.key.as_ref().ok_or_else(|| {
            Failure::config("no API key: FLOTILLA_API_KEY is not set")
                .hint("`fleetctl keys create --tenant NAME --all-scopes` makes one")
        })?;
        Ok(format!("Bearer {}", key.reveal()))
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let url = format!("{}{path}", self.base);
        Ok(self.client.request(method, url).header("authorization", self.bearer()?))
    }

    /// The URL of a WebSocket with its query.
    pub(crate) fn web_socket(
        &self,
        path: &str,
        query: &[(String, String)],
    ) -> Result<String, Failure> {
        let request = self.client.get(format!("{}{path}", self.base)).query(query).build();
        let url = request.map_err(|error| Failure::config(error.without_url()))?.url().to_string();
        Ok(url.replacen("http", "ws", 1))
    }

    /// Whether the API answers at all; needs no key.
    pub(crate) async fn healthy(&self) -> Result<(), Failure> {
        let url = format!("{}/healthz", self.base);
        let answer = self.client.get(&url).timeout(crate::settings::PATIENCE).send().await;
        let status = answer.map_err(|error| self.silent(&error))?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Failure::unavailable(format!("{url} answers {status}")))
    }

    /// Sends until it is answered for good: 429 and 5xx are tried again, at most [`TRIES_MAX`] times,
    /// after what `Retry-After` says. `build` makes the request anew each time.
    pub(crate) async fn send(
        &self,
        build: impl Fn() -> Result<RequestBuilder, Failure>,
    ) -> Result<Value, Failure> {
        let mut wait = WAIT_FIRST;
        let mut tries = 1;
        loop {
            let failure = match build()?.send().await {
                Err(error) => self.silent(&error),
                Ok(answer) => {
                    let asked = retry_after(&answer);
                    let status = answer.status();
                    match read(answer).await {
                        Ok(value) => return Ok(value),
                        Err(failure) if !may_succeed_later(status) => return Err(failure),
                        Err(failure) => {
                            wait = asked.unwrap_or(wait).min(WAIT_MAX);
                            failure
                        }
                    }
                }
            };
            if tries >= TRIES_MAX {
                return Err(Failure {
                    message: format!("{} ({tries} tries)", failure.message),
                    ..failure
                });
            }
            tries += 1;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn silent(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() { "no answer in time" } else { "cannot be reached" };
        Failure::unavailable(format!("the API at {} {why}", self.base))
            .hint("is ingest-api running, and is FLOTILLA_URL its address?")
    }
}

fn may_succeed_later(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The body as JSON, or the problem document as a failure.
pub(crate) async fn read(answer: Response) -> Result<Value, Failure> {
    let status = answer.status();
    let body = answer.bytes().await.map_err(|error| {
        Failure::unavailable(format!("the answer broke off: {}", error.without_url()))
    })?;
    // A bulk answer tells about each event, also when every one was refused.
    let per_event = status == StatusCode::UNPROCESSABLE_ENTITY;
    let value: Option<Value> = per_event.then(|| serde_json::from_slice(&body).ok()).flatten();
    if let Some(value) = value.filter(|value| value["results"].is_array()) {
        return Ok(value);
    }
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Failure::new(format!("the API answered no JSON: {error}")));
    }
    Err(problem(status, &body))
}

/// An RFC 9457 document as a failure with the registry's hint.
pub(crate) fn problem(status: StatusCode, body: &[u8]) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    let mut message = format!("{status}: {} {}", text("title"), text("detail"));
    for error in document["errors"].as_array().into_iter().flatten() {
        let pointer = error["pointer"].as_str().unwrap_or_default();
        let detail = error["detail"].as_str().unwrap_or_default();
        message.push_str(&["\n  ", pointer, ": ", detail].concat());
    }
    let code = text("code");
    let code =
        if code.is_empty() { text("type").rsplit('#').next().unwrap_or_default() } else { code };
    let failure = Failure::new(message.trim_end());
    match contracts::ErrorCode::find(code) {
        Some(entry) => failure.hint(entry.hint),
        None => failure,
    }
}
