//! Sending large bodies: whatever a producer hands over, the driver gets nothing over the broker's
//! limit, what was sent reads back as it was, and nothing is left behind for what was not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Body, Envelope};
use futures_util::future::join_all;
use proptest::prelude::*;
use queue_core::driver::{EntryResults, QueueAttributes, ReceiveRequest};
use queue_core::send::SEND_BYTES_MAX;
use queue_core::{
    ClaimStore, Driver, DriverError, MemoryClaims, Outgoing, Packer, Received, SendError,
    SendLimits, Sender,
};
use rand::distr::Alphanumeric;
use rand::{Rng, SeedableRng};
use serde_json::value::RawValue;

use crate::rig::header;

/// A broker's end that takes everything and checks the limit.
#[derive(Debug, Default)]
struct Strict {
    sent: Mutex<Vec<String>>,
    answer: Mutex<Option<DriverError>>,
    over: AtomicBool,
}

#[async_trait]
impl Driver for Strict {
    fn queue(&self) -> &'static str {
        "strict"
    }

    async fn receive(&self, _request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        Ok(receipts.iter().map(|_| Ok(())).collect())
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let together: usize = entries.iter().map(Outgoing::size).sum();
        if together > SEND_BYTES_MAX || entries.len() > 10 {
            self.over.store(true, Ordering::Relaxed);
        }
        if let Some(error) = self.answer.lock().unwrap().clone() {
            return Err(error);
        }
        self.sent.lock().unwrap().extend(entries.iter().map(|entry| entry.body.clone()));
        Ok(entries.iter().map(|_| Ok(())).collect())
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

fn text(length: usize, seed: Option<u64>) -> String {
    match seed {
        None => "x".repeat(length),
        Some(seed) => {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            (0..length).map(|_| char::from(random.sample(Alphanumeric))).collect()
        }
    }
}

fn envelope(body: &str) -> Envelope {
    let body = RawValue::from_string(format!("\"{body}\"")).unwrap();
    Envelope { header: header(1), body: Body::Inline(body) }
}

fn frame(attribute_bytes: usize) -> Outgoing {
    let attributes = vec![("a".to_owned(), "v".repeat(attribute_bytes))];
    Outgoing { attributes, ..Outgoing::default() }
}

fn sender(driver: &Arc<Strict>, claims: Option<&Arc<MemoryClaims>>) -> Sender {
    let store = claims.map(|claims| Arc::clone(claims) as Arc<dyn ClaimStore>);
    let limits = SendLimits { attempts: 1, ..SendLimits::default() };
    Sender::new(Arc::clone(driver) as Arc<dyn Driver>, limits).packing(Packer::new(store))
}

async fn unpacked(sent: &str, claims: &MemoryClaims) -> String {
    let read = Envelope::from_json(sent).unwrap();
    match read.body {
        Body::Inline(body) => body.get().to_owned(),
        Body::Gzip(gzipped) => gzipped.unpack().unwrap().get().to_owned(),
        Body::Claim(claimed) => {
            let object = claims.get(&read.header.tenant, &claimed.claim).await.unwrap();
            claimed.unpack(&object).unwrap().get().to_owned()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_compressed_and_only_then_put_into_the_store() {
    let (driver, claims) = (Arc::new(Strict::default()), Arc::new(MemoryClaims::default()));
    let sender = sender(&driver, Some(&claims));
    let fits = text(200_000, Some(1));
    // Its size, its kind on the wire, and how many objects there are then.
    let cases = [
        (fits, "json", 0),
        (text(300_000, None), "gzip", 0),
        // No smaller by gzip and base64, and it fits: no store is asked for that.
        (text(1_000_000, Some(2)), "gzip", 0),
        (text(5_000_000, None), "gzip", 0),
        (text(1_500_000, Some(3)), "claim", 1),
    ];
    for (body, kind, objects) in cases {
        let body = envelope(&body);
        sender.send_envelope(&body, frame(100)).await.unwrap();
        let sent = driver.sent.lock().unwrap().pop().unwrap();
        let read = Envelope::from_json(&sent).unwrap();
        let found = match read.body {
            Body::Inline(_) => "json",
            Body::Gzip(_) => "gzip",
            Body::Claim(_) => "claim",
        };
        let Body::Inline(whole) = &body.body else { panic!("inline") };
        assert_eq!((found, claims.keys().len()), (kind, objects), "{} bytes", whole.get().len());
        assert_eq!(unpacked(&sent, &claims).await, whole.get());
    }
}

#[tokio::test(start_paused = true)]
async fn the_packed_limit_is_exact() {
    let (driver, claims) = (Arc::new(Strict::default()), Arc::new(MemoryClaims::default()));
    let plain = envelope("").to_json().unwrap().len();
    // Attributes take up the rest of a message, so that not even a claim fits.
    let sender = sender(&driver, Some(&claims));
    let room = SEND_BYTES_MAX - frame(0).size();
    sender.send_envelope(&envelope(""), frame(room - plain)).await.unwrap();
    let over = sender.send_envelope(&envelope(""), frame(room - plain + 1)).await;
    assert!(matches!(over, Err(SendError::TooLarge(_))), "{over:?}");
    assert_eq!((driver.sent.lock().unwrap().len(), claims.keys().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_object_stays_only_for_a_message_that_may_have_been_sent() {
    let large = envelope(&text(1_500_000, Some(1)));
    for (answer, left) in [
        (DriverError::Refused("no such queue".into()), 0),
        (DriverError::Unavailable("down".into()), 1),
        (DriverError::Timeout("late".into()), 1),
    ] {
        let (driver, claims) = (Arc::new(Strict::default()), Arc::new(MemoryClaims::default()));
        *driver.answer.lock().unwrap() = Some(answer.clone());
        let sent = sender(&driver, Some(&claims)).send_envelope(&large, frame(0)).await;
        assert!(sent.is_err());
        assert_eq!(claims.keys().len(), left, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_store_what_does_not_fit_is_refused_and_said_so() {
    let driver = Arc::new(Strict::default());
    let large = envelope(&text(1_500_000, Some(1)));
    let refused = sender(&driver, None).send_envelope(&large, frame(0)).await;
    let Err(SendError::TooLarge(bytes)) = refused else { panic!("{refused:?}") };
    assert!(bytes > 1_500_000, "its own size is told: {bytes}");
    let too_large_for_any_reader = envelope(&text(17 << 20, None));
    let claims = Arc::new(MemoryClaims::default());
    let sender = sender(&driver, Some(&claims));
    let refused = sender.send_envelope(&too_large_for_any_reader, frame(0)).await;
    assert!(matches!(refused, Err(SendError::TooLarge(_))), "{refused:?}");
    assert!(driver.sent.lock().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn nothing_over_the_limit_reaches_a_driver(
        bodies in prop::collection::vec(
            (0usize..1_300_000, prop::option::of(any::<u64>()), 0usize..300_000), 1..8),
        stored in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (driver, claims) = (Arc::new(Strict::default()), Arc::new(MemoryClaims::default()));
            let sender = sender(&driver, stored.then_some(&claims));
            let envelopes: Vec<_> = bodies.iter().map(|(length, seed, _)| envelope(&text(*length, *seed))).collect();
            let sends = envelopes.iter().zip(&bodies).map(|(envelope, (_, _, attributes))| {
                sender.send_envelope(envelope, frame(*attributes))
            });
            let outcomes = join_all(sends).await;
            prop_assert!(!driver.over.load(Ordering::Relaxed));
            let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            prop_assert!(!stored || accepted == bodies.len(), "{outcomes:?}");
            let sent = driver.sent.lock().unwrap().clone();
            prop_assert_eq!(sent.len(), accepted);
            let mut read = Vec::new();
            for text in &sent {
                read.push(unpacked(text, &claims).await);
            }
            for (envelope, outcome) in envelopes.iter().zip(&outcomes) {
                let Body::Inline(body) = &envelope.body else { panic!("inline") };
                prop_assert!(outcome.is_err() || read.iter().any(|read| read == body.get()));
            }
            Ok(())
        })?;
    }
}
