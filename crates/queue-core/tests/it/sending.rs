//! The sender: packed by count and bytes, an outcome per message, retried within its deadline only.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use queue_core::driver::ReceiveRequest;
use queue_core::send::SEND_BYTES_MAX;
use queue_core::{Driver, DriverError, EntryError, Full, Outgoing, SendError, SendLimits, Sender};
use tokio::time::Instant;

use crate::broker_driver::{BrokerQueue, Fault, Kind};
use crate::rig::Rig;

fn sender(queue: &Arc<BrokerQueue>, limits: SendLimits) -> Sender {
    Sender::new(Arc::clone(queue) as Arc<dyn Driver>, limits)
}

fn text(bytes: usize) -> Outgoing {
    Outgoing { body: "x".repeat(bytes), ..Outgoing::default() }
}

#[tokio::test(start_paused = true)]
async fn concurrent_sends_share_calls_within_ten_entries_and_a_mebibyte() {
    let rig = Rig::new();
    let limits = SendLimits { linger: Duration::from_millis(5), ..SendLimits::default() };
    let sender = sender(&rig.queue, limits);
    let outcomes = join_all((0..40).map(|_| sender.send(text(100)))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(rig.queue.calls(Kind::Send).len(), 4);
    let outcomes = join_all((0..5).map(|_| sender.send(text(400_000)))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let sizes: Vec<_> = rig.queue.calls(Kind::Send)[4..].iter().map(|call| call.size).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(rig.queue.depth().visible, 45);
}

#[tokio::test(start_paused = true)]
async fn the_size_limit_is_exact() {
    let rig = Rig::new();
    let sender = sender(&rig.queue, SendLimits::default());
    assert_eq!(sender.send(text(SEND_BYTES_MAX)).await, Ok(()));
    let over = SEND_BYTES_MAX + 1;
    assert_eq!(sender.send(text(over)).await, Err(SendError::TooLarge(over)));
    assert_eq!(rig.queue.depth().visible, 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_fails_is_its_senders_own() {
    let rig = Rig::new();
    let mut sends = 0;
    rig.queue.script(move |_| {
        sends += 1;
        match sends {
            1 => Fault::Entry(1, EntryError::Transient("internal error".into())),
            2 => Fault::Entry(0, EntryError::Transient("internal error".into())),
            _ => Fault::None,
        }
    });
    let limits = SendLimits { linger: Duration::from_millis(5), ..SendLimits::default() };
    let sender = sender(&rig.queue, limits);
    let outcomes = join_all((0..3).map(|_| sender.send(text(10)))).await;
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(()), &Ok(())));
    assert!(matches!(&outcomes[1], Err(SendError::Unavailable(_))), "after two attempts");
    assert_eq!(rig.queue.depth().visible, 2);
    let sizes: Vec<_> = rig.queue.calls(Kind::Send).iter().map(|call| call.size).collect();
    assert_eq!(sizes, [3, 1], "only what failed is sent again");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_is_the_message_that_failed_and_not_after_its_deadline() {
    let rig = Rig::new();
    let mut sends = 0;
    rig.queue.script(move |_| {
        sends += 1;
        let failed = Fault::Entry(1, EntryError::Transient("internal error".into()));
        if sends == 1 { failed } else { Fault::None }
    });
    let limits = SendLimits { linger: Duration::from_millis(5), ..SendLimits::default() };
    let sender_of_three = sender(&rig.queue, limits);
    let outcomes = join_all((1..=3).map(|bytes| sender_of_three.send(text(bytes)))).await;
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(())]);
    let request = ReceiveRequest { max: 10, wait: Duration::ZERO, lease: Duration::from_secs(30) };
    let there = rig.queue.receive(request).await.unwrap();
    let mut sizes: Vec<_> = there.iter().map(|message| message.body.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 3], "each once");

    rig.queue.script(|_| Fault::Refuse(DriverError::Unavailable("down".into())));
    let before = rig.queue.calls(Kind::Send).len();
    let limits = SendLimits { deadline: Duration::from_millis(30), ..SendLimits::default() };
    let hurried = sender(&rig.queue, limits);
    assert!(matches!(hurried.send(text(1)).await, Err(SendError::Unavailable(_))));
    hurried.close().await;
    assert_eq!(rig.queue.calls(Kind::Send).len(), before + 1, "its deadline came in the pause");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_or_silent_is_answered_within_the_deadline() {
    let rig = Rig::new();
    let sender = sender(&rig.queue, SendLimits::default());
    rig.queue.script(|_| Fault::Refuse(DriverError::Unavailable("down".into())));
    let started = Instant::now();
    assert!(matches!(sender.send(text(10)).await, Err(SendError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(1), "two attempts");
    assert_eq!(rig.queue.calls(Kind::Send).len(), 2);
    rig.queue.script(|_| Fault::Refuse(DriverError::Refused("access denied".into())));
    let refused = Err(SendError::Refused("access denied".into()));
    assert_eq!(sender.send(text(10)).await, refused);
    assert_eq!(rig.queue.calls(Kind::Send).len(), 3, "not tried again");
    rig.queue.script(|_| Fault::Hang);
    let started = Instant::now();
    let outcomes = join_all((0..300).map(|_| sender.send(text(10)))).await;
    assert!(outcomes.iter().all(|o| matches!(o, Err(SendError::Unavailable(_)))));
    assert_eq!(started.elapsed(), Duration::from_secs(4), "all at the deadline");
    rig.queue.script(|_| Fault::None);
    assert_eq!(sender.send(text(10)).await, Ok(()), "and it works again");
    assert_eq!(rig.queue.depth().visible, 1, "what had waited too long was not sent");
}

#[tokio::test(start_paused = true)]
async fn full_buffers_refuse_at_once() {
    let rig = Rig::new();
    rig.queue.script(|_| Fault::Hang);
    let limits = SendLimits { pending_bytes_max: 100, ..SendLimits::default() };
    let sender = sender(&rig.queue, limits);
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send(text(60)).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    assert_eq!(sender.send(text(41)).await, Err(SendError::Full(Full::Process)));
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(matches!(waiting.await.unwrap(), Err(SendError::Unavailable(_))));
}
