//! What every FIFO queue does.

use std::time::Duration;

use queue_core::EntryError;
use queue_core::driver::Outgoing;
use testkit::eventually;

use crate::backends::{Backend, bodies, message, receive, receive_all, receive_waiting, send};

const LIMIT: Duration = Duration::from_secs(90);

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

/// Given back alone, a follower waits for its head; the head does not wait for its followers.
pub(crate) async fn a_hidden_head_blocks_its_followers(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &["1", "2"].map(|body| of("a", body))).await;
    let held = receive_all(&queue, 600, 2).await;
    let back = |at: usize| (held[at].receipt.clone(), Duration::ZERO);
    assert_eq!(queue.extend(&[back(1)]).await.unwrap(), [Ok(())]);
    assert!(receive(&queue, 600).await.is_empty(), "the head is in flight");
    assert_eq!(queue.extend(&[back(0)]).await.unwrap(), [Ok(())]);
    assert_eq!(bodies(&receive_all(&queue, 600, 2).await), ["1", "2"]);
}

pub(crate) async fn a_head_comes_while_its_follower_is_in_flight(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &["1", "2"].map(|body| of("a", body))).await;
    let held = receive_all(&queue, 600, 2).await;
    let back = (held[0].receipt.clone(), Duration::ZERO);
    assert_eq!(queue.extend(&[back]).await.unwrap(), [Ok(())]);
    assert_eq!(bodies(&receive_all(&queue, 600, 1).await), ["1"]);
    assert!(receive(&queue, 600).await.is_empty());
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

pub(crate) async fn a_duplicate_is_taken_once_after_it_was_settled(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &[of("a", "1")]).await;
    let receipt = receive_all(&queue, 30, 1).await.remove(0).receipt;
    assert_eq!(queue.settle(&[receipt]).await.unwrap(), [Ok(())]);
    send(&queue, &[of("a", "1"), of("a", "2")]).await;
    assert_eq!(bodies(&receive_all(&queue, 30, 1).await), ["2"]);
}

/// Queues of the catalogue are made for high throughput: their deduplication is each group's own.
pub(crate) async fn a_group_deduplicates_by_itself(backend: Backend) {
    let queue = backend.fifo().await;
    let same = |group: &str| Outgoing { deduplication: Some("same".to_owned()), ..of(group, "1") };
    send(&queue, &[same("a"), same("b"), same("a"), of("c", "1")]).await;
    let groups = receive_all(&queue, 30, 3).await.into_iter().map(|message| message.group.unwrap());
    let mut groups: Vec<_> = groups.collect();
    groups.sort();
    assert_eq!(groups, ["a", "b", "c"]);
}

pub(crate) async fn an_expired_receipt_settles_nothing(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &[of("a", "1")]).await;
    let receipt = receive_all(&queue, 1, 1).await.remove(0).receipt;
    eventually(LIMIT, "the lease to end", async || {
        (queue.attributes().await.unwrap().depth.visible == 1).then_some(())
    })
    .await;
    let results = queue.settle(&[receipt]).await.unwrap();
    assert!(matches!(results[0], Err(EntryError::LeaseLost(_))), "{results:?}");
    assert_eq!(bodies(&receive_all(&queue, 30, 1).await), ["1"]);
}

pub(crate) async fn a_sequence_is_kept(backend: Backend) {
    let queue = backend.fifo().await;
    send(&queue, &[of("a", "1")]).await;
    let first = receive_all(&queue, 1, 1).await.remove(0);
    let second = receive_waiting(&queue, 30, 10).await.remove(0);
    assert_eq!((second.receives, &second.sequence), (2, &first.sequence));
    assert!(first.sequence.is_some_and(|number| number.len() == 20));
}

/// What the port to a broker does not show: the SDK is asked itself.
pub(crate) async fn a_duplicate_answers_with_the_original(backend: Backend) {
    let queue = backend.fifo().await;
    let url = backend.sqs.queue_url(queue.queue()).await.unwrap();
    let client = backend.sdk();
    let send = async |body: &str| {
        let call = client.send_message().queue_url(&url).message_body(body);
        let answer = call.message_group_id("g").message_deduplication_id("d").send().await.unwrap();
        (answer.message_id.unwrap(), answer.sequence_number.unwrap())
    };
    let first = send("one").await;
    // Another body: SDKs check the hash of what they have just sent.
    assert_eq!(send("two").await, first);
    assert_eq!(bodies(&receive_all(&queue, 30, 1).await), ["one"]);
}
