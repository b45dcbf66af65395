//! Large bodies: packed on the way out, opened on the way in, and their objects kept for as long as
//! anything may still ask for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{Body, Claim, Claimed, Encoding, Envelope, EnvelopeId, Gzipped, Tenant, packing};
use queue_core::claim::{ClaimError, ClaimStore, MemoryClaims};
use queue_core::dead_letter::OnDeadLetterQueue;
use queue_core::{DeadLetter, DriverError, Failure, Reason};
use rand::distr::Alphanumeric;
use rand::{Rng, SeedableRng};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::broker_driver::{Fault, Kind};
use crate::rig::{Rig, handling, header};

/// A job's body, as long as wanted.
fn body(id: u64, length: usize) -> Box<RawValue> {
    RawValue::from_string(format!("\"bare job {}{id}\"", "0".repeat(length))).unwrap()
}

fn message(id: u64, body: Body) -> String {
    Envelope { header: header(id), body }.to_json().unwrap()
}

fn gzipped(id: u64, length: usize) -> String {
    let body = body(id, length);
    let compressed = packing::compress(body.get());
    message(id, Body::Gzip(Gzipped::new(body.get().len(), &compressed)))
}

/// Puts a body into the store; the message that claims it, and the claim.
pub(crate) async fn claimed(claims: &MemoryClaims, id: u64) -> (String, Claim) {
    let body = body(id, 1_000);
    let bytes = body.get().len() as u64;
    let claim = claims.put(&header(id).tenant, body.get().into()).await.unwrap();
    let claimed = Claimed { claim: claim.clone(), encoding: Encoding::Json, bytes };
    (message(id, Body::Claim(claimed)), claim)
}

pub(crate) fn rig() -> (Rig, Arc<MemoryClaims>) {
    let claims = Arc::new(MemoryClaims::default());
    let rig = Rig { claims: Some(claims.clone()), ..Rig::new() };
    (rig, claims)
}

