//! The load: clients that write down what they were told, as ids and hashes, while everything under
//! them goes down. Most repeat a request under its idempotency key until it is accepted; the others
//! have none, and what they were not told stays in doubt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use queue_core::Outgoing;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::fleet::Fleet;

/// Clients at the same time.
pub(crate) const CLIENTS: u64 = 12;
/// Of so many clients one sends without a key.
const KEYLESS_ONE_IN: u64 = 4;
/// Events per second and client, at most, while everything is well.
const RATE: u64 = 50;
/// Events per request.
const BULK: std::ops::RangeInclusive<usize> = 1..=200;
/// Until a request is answered.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a request is repeated once the storm is over.
const REPEATED: Duration = Duration::from_secs(180);
/// Between two poisoned messages.
const POISON_EVERY: Duration = Duration::from_secs(20);

/// SHA-256 of an event's text.
pub(crate) type Hash = [u8; 32];

/// What the clients wrote down.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Told as accepted.
    pub(crate) accepted: BTreeMap<Uuid, Hash>,
    /// Sent without a key and neither accepted nor known to be lost, by hash.
    pub(crate) doubtful: BTreeSet<Hash>,
    /// Poisoned messages that the queue took, by body.
    pub(crate) poison: BTreeSet<String>,
    /// Answers by status, 0 for none.
    pub(crate) answers: HashMap<u16, u64>,
}

/// The clients' shared state.
#[derive(Debug, Default)]
pub(crate) struct Load {
    notes: Mutex<Notes>,
    next: AtomicU64,
    stop: AtomicBool,
}

pub(crate) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

impl Load {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    /// No further requests; those under way are repeated until they are accepted.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Runs all clients until the load is stopped and every request with a key is accepted.
    pub(crate) async fn run(&self, fleet: &Fleet, seed: u64) -> anyhow::Result<()> {
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                load: self,
                fleet,
                http: reqwest::Client::new(),
                keyed: number % KEYLESS_ONE_IN != 0,
                random: StdRng::seed_from_u64(seed ^ (0xC11E << 16) ^ number),
            };
            client.run()
        });
        let all = futures_util::future::try_join_all(clients);
        tokio::try_join!(all, self.poison(fleet))?;
        Ok(())
    }

    /// Messages that no worker can read, straight onto the queue.
    async fn poison(&self, fleet: &Fleet) -> anyhow::Result<()> {
        let mut next = Instant::now();
        while !self.stopped() {
            if next <= Instant::now() {
                next += POISON_EVERY;
                let body = format!("{{\"poison\": {}", self.next.fetch_add(1, Ordering::Relaxed));
                let message = Outgoing { body: body.clone(), ..Outgoing::default() };
                while !matches!(
                    fleet.direct.queue.send(std::slice::from_ref(&message)).await.as_deref(),
                    Ok([Ok(())])
                ) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                self.notes().poison.insert(body);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

struct Client<'a> {
    load: &'a Load,
    fleet: &'a Fleet,
    http: reqwest::Client,
    keyed: bool,
    random: StdRng,
}

/// A request, and what is to be written down of it.
struct Request {
    body: String,
    key: Option<String>,
    hashes: Vec<Hash>,
}

impl Client<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        while !self.load.stopped() {
            let began = Instant::now();
            let request = self.request();
            let events = request.hashes.len() as u64;
            if self.keyed {
                self.until_accepted(&request).await?;
            } else {
                self.once(&request).await?;
            }
            tokio::time::sleep_until(began + Duration::from_millis(events * 1_000 / RATE)).await;
        }
        Ok(())
    }

    fn request(&mut self) -> Request {
        let events: Vec<String> = (0..self.random.random_range(BULK))
            .map(|_| {
                let n = self.load.next.fetch_add(1, Ordering::Relaxed);
                let pad = "x".repeat(self.random.random_range(0..400));
                format!(
                    "{{\"actor\":{{\"type\":\"user\",\"id\":\"u-{}\"}},\"action\":\"door.opened\",\
                     \"outcome\":\"success\",\"metadata\":{{\"n\":{n},\"pad\":\"{pad}\"}}}}",
                    n % 1_000
                )
            })
            .collect();
        let key = self.keyed.then(|| format!("chaos-{}", self.random.random::<u64>()));
        let hashes = events.iter().map(|event| hash(event)).collect();
        Request { body: format!("[{}]", events.join(",")), key, hashes }
    }

    /// The answer's status and body; `None` when there was none.
    async fn send(&self, request: &Request) -> Option<(u16, Value)> {
        let url = format!("{}/logs/bulk", self.fleet.api);
        let mut post = self.http.post(url).bearer_auth(&self.fleet.key).timeout(ANSWER);
        if let Some(key) = &request.key {
            post = post.header("idempotency-key", key);
        }
        let post = post.header("content-type", "application/json").body(request.body.clone());
        let answer = async {
            let answer = post.send().await.ok()?;
            let status = answer.status().as_u16();
            Some((status, answer.json().await.ok()?))
        };
        let answer = answer.await;
        let status = answer.as_ref().map_or(0, |(status, _)| *status);
        *self.load.notes().answers.entry(status).or_default() += 1;
        answer
    }

    async fn until_accepted(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut after_the_storm = None;
        loop {
            match self.send(request).await {
                Some((202, body)) => {
                    let ids = ids(&body, request.hashes.len())?;
                    let pairs = ids.into_iter().zip(&request.hashes);
                    let pairs = pairs.map(|(id, hash)| Ok((id.context("an id")?, *hash)));
                    let pairs = pairs.collect::<anyhow::Result<Vec<_>>>()?;
                    self.load.notes().accepted.extend(pairs);
                    return Ok(());
                }
                None | Some((207 | 409 | 503, _)) => {}
                Some((status, body)) => bail!("an answer that no outage explains: {status} {body}"),
            }
            if self.load.stopped() {
                let since = *after_the_storm.get_or_insert_with(Instant::now);
                ensure!(since.elapsed() < REPEATED, "not accepted {REPEATED:?} after the storm");
            }
            let pause = self.random.random_range(50..1_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn once(&mut self, request: &Request) -> anyhow::Result<()> {
        let told = match self.send(request).await {
            Some((202 | 207, body)) => ids(&body, request.hashes.len())?,
            None | Some((503, _)) => vec![None; request.hashes.len()],
            Some((status, body)) => bail!("an answer that no outage explains: {status} {body}"),
        };
        let mut notes = self.load.notes();
        for (id, hash) in told.into_iter().zip(&request.hashes) {
            match id {
                Some(id) => drop(notes.accepted.insert(id, *hash)),
                None => drop(notes.doubtful.insert(*hash)),
            }
        }
        Ok(())
    }
}

/// The ids of a bulk answer, in the order of its events; `None` for one that was not taken.
fn ids(body: &Value, events: usize) -> anyhow::Result<Vec<Option<Uuid>>> {
    let results = body["results"].as_array().context("results")?;
    ensure!(results.len() == events, "{} results for {events} events", results.len());
    results
        .iter()
        .map(|result| result["id"].as_str().map(|id| Ok(id.parse()?)).transpose())
        .collect()
}
