//! One POST: a connection of its own, no proxy, no redirect, no second try, a bounded answer; and the
//! difference between what was certainly not sent and what may have arrived.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue_core::Clock;
use queue_core::taxonomy::retry_after;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;

use super::guard::{Forbidden, Guard, Guarded, System};
use super::target::TargetUrl;

/// A connection that is not up by then will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 20 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// Its first bytes as text, damaged ones replaced.
    pub(super) body: String,
    /// All of the body arrived, within the limit.
    pub(super) whole: bool,
}

/// No answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The address is not allowed.
    Forbidden(String),
    /// No connection: nothing was sent.
    NotSent(String),
    /// It was sent, or a part of it.
    Unknown(String),
}

/// The client; cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    /// Made at the first call: what HTTPS needs of the machine must not keep a process from starting.
    inner: Arc<OnceLock<reqwest::Client>>,
    guard: Guard,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(guard: Guard, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::default(), guard, timeout, clock }
    }

    fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        if let Some(client) = self.inner.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded::new(self.guard, Arc::new(System)))
            // A proxy would look names up by itself, behind the guard.
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            // A kept connection may die under a request, which then looks like one that was sent.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .timeout(self.timeout)
            // Fails where TLS cannot be set up, e.g. without any root certificate.
            .build()?;
        Ok(self.inner.get_or_init(|| client))
    }

    /// Posts JSON.
    pub(super) async fn post(
        &self,
        url: &TargetUrl,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, NoAnswer> {
        let checked = self.guard.check_url(url.reveal());
        checked.map_err(|error| NoAnswer::Forbidden(error.to_string()))?;
        let request = self
            .client()
            .map_err(|error| self.no_answer(error))?
            .post(url.reveal().clone())
            .header("content-type", "application/json")
            .headers(headers)
            .body(body);
        let answer = request.send().await.map_err(|error| self.no_answer(error))?;
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header(RETRY_AFTER)
            .and_then(|value| retry_after(value, header(DATE), self.clock.now()));
        let status = answer.status().as_u16();
        let (body, whole) = read(answer).await;
        Ok(Answer { status, retry_after, body, whole })
    }

    fn no_answer(&self, error: reqwest::Error) -> NoAnswer {
        let error = error.without_url();
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(forbidden) = inner.downcast_ref::<Forbidden>() {
                return NoAnswer::Forbidden(forbidden.to_string());
            }
            causes.push(inner.to_string());
            cause = inner.source();
        }
        let text =
            causes.pop().map_or_else(|| error.to_string(), |last| format!("{error}: {last}"));
        if error.is_connect() || error.is_builder() {
            NoAnswer::NotSent(text)
        } else if error.is_timeout() {
            NoAnswer::Unknown(format!("no answer within {:?}", self.timeout))
        } else {
            NoAnswer::Unknown(text)
        }
    }
}

/// The body's beginning, and whether that is all.
async fn read(mut answer: reqwest::Response) -> (String, bool) {
    let mut body = Vec::new();
    let whole = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    break false;
                }
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&body).into_owned(), whole)
}
