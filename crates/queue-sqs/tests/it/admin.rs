//! What operators do to queues.

use std::time::Duration;

use contracts::catalogue::{AUDIT_INDEX, QueueKind};
use queue_core::driver::Outgoing;
use queue_sqs::{Admin, Deployment};
use testkit::eventually;

use crate::backends::{Backend, bodies, message, receive_all, receive_waiting, send, spec};

const LIMIT: Duration = Duration::from_secs(90);

pub(crate) async fn queues_carry_the_figures_of_the_catalogue(backend: Backend) {
    for kind in [QueueKind::Standard, QueueKind::Fifo] {
        let spec = spec("figures", kind);
        let made = backend.create(spec).await;
        let admin = backend.sqs.admin();
        let queue = admin.attributes(&made.url).await.unwrap();
        assert_eq!(queue.visibility.as_secs(), u64::from(AUDIT_INDEX.visibility_secs));
        assert_eq!(queue.retention.as_secs(), u64::from(AUDIT_INDEX.retention_dev_secs));
        assert_eq!(queue.receives_max, Some(AUDIT_INDEX.receives_max));
        assert_eq!(queue.dead_letter_arn, Some(admin.arn(&made.dlq_url).await.unwrap()));
        let dlq = admin.attributes(&made.dlq_url).await.unwrap();
        assert_eq!(dlq.retention.as_secs(), u64::from(AUDIT_INDEX.dlq_retention_secs));
        assert_eq!(chassis::dead_letter_url(&made.url, spec), made.dlq_url);
    }
}

pub(crate) async fn making_a_queue_twice_brings_it_to_the_figures(backend: Backend) {
    let spec = spec("twice", QueueKind::Standard);
    let first = backend.create(spec).await;
    let queue = backend.sqs.queue(spec.name, &first.url);
    send(&queue, &[message("kept")]).await;
    let second = backend.sqs.admin().create(spec, Deployment::Prod).await.unwrap();
    assert_eq!(second, first);
    let attributes = queue.attributes().await.unwrap();
    assert_eq!(attributes.retention.as_secs(), u64::from(AUDIT_INDEX.retention_prod_secs));
    assert_eq!(bodies(&receive_all(&queue, 30, 1).await), ["kept"]);
}

pub(crate) async fn queues_are_listed_by_prefix(backend: Backend) {
    let spec = spec("listed", QueueKind::Standard);
    let made = backend.create(spec).await;
    let admin = backend.sqs.admin();
    let mut listed = admin.list(spec.name).await.unwrap();
    listed.sort();
    assert_eq!(listed, [made.url.clone(), made.dlq_url.clone()]);
    assert!(admin.list("no-such-prefix").await.unwrap().is_empty());
    admin.delete(&made.url).await.unwrap();
    let left = eventually(LIMIT, "the queue to be gone", async || {
        let left = admin.list(spec.name).await.unwrap();
        (left.len() == 1).then_some(left)
    });
    assert_eq!(left.await, [made.dlq_url]);
}

pub(crate) async fn a_peek_gives_everything_back(backend: Backend) {
    let queue = backend.standard().await;
    let messages: Vec<Outgoing> = (0..10).map(|n| message(&n.to_string())).collect();
    send(&queue, &messages).await;
    send(&queue, &[message("10"), message("11")]).await;
    let admin = backend.sqs.admin();
    let url = backend.sqs.queue_url(queue.queue()).await.unwrap();
    assert_eq!(admin.peek(&url, 12).await.unwrap().len(), 12);
    assert_eq!(admin.peek(&url, 3).await.unwrap().len(), 3);
    assert_eq!(admin.peek(&url, 100).await.unwrap().len(), 12);
    assert_eq!(receive_all(&queue, 60, 12).await.len(), 12);
}

pub(crate) async fn a_redrive_sends_and_deletes(backend: Backend) {
    let spec = spec("redrive", QueueKind::Standard);
    let made = backend.create(spec).await;
    let queue = backend.sqs.queue(spec.name, &made.url);
    let dlq = backend.sqs.queue(spec.dlq, &made.dlq_url);
    send(&dlq, &["a", "b"].map(message)).await;
    let batch = receive_all(&dlq, 60, 2).await;
    let edit = |dead: &queue_core::Received| message(&format!("{} again", dead.body));
    let moved = Admin::redrive(&*dlq, &*queue, &batch, edit).await.unwrap();
    assert_eq!((moved.moved, moved.sent_not_deleted, moved.failed.len()), (2, 0, 0));
    let mut back = receive_all(&queue, 60, 2).await;
    back.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&back), ["a again", "b again"]);
    let depth = dlq.attributes().await.unwrap().depth;
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

pub(crate) async fn a_move_task_moves_everything_back(backend: Backend) {
    let spec = spec("move", QueueKind::Standard);
    let made = backend.create(spec).await;
    let dlq = backend.sqs.queue(spec.dlq, &made.dlq_url);
    let queue = backend.sqs.queue(spec.name, &made.url);
    send(&dlq, &["a", "b"].map(message)).await;
    // A move goes to where a message came from; these came from nowhere but the dead-letter queue,
    // so they are walked there by the redrive policy first.
    for dead in receive_all(&dlq, 60, 2).await {
        send(&queue, &[message(&dead.body)]).await;
        dlq.settle(&[dead.receipt]).await.unwrap();
    }
    exhaust(&queue, AUDIT_INDEX.receives_max).await;
    let admin = backend.sqs.admin();
    eventually(LIMIT, "both dead", async || {
        (dlq.attributes().await.unwrap().depth.visible == 2).then_some(())
    })
    .await;
    admin.start_move(&made.dlq_url, Some(10)).await.unwrap();
    let mut back = receive_all(&queue, 60, 2).await;
    back.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&back), ["a", "b"]);
    let tasks = eventually(LIMIT, "the task to end", async || {
        let tasks = admin.moves(&made.dlq_url).await.unwrap();
        (tasks[0].status == "COMPLETED").then_some(tasks)
    });
    assert_eq!(tasks.await[0].moved, 2);
}

pub(crate) async fn a_purge_empties_the_queue(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b"].map(message)).await;
    let url = backend.sqs.queue_url(queue.queue()).await.unwrap();
    backend.sqs.admin().purge(&url).await.unwrap();
    eventually(LIMIT, "an empty queue", async || {
        (queue.attributes().await.unwrap().depth.visible == 0).then_some(())
    })
    .await;
}

/// Receives and gives back until nothing comes any more.
async fn exhaust(queue: &std::sync::Arc<dyn queue_core::Driver>, receives_max: u32) {
    for _ in 0..=receives_max {
        let received = receive_waiting(queue, 60, 1).await;
        if received.is_empty() {
            return;
        }
        let back: Vec<_> =
            received.into_iter().map(|message| (message.receipt, Duration::ZERO)).collect();
        queue.extend(&back).await.unwrap();
    }
    assert!(receive_waiting(queue, 60, 1).await.is_empty());
}
