//! A claimed message that comes once more after it was settled: the mark in its object's place tells it
//! from one whose body was lost, to every worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contracts::{EnvelopeId, Tenant, errors};
use queue_core::claim::{ClaimError, ClaimStore};
use queue_core::{Failure, Reason};
use uuid::Uuid;

use crate::claims::{claimed, rig};
use crate::rig::header;

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_of_a_settled_message_costs_a_delete_and_no_work() {
    let (rig, claims) = rig();
    let (message, claim) = claimed(&claims, 7).await;
    rig.queue.put(&message);
    let (running, first) = rig.start_noting(|_| async { Ok(()) });
    rig.until("settled", || claims.keys().is_empty()).await;
    // Sent twice: under another id of the broker, to the same worker and to one that knows nothing.
    rig.queue.put(&message);
    rig.until_empty().await;
    running.stop().await;
    let (running, second) = rig.start_noting(|_| async { Ok(()) });
    rig.queue.put(&message);
    rig.until_empty().await;
    running.stop().await;
    assert_eq!((first.all(), second.all()), (vec![7], vec![]));
    assert_eq!(rig.dlq.depth().visible, 0, "nobody is told that a body is missing");
    let settled = claims.get(&header(7).tenant, &claim).await;
    assert_eq!(settled, Err(ClaimError::Settled(header(7).id.to_string())));
}

#[tokio::test(start_paused = true)]
async fn of_two_copies_the_one_that_was_rejected_needs_no_redrive_any_more() {
    let (rig, claims) = rig();
    let (message, _) = claimed(&claims, 7).await;
    let mended = Arc::new(AtomicBool::new(false));
    let (running, seen) = rig.start_noting({
        let mended = Arc::clone(&mended);
        move |_| {
            let mended = mended.load(Ordering::Relaxed);
            let reason = Reason { code: errors::LOG_MISSING, message: "no".into() };
            async move { if mended { Ok(()) } else { Err(Failure::Reject(reason)) } }
        }
    });
    rig.queue.put(&message);
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    mended.store(true, Ordering::Relaxed);
    rig.queue.put(&message);
    rig.until_empty().await;
    rig.until("settled", || claims.keys().is_empty()).await;
    rig.queue.put(&letter.body);
    rig.until_empty().await;
    assert_eq!((seen.all(), rig.letters().len()), (vec![7, 7], 1), "rejected, then handled once");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_mark_is_its_own_messages_and_a_lost_body_has_none() {
    let (rig, claims) = rig();
    let tenant: Tenant = header(1).tenant;
    let (other, claim) = claimed(&claims, 1).await;
    claims.settle(&tenant, &claim, EnvelopeId(Uuid::from_u128(99))).await.unwrap();
    let (lost, gone) = claimed(&claims, 2).await;
    assert!(claims.lose(&gone.key));
    rig.queue.put(&other);
    rig.queue.put(&lost);
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    let mut codes: Vec<String> = rig.letters().into_iter().map(|letter| letter.code).collect();
    codes.sort();
    assert_eq!((codes, seen.count()), (vec!["claim-mismatch".into(), "claim-missing".into()], 0));
    running.stop().await;
}
