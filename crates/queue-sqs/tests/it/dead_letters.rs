//! What the redrive policy does by itself.

use std::sync::Arc;
use std::time::Duration;

use contracts::catalogue::QueueKind;
use queue_core::Driver;
use queue_core::driver::Outgoing;

use crate::backends::{Backend, bodies, message, receive, receive_waiting, send};

pub(crate) async fn what_is_received_too_often_is_dead(backend: Backend) {
    let pair = backend.pair(QueueKind::Standard).await;
    let attributes = vec![("type".to_owned(), "INDEX".to_owned())];
    send(&pair.queue, &[Outgoing { attributes: attributes.clone(), ..message("poison") }]).await;
    let ids = exhaust(&pair.queue, pair.spec.receives_max).await;
    let dead = receive_waiting(&pair.dlq, 60, 10).await.remove(0);
    assert_eq!((dead.body.as_str(), &dead.attributes), ("poison", &attributes));
    assert!(ids.iter().all(|id| *id == dead.message_id), "it keeps its id");
    assert_eq!(ids.len(), usize::try_from(pair.spec.receives_max).unwrap());
    assert_eq!(dead.receives, pair.spec.receives_max + 1, "its count goes on");
}

pub(crate) async fn a_dead_message_frees_its_group(backend: Backend) {
    let pair = backend.pair(QueueKind::Fifo).await;
    let of = |body: &str| Outgoing {
        group: Some("g".to_owned()),
        deduplication: Some(body.to_owned()),
        ..message(body)
    };
    send(&pair.queue, &[of("poison")]).await;
    exhaust(&pair.queue, pair.spec.receives_max).await;
    send(&pair.queue, &[of("next")]).await;
    assert_eq!(bodies(&receive_waiting(&pair.queue, 60, 10).await), ["next"]);
    let dead = receive_waiting(&pair.dlq, 60, 10).await.remove(0);
    assert_eq!((dead.body.as_str(), dead.group.as_deref()), ("poison", Some("g")));
}

/// Receives and gives back until nothing comes any more; the ids of what came.
async fn exhaust(queue: &Arc<dyn Driver>, receives_max: u32) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..=receives_max {
        let received = receive(queue, 60).await;
        if received.is_empty() {
            return ids;
        }
        ids.extend(received.iter().map(|message| message.message_id.clone()));
        let back: Vec<_> =
            received.into_iter().map(|message| (message.receipt, Duration::ZERO)).collect();
        queue.extend(&back).await.unwrap();
    }
    assert!(receive(queue, 60).await.is_empty(), "it still comes");
    ids
}
