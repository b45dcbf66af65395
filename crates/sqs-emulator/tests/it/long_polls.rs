//! Long polls are woken by whatever makes a message visible, under a paused clock: what a poll waits
//! for has to be announced, since no time passes by itself.

use std::sync::Arc;
use std::time::Duration;

use sqs_emulator::operations::{Receive, VisibilityChange};
use sqs_emulator::{BrokerConfig, Caller, Draft, Hub, QueueArn, Request, Response};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{in_group, texts};

struct Rig {
    hub: Hub,
    timers: JoinHandle<()>,
}

impl Rig {
    fn new() -> Self {
        let hub = Hub::in_memory(BrokerConfig::default());
        let timed = hub.clone();
        let timers = tokio::spawn(async move { timed.run_timers().await });
        Self { hub, timers }
    }

    async fn create(&self, name: &str, attributes: &[(&str, &str)]) -> QueueArn {
        let request = Request::CreateQueue {
            name: Some(name.to_owned()),
            attributes: texts(attributes),
            tags: texts(&[]),
        };
        match self.hub.call(&Caller::default(), request).await.unwrap() {
            Response::Queue(arn) => arn,
            other => panic!("{other:?}"),
        }
    }

    async fn send(&self, queue: &QueueArn, draft: Draft) {
        let draft = Box::new(draft.hashed());
        let request = Request::SendMessage { queue: Some(queue.clone()), draft };
        self.hub.call(&Caller::default(), request).await.unwrap();
    }

    /// A poll of its own task; ends with what it got and after how many seconds.
    fn poll(
        &self,
        queue: &QueueArn,
        max: i64,
        wait: i64,
    ) -> JoinHandle<(Vec<String>, Vec<String>, f64)> {
        let (hub, queue) = (self.hub.clone(), queue.clone());
        tokio::spawn(async move {
            let start = Instant::now();
            let receive = Receive {
                queue: Some(queue),
                max: Some(max),
                wait_seconds: Some(wait),
                visibility_seconds: Some(30),
                ..Receive::default()
            };
            let got = hub.call(&Caller::default(), Request::ReceiveMessage(receive)).await;
            let Ok(Response::Received(got, _)) = got else { return Default::default() };
            let bodies = got.iter().map(|got| got.message.body.clone()).collect();
            let receipts = got.into_iter().map(|got| got.receipt).collect();
            (bodies, receipts, start.elapsed().as_secs_f64())
        })
    }

    async fn stop(self) {
        self.hub.close();
        self.timers.await.unwrap();
    }
}