#[tokio::test(start_paused = true)]
async fn a_compressed_body_is_handled_like_any_other() {
    let rig = Rig::new();
    rig.fill(0..2);
    rig.queue.put(&gzipped(7, 500_000));
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(seen.sorted(), [0, 1, 7]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_outlives_every_retry_and_goes_when_its_message_is_gone() {
    let (rig, claims) = rig();
    let (message, claim) = claimed(&claims, 7).await;
    rig.queue.put(&message);
    // Two deletes do not come through: until then it may come again, and asks for its body.
    let there = Arc::new(Mutex::new(Vec::new()));
    rig.queue.script({
        let (claims, there) = (Arc::clone(&claims), Arc::clone(&there));
        move |call| {
            if call.kind != Kind::Settle {
                return Fault::None;
            }
            let mut there = there.lock().unwrap();
            there.push(claims.keys().len());
            if there.len() <= 2 {
                Fault::Refuse(DriverError::Unavailable("down".into()))
            } else {
                Fault::None
            }
        }
    });
    let attempts = Arc::new(AtomicUsize::new(0));
    let running = rig.start({
        let (attempts, claims) = (Arc::clone(&attempts), Arc::clone(&claims));
        move |delivery| {
            assert_eq!((delivery.message.0, claims.keys().len()), (7, 1));
            let first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if first { Err(handling("not yet")) } else { Ok(()) } }
        }
    });
    rig.until_empty().await;
    rig.until("removed", || claims.keys().is_empty()).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
    assert_eq!(*there.lock().unwrap(), [1, 1, 1], "there at every delete");
    assert!(!claims.lose(&claim.key));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_nobody_confirmed_keeps_the_object_for_the_redelivery() {
    let (rig, claims) = rig();
    let (message, _) = claimed(&claims, 7).await;
    rig.queue.put(&message);
    let down = Arc::new(AtomicBool::new(true));
    rig.queue.script({
        let down = Arc::clone(&down);
        move |call| match call.kind {
            Kind::Settle if down.load(Ordering::Relaxed) => {
                Fault::Refuse(DriverError::Unavailable("down".into()))
            }
            _ => Fault::None,
        }
    });
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until("handled", || seen.count() == 1).await;
    rig.until("two leases later", || rig.world.elapsed() > Duration::from_secs(60)).await;
    assert_eq!(claims.keys().len(), 1, "it comes again");
    down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    rig.until("removed", || claims.keys().is_empty()).await;
    assert_eq!(seen.all(), [7], "a redelivery of what is done costs one delete");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_keeps_the_object_and_a_redrive_finds_it() {
    let (rig, claims) = rig();
    let (message, _) = claimed(&claims, 7).await;
    rig.queue.put(&message);
    let mended = Arc::new(AtomicBool::new(false));
    let (running, seen) = rig.start_noting({
        let mended = Arc::clone(&mended);
        move |_| {
            let mended = mended.load(Ordering::Relaxed);
            let reason = Reason { code: contracts::errors::LOG_MISSING, message: "no".into() };
            async move { if mended { Ok(()) } else { Err(Failure::Reject(reason)) } }
        }
    });
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    assert_eq!((letter.body.as_str(), claims.keys().len()), (message.as_str(), 1));
    mended.store(true, Ordering::Relaxed);
    rig.queue.put(&letter.body);
    rig.until("handled again", || seen.count() == 2).await;
    rig.until("removed", || claims.keys().is_empty()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_a_changed_and_a_foreign_object_are_rejected_by_name() {
    let (rig, claims) = rig();
    let (gone, lost) = claimed(&claims, 1).await;
    assert!(claims.lose(&lost.key));
    let (other_bytes, changed) = claimed(&claims, 2).await;
    claims.overwrite(&changed.key, vec![b'7'; usize::try_from(changed.size).unwrap()]);
    let (shorter, cut) = claimed(&claims, 3).await;
    claims.overwrite(&cut.key, vec![b'7'; 3]);
    let theirs: Tenant = "globex".parse().unwrap();
    let claim = claims.put(&theirs, b"7".to_vec()).await.unwrap();
    let foreign = Claimed { claim: claim.clone(), encoding: Encoding::Json, bytes: 1 };
    let bomb = Gzipped {
        bytes: 10,
        base64: Gzipped::new(0, &packing::compress(&"0".repeat(99_999))).base64,
    };
    for body in
        [gone, other_bytes, shorter, message(4, Body::Claim(foreign)), message(5, Body::Gzip(bomb))]
    {
        rig.queue.put(&body);
    }
    rig.fill(6..7);
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    let mut ends: Vec<(String, String, u32)> = rig
        .letters()
        .into_iter()
        .map(|letter| (letter.envelope.unwrap().correlation_id, letter.code, letter.failures))
        .collect();
    ends.sort();
    let expected = [
        ("request-1", "claim-missing"),
        ("request-2", "claim-mismatch"),
        ("request-3", "claim-mismatch"),
        ("request-4", "claim-mismatch"),
        ("request-5", "message-malformed"),
    ];
    assert_eq!(ends, expected.map(|(id, code)| (id.to_owned(), code.to_owned(), 0)));
    assert_eq!(seen.all(), [6], "and the rest goes on");
    assert!(claims.keys().contains(&claim.key), "another tenant's is not touched");
    running.stop().await;
}

/// A store that can be switched off.
struct Switched {
    claims: Arc<MemoryClaims>,
    down: AtomicBool,
    /// When each object was asked for.
    asked: Mutex<BTreeMap<String, Vec<Instant>>>,
}

#[async_trait]
impl ClaimStore for Switched {
    async fn put(&self, tenant: &Tenant, object: Vec<u8>) -> Result<Claim, ClaimError> {
        self.claims.put(tenant, object).await
    }

    async fn get(&self, tenant: &Tenant, claim: &Claim) -> Result<Vec<u8>, ClaimError> {
        self.asked.lock().unwrap().entry(claim.key.clone()).or_default().push(Instant::now());
        if self.down.load(Ordering::Relaxed) {
            let retry_after = Some(Duration::from_secs(90));
            return Err(ClaimError::Unavailable { message: "switched off".into(), retry_after });
        }
        self.claims.get(tenant, claim).await
    }

    async fn remove(&self, tenant: &Tenant, claim: &Claim) -> Result<(), ClaimError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(ClaimError::unavailable("switched off"));
        }
        self.claims.remove(tenant, claim).await
    }

    async fn settle(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        id: EnvelopeId,
    ) -> Result<(), ClaimError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(ClaimError::unavailable("switched off"));
        }
        self.claims.settle(tenant, claim, id).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_half_an_hour_costs_no_attempt_and_its_time_is_kept() {
    let claims = Arc::new(MemoryClaims::default());
    let (down, asked) = (AtomicBool::new(true), Mutex::default());
    let switched = Arc::new(Switched { claims: claims.clone(), down, asked });
    let rig = Rig { claims: Some(switched.clone()), ..Rig::new() };
    for id in 0..5 {
        let (message, _) = claimed(&claims, id).await;
        rig.queue.put(&message);
    }
    let failures = Arc::new(Mutex::new(Vec::new()));
    let running = rig.start({
        let failures = Arc::clone(&failures);
        move |delivery| {
            failures.lock().unwrap().push(delivery.attempt.failures);
            async { Ok(()) }
        }
    });
    rig.until("half an hour", || rig.world.elapsed() > Duration::from_secs(1_800)).await;
    assert_eq!((rig.dlq.depth().visible, failures.lock().unwrap().len()), (0, 0));
    let asked = switched.asked.lock().unwrap().clone();
    let pauses = || asked.values().flat_map(|times| times.windows(2).map(|two| two[1] - two[0]));
    assert!(asked.len() == 5 && pauses().count() > 30, "{asked:?}");
    assert!(pauses().all(|pause| pause >= Duration::from_secs(90)), "its time is kept");
    switched.down.store(false, Ordering::Relaxed);
    rig.until_empty().await;
    assert_eq!(*failures.lock().unwrap(), [0; 5]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_store_leaves_claims_to_one_that_has_one() {
    let (with, claims) = rig();
    let without = Rig {
        claims: None,
        world: with.world.clone(),
        queue: with.queue.clone(),
        dlq: with.dlq.clone(),
        ..Rig::new()
    };
    let (message, _) = claimed(&claims, 7).await;
    with.queue.put(&message);
    let (running, seen) = without.start_noting(|_| async { Ok(()) });
    with.until("snoozed", || with.queue.calls(Kind::Extend).len() == 1).await;
    running.stop().await;
    assert_eq!((seen.count(), with.dlq.depth().visible), (0, 0));
    let (running, seen) = with.start_noting(|_| async { Ok(()) });
    with.until_empty().await;
    assert_eq!(seen.all(), [7]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_unpacked_at_the_same_time_than_stated() {
    let rig = Rig::new();
    // Each is a message of kilobytes that becomes 15 MiB.
    for id in 0..10 {
        rig.queue.put(&gzipped(id, 15 << 20));
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let running = rig.start({
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(5)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        }
    });
    rig.until_empty().await;
    assert_eq!(most.load(Ordering::Relaxed), 4, "64 MiB hold four of them");
    running.stop().await;
}

/// Text of that many characters that no compression shortens below three quarters.
fn random(length: usize, seed: u64) -> String {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    (0..length).map(|_| char::from(random.sample(Alphanumeric))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_letter_too_large_for_the_broker_carries_its_original_packed() {
    // Undecodable, with quotes that double inside a letter; one that shrinks and one that does not.
    let shrinks = format!(r#"{{"text":"{}"}}"#, r#"\""#.repeat(400_000));
    let stays = format!(r#"{{"text":"{}","q":"{}"}}"#, random(700_000, 3), r#"\""#.repeat(150_000));
    let (rig, claims) = rig();
    for (id, body) in [(1, &shrinks), (2, &stays)] {
        let body = Body::Inline(RawValue::from_string(body.clone()).unwrap());
        rig.queue.put(&message(id, body));
    }
    let (running, _) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    let mut letters = rig.letters();
    letters.sort_by_key(|letter| letter.envelope.as_ref().map(|header| header.id.clone()));
    assert_eq!(letters.len(), 2, "both are explained");
    for (letter, original) in letters.iter().zip([&shrinks, &stays]) {
        assert_eq!(letter.code, "message-malformed");
        let again = Envelope::from_json(&letter.body).unwrap();
        let unpacked = match &again.body {
            Body::Gzip(gzipped) => gzipped.unpack().unwrap(),
            Body::Claim(claimed) => {
                let object = claims.get(&again.header.tenant, &claimed.claim).await.unwrap();
                claimed.unpack(&object).unwrap()
            }
            Body::Inline(_) => panic!("not packed"),
        };
        assert_eq!(unpacked.get(), original);
    }
    assert_eq!(claims.keys().len(), 1, "only what no compression helps");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_store_such_an_original_travels_as_it_was() {
    let rig = Rig::new();
    let stays = format!(r#"{{"text":"{}","q":"{}"}}"#, random(700_000, 3), r#"\""#.repeat(150_000));
    let original = message(1, Body::Inline(RawValue::from_string(stays).unwrap()));
    rig.queue.put(&original);
    let (running, _) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    let letter = rig.dlq.take(1, Duration::from_secs(1)).remove(0);
    let OnDeadLetterQueue::Raw(raw) = DeadLetter::read(&letter.body) else { panic!("wrapped") };
    assert_eq!(raw, original);
    running.stop().await;
}
