//! Events packed into bulk requests. The idempotency key is the hash of the source, the position in it
//! and the body, so sending a batch again, in this run or the next, brings the same ids and no second
//! event, and equal events elsewhere in the source are events of their own.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::Item;
use crate::api::Api;
use crate::failure::Failure;
use crate::output::short;

/// Bytes of a request at most; the API takes 5 MiB.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Times a batch goes when some of its events could not be taken at once.
const TRIES_MAX: u32 = 5;
/// Between two of them, times how many there were.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Events of one request.
#[derive(Default)]
pub(super) struct Batch {
    /// NDJSON.
    body: Vec<u8>,
    /// Where its first event is in the source.
    first: u64,
    events: u64,
    steps: u64,
}

/// How a request ended.
pub(super) struct Outcome {
    pub(super) events: u64,
    pub(super) steps: u64,
    /// Ids.
    pub(super) accepted: Vec<String>,
    /// Reasons.
    pub(super) rejected: Vec<String>,
}

/// Packs `items` after the first `skip` into batches of `size` events, until the receiver is gone.
pub(super) fn read(
    items: impl Iterator<Item = Result<Item, Failure>>,
    skip: u64,
    size: u64,
    give: &Sender<Batch>,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    for (at, item) in (0_u64..).zip(items) {
        let item = item?;
        if at < skip {
            continue;
        }
        let line = item.event.to_string();
        let full = batch.events >= size || batch.body.len() + line.len() >= BYTES_MAX;
        if full && batch.events > 0 && give.blocking_send(std::mem::take(&mut batch)).is_err() {
            return Ok(());
        }
        if batch.events == 0 {
            batch.first = at;
        }
        batch.body.extend_from_slice(line.as_bytes());
        batch.body.push(b'\n');
        batch.events += 1;
        batch.steps += item.steps;
    }
    if batch.events > 0 {
        // A receiver that is gone has an error of its own to tell.
        drop(give.blocking_send(batch));
    }
    Ok(())
}

impl Batch {
    /// Sends it until every event is answered for good. Where some could not be taken now, the whole
    /// batch goes again under its key, `pause` later each time: those that were taken keep their ids.
    /// One that is not taken in [`TRIES_MAX`] tries is a failure, so that nobody counts it as done.
    pub(super) async fn send(
        self,
        api: &Api,
        source: &str,
        pause: Duration,
    ) -> Result<Outcome, Failure> {
        let key = self.key(source);
        let mut tries = 1;
        loop {
            let answer = api
                .send(|| {
                    Ok(api
                        .request(Method::POST, "/logs/bulk")?
                        .header("content-type", "application/x-ndjson")
                        .header("idempotency-key", &key)
                        .body(self.body.clone()))
                })
                .await?;
            let results = answer["results"].as_array().into_iter().flatten();
            let untaken: Vec<&Value> =
                results.filter(|result| result["error"]["retryable"] == true).collect();
            let Some(one) = untaken.first() else { return self.outcome(&answer) };
            if tries >= TRIES_MAX {
                return Err(Failure::unavailable(format!(
                    "{} of {} events were not taken in {TRIES_MAX} tries: {}",
                    untaken.len(),
                    self.events,
                    reason(one)
                ))
                .hint("give the same command later: what was taken is not taken twice"));
            }
            tokio::time::sleep(pause * tries).await;
            tries += 1;
        }
    }

    /// The same for the same events at the same place, and for no others.
    fn key(&self, source: &str) -> String {
        let mut hash = Sha256::new();
        hash.update((source.len() as u64).to_be_bytes());
        hash.update(source);
        hash.update(self.first.to_be_bytes());
        hash.update(&self.body);
        format!("import-{}", hex::encode(hash.finalize()))
    }

    /// One result per event, in order.
    fn outcome(&self, answer: &Value) -> Result<Outcome, Failure> {
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        if results.len() as u64 != self.events {
            return Err(Failure::new(format!(
                "the API answered {} results for {} events",
                results.len(),
                self.events
            )));
        }
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for result in results {
            match result["id"].as_str() {
                Some(id) => accepted.push(id.to_owned()),
                None => rejected.push(reason(result)),
            }
        }
        Ok(Outcome { events: self.events, steps: self.steps, accepted, rejected })
    }
}

fn reason(result: &Value) -> String {
    let error = if result["error"].is_object() { &result["error"] } else { result };
    short(&error.to_string(), 300)
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Batch, Item, read};
    use serde_json::json;
    use tokio::sync::mpsc;

    fn batches(events: usize, skip: u64, size: u64, text: &str) -> Vec<u64> {
        let (give, mut take) = mpsc::channel(64);
        let items = (0..events).map(|_| Ok(Item { event: json!({ "a": text }), steps: 1 }));
        read(items, skip, size, &give).unwrap();
        drop(give);
        std::iter::from_fn(|| take.blocking_recv()).map(|batch| batch.events).collect()
    }

    #[test]
    fn batches_hold_their_size_and_skip_what_is_done() {
        assert_eq!(batches(5, 0, 2, ""), [2, 2, 1]);
        assert_eq!(batches(5, 4, 2, ""), [1]);
        assert_eq!(batches(5, 5, 2, ""), [0; 0]);
    }

    #[test]
    fn batches_stay_below_the_body_limit() {
        let text = "x".repeat(BYTES_MAX / 2);
        assert_eq!(batches(3, 0, 100, &text), [1, 1, 1]);
    }

    #[test]
    fn an_answer_must_have_one_result_per_event() {
        let batch = Batch { events: 2, steps: 2, ..Batch::default() };
        assert!(batch.outcome(&json!({ "results": [{ "id": "a" }] })).is_err());
        let answer = json!({ "results": [{ "id": "a" }, { "error": { "title": "no" } }] });
        let outcome = batch.outcome(&answer).unwrap();
        assert_eq!((outcome.accepted.len(), outcome.rejected.len()), (1, 1));
    }
}
