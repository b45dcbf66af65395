//! `fleetctl tail`: logs as they arrive, over the live WebSocket. It goes on from its last cursor
//! when the connection breaks, so nothing is missed; repeats are dropped by id.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::search::{Filters, cells};
use crate::api::Api;
use crate::failure::Failure;
use crate::output::{Output, line};
use crate::settings::Settings;

/// Connections that may fail in a row before it gives up: some four minutes, for an API that is
/// being replaced.
const FAILURES_MAX: u32 = 30;
/// The same before it has ever followed: the address is wrong, or nobody is there.
const FAILURES_AT_FIRST_MAX: u32 = 5;
/// Longest wait before the next try; the first is a tenth of a second, doubling.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A connection is there within this, or it is tried anew.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The server sends a heartbeat at least this often; silence beyond it is a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Ids remembered to drop repeats.
const IDS_KEPT: usize = 10_000;

/// Follows the live tail.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl tail
  fleetctl tail --action user.login --outcome denied --json
  fleetctl tail --after CURSOR
Stops at Ctrl-C and prints the cursor that goes on from there.")]
pub(crate) struct Tail {
    #[command(flatten)]
    filters: Filters,
    /// Go on after this cursor; from now on when left out
    #[arg(long)]
    after: Option<String>,
    /// Stop after so many logs
    #[arg(long)]
    count: Option<u64>,
}

/// What has been read.
struct Reader {
    cursor: Option<String>,
    ids: HashSet<String>,
    order: VecDeque<String>,
    left: Option<u64>,
    /// Whether the server has ever told a cursor.
    has_followed: bool,
}

/// Why a connection ended.
enum Ended {
    /// As many as were asked for.
    Enough,
    /// Broken or closed; go on from the cursor.
    Broken(String),
}

impl Tail {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let api = settings.api()?;
        let mut reader = Reader {
            cursor: self.after.clone(),
            ids: HashSet::new(),
            order: VecDeque::new(),
            left: self.count,
            has_followed: false,
        };
        let outcome = tokio::select! {
            outcome = self.follow(&api, &mut reader, output) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        if let Some(cursor) = &reader.cursor {
            output.note(&format!("to go on from here: fleetctl tail --after {cursor}"));
        }
        outcome
    }

    async fn follow(&self, api: &Api, reader: &mut Reader, output: &Output) -> Result<(), Failure> {
        let mut failures = 0;
        let mut wait = Duration::from_millis(100);
        loop {
            let before = reader.cursor.clone();
            let why = match self.connect(api, reader, output).await? {
                Ended::Enough => return Ok(()),
                Ended::Broken(why) => why,
            };
            if reader.cursor != before {
                (failures, wait) = (0, Duration::from_millis(100));
            }
            failures += 1;
            let most = if reader.has_followed { FAILURES_MAX } else { FAILURES_AT_FIRST_MAX };
            if failures > most {
                return Err(Failure::unavailable(format!("the live tail broke off: {why}"))
                    .hint("is ingest-api running, and is FLOTILLA_URL its address?"));
            }
            output.note(&format!("connection ended ({why}); going on from the cursor"));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    async fn connect(
        &self,
        api: &Api,
        reader: &mut Reader,
        output: &Output,
    ) -> Result<Ended, Failure> {
        let mut parameters = self.filters.parameters();
        parameters.extend(reader.cursor.clone().map(|cursor| ("after".to_owned(), cursor)));
        let url = api.web_socket("/logs/live", &parameters)?;
        let mut request = url.into_client_request().map_err(Failure::config)?;
        let bearer =
            api.bearer()?.parse().map_err(|_| Failure::config("FLOTILLA_API_KEY is no key"))?;
        request.headers_mut().insert("authorization", bearer);
        let connecting = tokio_tungstenite::connect_async(request);
        let connected = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
        let Ok(connected) = connected else { return Ok(Ended::Broken("no answer".to_owned())) };
        let mut socket = match connected {
            Ok((socket, _)) => socket,
            Err(Error::Http(answer)) if answer.status().is_client_error() => {
                let body = answer.body().as_deref().unwrap_or_default().to_vec();
                return Err(crate::api::problem(answer.status(), &body));
            }
            Err(error) => return Ok(Ended::Broken(error.to_string())),
        };
        let mut announced = reader.cursor.is_some();
        loop {
            let frame = match tokio::time::timeout(SILENCE_MAX, socket.next()).await {
                Err(_) => return Ok(Ended::Broken("silence".to_owned())),
                Ok(None) => return Ok(Ended::Broken("closed".to_owned())),
                Ok(Some(Err(error))) => return Ok(Ended::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            match frame {
                Message::Text(text) if reader.take(text.as_str(), output) => {
                    return Ok(Ended::Enough);
                }
                Message::Close(why) => {
                    let why = why.map(|frame| format!("{} {}", frame.code, frame.reason));
                    return Ok(Ended::Broken(why.unwrap_or_else(|| "closed".to_owned())));
                }
                _ => {}
            }
            if !announced && reader.cursor.is_some() {
                output.note("following");
                announced = true;
            }
        }
    }
}

impl Reader {
    /// Takes a frame; true when enough were read.
    fn take(&mut self, text: &str, output: &Output) -> bool {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return false };
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
            self.has_followed = true;
        }
        let log = &frame["log"];
        let fresh = log["id"].as_str().is_some_and(|id| self.is_new(id));
        if frame["type"] != "log" || !fresh {
            return false;
        }
        line(&if output.json { log.to_string() } else { cells(log).join("  ") });
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.left == Some(0)
    }

    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        let full = self.order.len() > IDS_KEPT;
        if let Some(oldest) = full.then(|| self.order.pop_front()).flatten() {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;
    use crate::output::Output;
    use std::collections::{HashSet, VecDeque};

    #[test]
    fn repeats_are_dropped_and_every_cursor_is_kept() {
        let (ids, order) = (HashSet::new(), VecDeque::new());
        let mut reader = Reader { cursor: None, ids, order, left: Some(2), has_followed: false };
        let output = Output::new(true);
        let log = |id: &str, cursor: &str| {
            format!(r#"{{"type":"log","cursor":"{cursor}","log":{{"id":"{id}"}}}}"#)
        };
        assert!(!reader.take(&log("a", "1"), &output));
        assert!(!reader.take(&log("a", "2"), &output), "a repeat does not count");
        assert!(!reader.take(r#"{"type":"heartbeat","cursor":"3"}"#, &output));
        assert_eq!(reader.cursor.as_deref(), Some("3"));
        assert!(reader.take(&log("b", "4"), &output));
    }
}
