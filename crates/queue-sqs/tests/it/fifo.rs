//! What every FIFO queue does.

use std::time::Duration;

use queue_core::driver::Outgoing;

use crate::backends::{Backend, bodies, message, receive, receive_all, send};

fn of(group: &str, body: &str) -> Outgoing {
    Outgoing {
        group: Some(group.to_owned()),
        deduplication: Some(format!("{group}-{body}")),
        ..message(body)
    }
}

pub(crate) async fn a_group_comes_in_order(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &["1", "2", "3"].map(|body| of("a", body))).await;
    let received = receive_all(&queue, 30, 3).await;
    assert_eq!(bodies(&received), ["1", "2", "3"]);
    assert!(received.iter().all(|message| message.group.as_deref() == Some("a")));
    let sequences: Vec<_> = received.iter().map(|m| m.sequence.clone().unwrap()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

pub(crate) async fn a_group_in_flight_is_blocked_and_others_flow(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &[of("a", "1")]).await;
    let held = receive_all(&queue, 600, 1).await.remove(0);
    send(&queue, &[of("a", "2"), of("b", "1")]).await;
    let others = receive_all(&queue, 600, 1).await;
    assert_eq!(others[0].group.as_deref(), Some("b"));
    assert!(receive(&queue, 600).await.is_empty(), "group a is in flight");
    assert_eq!(queue.settle(&[held.receipt]).await.unwrap(), [Ok(())]);
    assert_eq!(bodies(&receive_all(&queue, 600, 1).await), ["2"]);
}

pub(crate) async fn a_duplicate_is_taken_once(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &[of("a", "1")]).await;
    send(&queue, &[of("a", "1"), of("a", "2")]).await;
    assert_eq!(bodies(&receive_all(&queue, 30, 2).await), ["1", "2"]);
}

pub(crate) async fn a_message_given_back_keeps_its_place(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &["1", "2"].map(|body| of("a", body))).await;
    let received = receive_all(&queue, 600, 2).await;
    let entries = received.into_iter().map(|message| (message.receipt, Duration::ZERO));
    let results = queue.extend(&entries.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(results, [Ok(()), Ok(())]);
    assert_eq!(bodies(&receive_all(&queue, 600, 2).await), ["1", "2"]);
}
