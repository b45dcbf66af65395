//! How long it takes from `POST` until a search finds the log, at a steady load. Every accepted id is
//! looked for until it is found or the deadline has passed, stragglers one by one, so that what is
//! slow counts with the delay that was seen and not as nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::Client;
use crate::load::{self, Answer, Load};
use crate::{ids, machine, samples};

/// The seed's load.
pub const OFFERED: f64 = 1_000.0;
/// Between two looks; what is found was there for up to this long, which counts against us.
const PAUSE: Duration = Duration::from_millis(100);
/// Older than this is looked for in a window of its own, so that one straggler does not make every
/// look read everything after it.
const YOUNG: Duration = Duration::from_secs(3);
/// How much time a straggler's window covers: others are usually near it.
const WINDOW: Duration = Duration::from_millis(300);
/// After the last answer; what is not found by then is lost, and counts with this delay at least.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
pub struct Seen {
    /// From the planned start of each request, in seconds, sorted.
    pub delays: Vec<f64>,
    /// Every accepted id.
    pub accepted: Vec<u128>,
    /// When the load began, by the server's clock.
    pub since: DateTime<Utc>,
}

impl Seen {
    /// The delay that a share of the logs stayed below.
    pub fn percentile(&self, share: f64) -> f64 {
        let at = (self.delays.len().saturating_sub(1) as f64 * share).ceil() as usize;
        self.delays.get(at).copied().unwrap_or(f64::INFINITY)
    }
}

/// An accepted log: when its request was to start, and what the server called its time.
struct Accepted {
    id: u128,
    planned: Instant,
    recorded_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Body<'a> {
    id: &'a str,
    recorded_at: DateTime<Utc>,
}

/// What is known so far.
struct Watch {
    client: Client,
    answers: UnboundedReceiver<Answer>,
    accepted: Vec<Accepted>,
    /// Not found yet, by time.
    missing: BTreeMap<(DateTime<Utc>, u128), Instant>,
    /// When an id was first seen.
    found: HashMap<u128, Instant>,
    /// Where the next straggler is looked for.
    straggler: Option<(DateTime<Utc>, u128)>,
}

/// Sends at [`OFFERED`] for `seconds`, and watches until everything is found or the deadline passes.
pub async fn measure(addr: SocketAddr, key: &str, seconds: u64) -> anyhow::Result<Seen> {
    let since = machine::now();
    let (sender, answers) = unbounded_channel();
    let load = tokio::spawn(load::run(Load {
        addr,
        connections: 16,
        duration: Duration::from_secs(seconds),
        rate: Some(OFFERED),
        requests: samples::posts(Some(&format!("Bearer {key}"))),
        answers: Some(sender),
    }));
    let mut watch = Watch {
        client: Client::new(addr, key),
        answers,
        accepted: Vec::new(),
        missing: BTreeMap::new(),
        found: HashMap::new(),
        straggler: None,
    };
    let mut deadline = None;
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let over = load.is_finished();
        watch.take_in()?;
        if over && watch.missing.is_empty() {
            break;
        }
        if over && deadline.is_none() {
            deadline = Some(Instant::now() + PATIENCE);
        }
        watch.look().await?;
        tokio::time::sleep(PAUSE).await;
    }
    load.await??.all_taken()?;
    Ok(watch.finish(since))
}

impl Watch {
    /// Notes what was accepted since the last look.
    fn take_in(&mut self) -> anyhow::Result<()> {
        while let Ok(answer) = self.answers.try_recv() {
            let body: Body = serde_json::from_slice(&answer.body).context("an answer")?;
            let (id, planned) = (ids::parse(body.id)?, answer.planned);
            if !self.found.contains_key(&id) {
                self.missing.insert((body.recorded_at, id), planned);
            }
            self.accepted.push(Accepted { id, planned, recorded_at: body.recorded_at });
        }
        Ok(())
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let horizon = machine::now() - YOUNG;
        let young = self.missing.range((horizon, 0)..).next().map(|((at, _), _)| *at);
        if let Some(from) = young {
            self.look_in(from, None).await?;
        }
        let old = |key: &(DateTime<Utc>, u128)| key.0 < horizon;
        let from = self.straggler.unwrap_or((DateTime::UNIX_EPOCH, 0));
        let next = self.missing.range(from..).map(|(key, _)| *key).find(old);
        let next = next.or_else(|| self.missing.keys().copied().find(old));
        if let Some((from, _)) = next {
            self.look_in(from, Some(from + WINDOW)).await?;
            self.straggler = Some((from + WINDOW, 0));
        }
        Ok(())
    }

    /// Reads every page of a window; an id counts as found when its page is there.
    async fn look_in(
        &mut self,
        from: DateTime<Utc>,
        to: Option<DateTime<Utc>>,
    ) -> anyhow::Result<()> {
        let mut cursor = None;
        loop {
            let (page, next) = self.client.page((from, to), cursor.as_deref()).await?;
            let now = Instant::now();
            for id in page {
                self.found.entry(id).or_insert(now);
            }
            match next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        self.missing.retain(|(_, id), _| !self.found.contains_key(id));
        Ok(())
    }

    fn finish(self, since: DateTime<Utc>) -> Seen {
        let end = Instant::now();
        let delay = |log: &Accepted| {
            let seen = self.found.get(&log.id).copied().unwrap_or(end);
            seen.duration_since(log.planned).as_secs_f64()
        };
        let mut delays: Vec<f64> = self.accepted.iter().map(delay).collect();
        delays.sort_by(f64::total_cmp);
        let first = self.accepted.iter().map(|log| log.recorded_at).min().unwrap_or(since);
        let accepted = self.accepted.iter().map(|log| log.id).collect();
        Seen { delays, accepted, since: first }
    }
}