/// Lets every task run until it waits, without time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_wakes_the_oldest_poll_and_no_other() {
    let rig = Rig::new();
    let queue = rig.create("q", &[]).await;
    let polls: Vec<_> = (0..3).map(|_| rig.poll(&queue, 1, 20)).collect();
    settle().await;
    rig.send(&queue, Draft::text("one")).await;
    settle().await;
    let done: Vec<bool> = polls.iter().map(JoinHandle::is_finished).collect();
    assert_eq!(done, [true, false, false]);
    rig.send(&queue, Draft::text("two")).await;
    settle().await;
    assert!(polls[1].is_finished());
    let mut polls = polls.into_iter();
    let (first, _, seconds) = polls.next().unwrap().await.unwrap();
    assert_eq!((first.as_slice(), seconds), (["one".to_owned()].as_slice(), 0.0));
    let last = polls.nth(1).unwrap().await.unwrap();
    assert_eq!((last.0.len(), last.2), (0, 20.0), "the third waits its whole time");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_delay_and_of_a_lease_wakes_to_the_millisecond() {
    let rig = Rig::new();
    let queue = rig.create("q", &[]).await;
    rig.send(&queue, Draft { delay_seconds: Some(3), ..Draft::text("late") }).await;
    let (got, _, seconds) = rig.poll(&queue, 1, 20).await.unwrap();
    assert_eq!((got.len(), seconds), (1, 3.0));
    rig.send(&queue, Draft { delay_seconds: Some(900), ..Draft::text("never") }).await;
    let (again, _, seconds) = rig.poll(&queue, 1, 20).await.unwrap();
    assert_eq!((again.len(), seconds), (0, 20.0));
    let (again, _, seconds) = rig.poll(&queue, 1, 20).await.unwrap();
    assert_eq!((again.len(), seconds), (1, 10.0), "the lease of thirty seconds has ended");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn visibility_zero_and_a_freed_group_wake() {
    let rig = Rig::new();
    let queue = rig.create("q.fifo", &[("FifoQueue", "true")]).await;
    rig.send(&queue, in_group("a", "g", "1")).await;
    rig.send(&queue, in_group("b", "g", "2")).await;
    let (_, receipts, _) = rig.poll(&queue, 1, 0).await.unwrap();
    let waiting = rig.poll(&queue, 10, 20);
    settle().await;
    assert!(!waiting.is_finished(), "the group is locked");
    let change = VisibilityChange { receipt: Some(receipts[0].clone()), seconds: Some(0) };
    let request = Request::ChangeMessageVisibility { queue: Some(queue.clone()), change };
    rig.hub.call(&Caller::default(), request).await.unwrap();
    let (got, receipts, seconds) = waiting.await.unwrap();
    assert_eq!((got.join(","), seconds), ("a,b".to_owned(), 0.0));

    rig.send(&queue, in_group("c", "g", "3")).await;
    let waiting = rig.poll(&queue, 10, 20);
    settle().await;
    for receipt in receipts {
        assert!(!waiting.is_finished());
        let request = Request::DeleteMessage { queue: Some(queue.clone()), receipt: Some(receipt) };
        rig.hub.call(&Caller::default(), request).await.unwrap();
        settle().await;
    }
    let (got, _, seconds) = waiting.await.unwrap();
    assert_eq!((got.join(","), seconds), ("c".to_owned(), 0.0), "the delete of the last unlocks");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_goes_away_passes_its_turn_on() {
    let rig = Rig::new();
    let queue = rig.create("q", &[]).await;
    let gone = rig.poll(&queue, 1, 20);
    let stays = rig.poll(&queue, 1, 20);
    settle().await;
    // Woken by the send, aborted before it runs again: the message must not wait for a timer.
    let hub = rig.hub.clone();
    let draft = Box::new(Draft::text("one"));
    let request = Request::SendMessage { queue: Some(queue.clone()), draft };
    hub.call(&Caller::default(), request).await.unwrap();
    gone.abort();
    let (got, _, seconds) = stays.await.unwrap();
    assert_eq!((got.len(), seconds), (1, 0.0));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn closing_and_deleting_the_queue_end_polls_at_once() {
    let rig = Rig::new();
    let queue = rig.create("q", &[]).await;
    let other = rig.create("other", &[]).await;
    let start = Instant::now();
    let polls = [rig.poll(&queue, 1, 20), rig.poll(&other, 1, 20)];
    settle().await;
    rig.hub.call(&Caller::default(), Request::DeleteQueue { queue: Some(queue) }).await.unwrap();
    settle().await;
    assert!(polls[0].is_finished() && !polls[1].is_finished());
    rig.stop().await;
    for poll in polls {
        poll.await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_move_task_goes_on_by_itself() {
    let rig = Rig::new();
    let dead = rig.create("dead", &[]).await;
    let policy = format!(r#"{{"deadLetterTargetArn":"{dead}","maxReceiveCount":1}}"#);
    let queue = rig.create("q", &[("RedrivePolicy", &policy)]).await;
    for body in ["a", "b", "c"] {
        rig.send(&dead, Draft::text(body)).await;
    }
    let start = Request::StartMessageMoveTask {
        source: Some(dead.as_str().to_owned()),
        destination: Some(queue.as_str().to_owned()),
        rate: Some(2),
    };
    rig.hub.call(&Caller::default(), start).await.unwrap();
    for (body, seconds) in [("a", 0.0), ("b", 0.5), ("c", 0.5)] {
        let got = rig.poll(&queue, 1, 20).await.unwrap();
        assert_eq!((got.0.join(","), got.2), (body.to_owned(), seconds));
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_pollers_and_senders_lose_and_double_nothing() {
    let rig = Arc::new(Rig::new());
    let queue = rig.create("q", &[]).await;
    let pollers: Vec<_> = (0..50)
        .map(|_| {
            let (rig, queue) = (Arc::clone(&rig), queue.clone());
            tokio::spawn(async move {
                let mut all = Vec::new();
                loop {
                    let (bodies, receipts, _) = rig.poll(&queue, 7, 5).await.unwrap();
                    if bodies.is_empty() {
                        return all;
                    }
                    for receipt in receipts {
                        let queue = Some(queue.clone());
                        let request = Request::DeleteMessage { queue, receipt: Some(receipt) };
                        rig.hub.call(&Caller::default(), request).await.unwrap();
                    }
                    all.extend(bodies);
                }
            })
        })
        .collect();
    for n in 0..1_000 {
        rig.send(&queue, Draft::text(n.to_string())).await;
        if n % 97 == 0 {
            settle().await;
        }
    }
    let mut got: Vec<u32> = Vec::new();
    for poller in pollers {
        got.extend(poller.await.unwrap().iter().map(|body| body.parse::<u32>().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, (0..1_000).collect::<Vec<_>>());
    Arc::into_inner(rig).unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_moved_clock_wakes_for_what_is_due_and_keeps_the_wait_of_others() {
    let rig = Rig::new();
    let queue = rig.create("q", &[]).await;
    rig.send(&queue, Draft { delay_seconds: Some(900), ..Draft::text("late") }).await;
    let polls = [rig.poll(&queue, 1, 20), rig.poll(&queue, 1, 20)];
    settle().await;
    assert!(rig.hub.advance_clock(899_999));
    settle().await;
    assert!(!polls[0].is_finished(), "a millisecond early");
    assert!(rig.hub.advance_clock(1));
    let [first, second] = polls;
    let (got, _, seconds) = first.await.unwrap();
    assert_eq!((got.len(), seconds), (1, 0.0));
    let (got, _, seconds) = second.await.unwrap();
    assert_eq!((got.len(), seconds), (0, 20.0), "a wait is real time");
    rig.stop().await;
}
