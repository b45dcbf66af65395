//! The API as a reader sees it: pages of logs, of which only the ids are kept.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;

use crate::ids;

/// Logs per page; the API's limit.
const PAGE: &str = "500";
/// Until an answer is there. A search engine that makes its first index answers nothing meanwhile.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Half-open, by the server's time.
pub type Window = (DateTime<Utc>, Option<DateTime<Utc>>);

/// A reader with a key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    logs: Vec<Shown<'a>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Shown<'a> {
    id: &'a str,
}

impl Client {
    /// A reader of the API at that address.
    pub fn new(addr: SocketAddr, key: &str) -> Self {
        let (http, url) = (reqwest::Client::new(), format!("http://{addr}/logs"));
        Self { http, url, key: key.to_owned() }
    }

    /// One page, newest first, and where the next one begins.
    pub async fn page(
        &self,
        window: Window,
        cursor: Option<&str>,
    ) -> anyhow::Result<(Vec<u128>, Option<String>)> {
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut query = vec![("limit", PAGE.to_owned()), ("from", text(window.0))];
        query.extend(window.1.map(|to| ("to", text(to))));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        let text = self.get(&query).await?;
        let page: Page = serde_json::from_str(&text)?;
        let ids = page.logs.iter().map(|log| ids::parse(log.id)).collect::<anyhow::Result<_>>()?;
        Ok((ids, page.next_cursor))
    }

    /// "Try again" is obeyed, for a while: whoever waits for the answer waits longer.
    async fn get(&self, query: &[(&str, String)]) -> anyhow::Result<String> {
        for _ in 0..TRIES {
            let request = self.http.get(&self.url).query(query).bearer_auth(&self.key);
            let answer = request.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            match status.as_u16() {
                200 => return Ok(text),
                503 => tokio::time::sleep(PAUSE).await,
                _ => bail!("{status}: {text}"),
            }
        }
        bail!("{TRIES} times 503")
    }

    /// Every id that a walk over all pages finds, repeats included.
    pub async fn walk(&self, window: Window) -> anyhow::Result<Vec<u128>> {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.page(window, cursor.as_deref()).await?;
            ids.extend(page);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(ids),
            }
        }
    }

    /// Sends one event, whether or not the server is there already; its id once it is accepted.
    pub async fn post(&self, event: &str) -> anyhow::Result<u128> {
        let request = self.http.post(&self.url).bearer_auth(&self.key);
        let request = request.header("content-type", "application/json").body(event.to_owned());
        let answer = request.send().await?;
        anyhow::ensure!(answer.status() == 202, "{}", answer.text().await?);
        let ids = ids::of_answers(&[[answer.bytes().await?].into_iter().collect()])?;
        ids.first().copied().context("an id")
    }
}
