//! What is parked comes out of its line byte for byte, also where it is so large that the broker takes
//! nothing beside it and the releaser can send its marker alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use contracts::{Body, Envelope};
use queue_core::park::Decision;
use queue_core::send::SEND_BYTES_MAX;
use serde_json::value::RawValue;

use super::parking::never;
use super::rig::{FifoRig, envelope, group};
use crate::rig::header;

/// The same order in a message of that many bytes.
fn sized(id: u64, bytes: usize) -> String {
    let of = |zeros: usize| {
        let body = format!("\"bare job {}{id}\"", "0".repeat(zeros));
        let body = Body::Inline(RawValue::from_string(body).unwrap());
        Envelope { header: header(id), body }.to_json().unwrap()
    };
    let message = of(bytes - of(0).len());
    assert_eq!(message.len(), bytes);
    message
}

/// A letter's original as it was before it was packed to fit beside its reason.
fn unpacked(body: &str) -> String {
    let mut envelope = Envelope::from_json(body).unwrap();
    if let Body::Gzip(gzipped) = &envelope.body {
        envelope.body = Body::Inline(gzipped.unpack().unwrap());
    }
    envelope.to_json().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_released_is_what_was_sent_also_where_the_marker_does_not_fit() {
    let small = envelope(0).len() + 100;
    for bytes in [small, SEND_BYTES_MAX - 1, SEND_BYTES_MAX] {
        let rig = FifoRig::new();
        let sent = [1_000, 1_001].map(|id| sized(id, bytes));
        for (id, message) in [1_000, 1_001].into_iter().zip(&sent) {
            rig.queue.put_in(&group(id), &format!("d{id}"), message);
        }
        let (seen, mended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let running = rig.start({
            let (seen, mended) = (Arc::clone(&seen), Arc::clone(&mended));
            move |delivery| {
                seen.lock().unwrap().push((delivery.message.0, delivery.header.clone()));
                let mended = mended.load(Ordering::Relaxed);
                async move { if mended { Ok(()) } else { Err(never()) } }
            }
        });
        // The first is rejected, the second waits in the store; released, it is rejected in its turn.
        rig.until_empty().await;
        rig.decide("g1", Decision::Release).await;
        rig.until("released", || seen.lock().unwrap().len() == 2).await;
        rig.until_empty().await;
        let mut letters = rig.letters();
        letters.sort_by_key(|letter| letter.envelope.as_ref().map(|envelope| envelope.id.clone()));
        let bodies: Vec<String> = letters.iter().map(|letter| unpacked(&letter.body)).collect();
        assert!(bodies == sent, "{bytes} bytes: a handler had other bytes than were sent");

        mended.store(true, Ordering::Relaxed);
        rig.decide("g1", Decision::Replay).await;
        rig.until_open().await;
        let seen = seen.lock().unwrap().clone();
        let expected = [1_000, 1_001, 1_001].map(|id| (id, header(id)));
        assert_eq!(seen, expected, "{bytes} bytes");
        running.stop().await;
    }
}
