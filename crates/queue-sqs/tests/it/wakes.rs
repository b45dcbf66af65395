//! When a parked long poll is answered: at once when there is something, whatever made it so.

use std::sync::Arc;
use std::time::Duration;

use queue_core::Driver;
use queue_core::driver::Outgoing;
use tokio::time::Instant;

use crate::backends::{Backend, bodies, message, receive, receive_all, receive_waiting, send};

/// Of a poll of twenty seconds, below which it has not waited in vain. LocalStack looks once a second.
const SOON: Duration = Duration::from_secs(15);

/// Polls and does something at the same time: whether the poll is parked already or not, it must not
/// take its whole wait.
async fn polled(queue: &Arc<dyn Driver>, meanwhile: impl Future<Output = ()>) -> Vec<String> {
    let begun = Instant::now();
    let (received, ()) = tokio::join!(receive_waiting(queue, 30, 20), meanwhile);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    bodies(&received).into_iter().map(str::to_owned).collect()
}

pub(crate) async fn a_long_poll_wakes_when_a_message_arrives(backend: Backend) {
    let queue = backend.standard().await;
    assert_eq!(polled(&queue, send(&queue, &[message("wake")])).await, ["wake"]);
}

pub(crate) async fn a_long_poll_wakes_when_a_lease_ends(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("again")]).await;
    receive_all(&queue, 2, 1).await;
    assert_eq!(polled(&queue, async {}).await, ["again"]);
}

pub(crate) async fn a_long_poll_wakes_when_a_message_is_given_back(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("back")]).await;
    let receipt = receive_all(&queue, 600, 1).await.remove(0).receipt;
    let give_back = async {
        queue.extend(&[(receipt, Duration::ZERO)]).await.unwrap();
    };
    assert_eq!(polled(&queue, give_back).await, ["back"]);
}

pub(crate) async fn a_long_poll_wakes_when_a_group_is_free(backend: Backend) {
    let queue = backend.fifo().await;
    let of = |body: &str| Outgoing {
        group: Some("g".to_owned()),
        deduplication: Some(body.to_owned()),
        ..message(body)
    };
    send(&queue, &[of("1")]).await;
    let first = receive_all(&queue, 600, 1).await.remove(0).receipt;
    send(&queue, &[of("2")]).await;
    assert!(receive(&queue, 600).await.is_empty());
    let settle = async {
        queue.settle(&[first]).await.unwrap();
    };
    assert_eq!(polled(&queue, settle).await, ["2"]);
}
