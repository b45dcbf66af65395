//! What every standard queue does.

use std::time::Duration;

use queue_core::driver::{Outgoing, ReceiveRequest};
use queue_core::{DriverError, EntryError};
use testkit::eventually;
use tokio::time::Instant;

use crate::backends::{Backend, bodies, message, receive, receive_all, receive_waiting, send};

/// SQS: 1 MiB per message and per batch.
const BYTES_MAX: usize = 1_048_576;
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) async fn a_message_arrives_as_it_was_sent(backend: Backend) {
    let queue = backend.standard().await;
    let sent = Outgoing {
        body: r#"{"v":1,"text":"caf\u00e9"}"#.to_owned(),
        attributes: vec![
            (
                "traceparent".to_owned(),
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            ),
            ("type".to_owned(), "INDEX".to_owned()),
        ],
        group: Some("acme".to_owned()),
        ..Outgoing::default()
    };
    send(&queue, std::slice::from_ref(&sent)).await;
    let received = receive_all(&queue, 30, 1).await.remove(0);
    assert_eq!(received.body, sent.body);
    assert_eq!(received.attributes, sent.attributes);
    assert_eq!(received.group, sent.group, "the tenant of a fair queue");
    assert_eq!(received.receives, 1);
    assert!(!received.message_id.is_empty() && !received.receipt.is_empty());
    assert!(received.sent_at_ms > 1_600_000_000_000);
    assert_eq!(queue.settle(&[received.receipt]).await.unwrap(), [Ok(())]);
    assert!(receive(&queue, 30).await.is_empty());
}

pub(crate) async fn odd_characters_arrive_as_they_were_sent(backend: Backend) {
    let queue = backend.standard().await;
    let odd =
        "tab\t line\n return\r\n <&>\"']]> caf\u{e9} \u{2603} \u{1F600} \u{FFFD} \\u0041 %41 +";
    let attribute = |at: usize| (format!("name_{at}-x.y"), format!("{at} {odd}"));
    let sent = Outgoing { attributes: (0..10).map(attribute).collect(), ..message(odd) };
    send(&queue, std::slice::from_ref(&sent)).await;
    let received = receive_all(&queue, 30, 1).await.remove(0);
    assert_eq!(received.body, sent.body);
    assert_eq!(received.attributes, sent.attributes);
}

pub(crate) async fn an_empty_poll_waits_and_returns_nothing(backend: Backend) {
    let queue = backend.standard().await;
    let begun = Instant::now();
    assert!(receive_waiting(&queue, 30, 2).await.is_empty());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(30), "{took:?}");
}

pub(crate) async fn a_receive_returns_at_most_what_it_asks_for(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b", "c"].map(message)).await;
    let request =
        ReceiveRequest { max: 2, wait: Duration::from_secs(1), lease: Duration::from_secs(30) };
    let first = queue.receive(request).await.unwrap();
    assert!((1..=2).contains(&first.len()), "{first:?}");
}

pub(crate) async fn results_come_in_the_order_of_the_entries(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b"].map(message)).await;
    let received = receive_all(&queue, 30, 2).await;
    let receipts =
        [received[0].receipt.clone(), "no-such-receipt".to_owned(), received[1].receipt.clone()];
    let extended = receipts.clone().map(|receipt| (receipt, Duration::from_secs(60)));
    for results in [queue.extend(&extended).await.unwrap(), queue.settle(&receipts).await.unwrap()]
    {
        assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())));
        assert!(matches!(results[1], Err(EntryError::LeaseLost(_))), "{:?}", results[1]);
    }
}

pub(crate) async fn one_bad_entry_leaves_the_others(backend: Backend) {
    let queue = backend.standard().await;
    let bad = Outgoing { delay: Some(Duration::from_secs(901)), ..message("never") };
    let results = queue.send(&[message("a"), bad, message("b")]).await.unwrap();
    assert_eq!((&results[0], &results[2]), (&Ok(()), &Ok(())));
    assert!(matches!(results[1], Err(EntryError::Refused(_))), "{results:?}");
    let mut arrived = receive_all(&queue, 30, 2).await;
    arrived.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&arrived), ["a", "b"]);
}

pub(crate) async fn a_receipt_twice_in_a_batch_harms_no_other_entry(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b"].map(message)).await;
    let received = receive_all(&queue, 30, 2).await;
    let (a, b) = (received[0].receipt.clone(), received[1].receipt.clone());
    let results = queue.settle(&[a.clone(), a, b]).await.unwrap();
    assert_eq!((results.len(), &results[0], &results[2]), (3, &Ok(()), &Ok(())));
}

pub(crate) async fn empty_batches_do_nothing(backend: Backend) {
    let queue = backend.standard().await;
    assert_eq!(queue.settle(&[]).await.unwrap(), []);
    assert_eq!(queue.extend(&[]).await.unwrap(), []);
    assert_eq!(queue.send(&[]).await.unwrap(), []);
}

pub(crate) async fn a_batch_over_ten_is_refused(backend: Backend) {
    let queue = backend.standard().await;
    let ten: Vec<Outgoing> = (0..10).map(|n| message(&n.to_string())).collect();
    send(&queue, &ten).await;
    let eleven: Vec<Outgoing> = (0..11).map(|n| message(&n.to_string())).collect();
    assert!(matches!(queue.send(&eleven).await, Err(DriverError::Refused(_))));
}

pub(crate) async fn an_expired_lease_brings_the_message_back(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("again")]).await;
    let first = receive_all(&queue, 1, 1).await.remove(0);
    let second = receive_waiting(&queue, 30, 10).await.remove(0);
    assert_eq!((second.receives, &second.message_id), (2, &first.message_id));
    assert_ne!(second.receipt, first.receipt);
    assert_eq!(second.sent_at_ms, first.sent_at_ms);
}

pub(crate) async fn the_latest_receipt_settles_after_its_lease(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("late")]).await;
    let receipt = receive_all(&queue, 1, 1).await.remove(0).receipt;
    eventually(LIMIT, "the lease to end", async || {
        (queue.attributes().await.unwrap().depth.visible == 1).then_some(())
    })
    .await;
    assert_eq!(queue.settle(&[receipt]).await.unwrap(), [Ok(())]);
    assert!(receive(&queue, 30).await.is_empty());
}

pub(crate) async fn an_earlier_receipt_settles_nothing(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("mine")]).await;
    let earlier = receive_all(&queue, 1, 1).await.remove(0).receipt;
    let latest = receive_waiting(&queue, 600, 10).await.remove(0).receipt;
    assert_eq!(queue.settle(&[earlier]).await.unwrap(), [Ok(())], "it is no error");
    let back = queue.extend(&[(latest, Duration::ZERO)]).await.unwrap();
    assert_eq!(back, [Ok(())], "the message is there");
    assert_eq!(bodies(&receive_all(&queue, 30, 1).await), ["mine"]);
}

pub(crate) async fn zero_gives_a_message_back_at_once(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("back")]).await;
    let first = receive_all(&queue, 600, 1).await.remove(0);
    assert!(receive(&queue, 600).await.is_empty());
    let given = queue.extend(&[(first.receipt, Duration::ZERO)]).await.unwrap();
    assert_eq!(given, [Ok(())]);
    assert_eq!(bodies(&receive_all(&queue, 600, 1).await), ["back"]);
}

pub(crate) async fn an_extension_keeps_a_message_hidden(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("kept")]).await;
    let first = receive_all(&queue, 2, 1).await.remove(0);
    let extended = queue.extend(&[(first.receipt.clone(), Duration::from_secs(60))]).await;
    assert_eq!(extended.unwrap(), [Ok(())]);
    assert!(receive_waiting(&queue, 30, 4).await.is_empty(), "past the first lease");
    assert_eq!(queue.settle(&[first.receipt]).await.unwrap(), [Ok(())]);
}

pub(crate) async fn a_lease_over_twelve_hours_is_refused_per_entry(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b"].map(message)).await;
    let received = receive_all(&queue, 30, 2).await;
    let entries = [
        (received[0].receipt.clone(), Duration::from_secs(43_201)),
        (received[1].receipt.clone(), Duration::from_secs(43_190)),
    ];
    let results = queue.extend(&entries).await.unwrap();
    assert!(matches!(results[0], Err(EntryError::Refused(_))), "{results:?}");
    assert_eq!(results[1], Ok(()));
}

pub(crate) async fn a_settled_message_cannot_be_extended(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &[message("gone")]).await;
    let receipt = receive_all(&queue, 30, 1).await.remove(0).receipt;
    assert_eq!(queue.settle(std::slice::from_ref(&receipt)).await.unwrap(), [Ok(())]);
    let results = queue.extend(&[(receipt, Duration::from_secs(30))]).await.unwrap();
    assert!(matches!(results[0], Err(EntryError::LeaseLost(_))), "{results:?}");
}

pub(crate) async fn a_delay_is_kept(backend: Backend) {
    let queue = backend.standard().await;
    let begun = Instant::now();
    let delayed = Outgoing { delay: Some(Duration::from_secs(3)), ..message("later") };
    send(&queue, &[delayed, message("now")]).await;
    assert_eq!(bodies(&receive_all(&queue, 60, 1).await), ["now"]);
    assert_eq!(bodies(&receive_waiting(&queue, 60, 15).await), ["later"]);
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "{:?}", begun.elapsed());
}

pub(crate) async fn a_body_at_the_limit_passes_and_one_byte_more_does_not(backend: Backend) {
    let queue = backend.standard().await;
    let most = message(&"x".repeat(BYTES_MAX));
    assert_eq!(most.size(), BYTES_MAX);
    send(&queue, &[most]).await;
    assert_eq!(receive_all(&queue, 30, 1).await[0].body.len(), BYTES_MAX);
    let more = queue.send(&[message(&"x".repeat(BYTES_MAX + 1))]).await;
    assert!(matches!(more, Err(DriverError::Refused(_))), "{more:?}");
}

pub(crate) async fn a_batch_over_the_limit_is_refused_whole(backend: Backend) {
    let queue = backend.standard().await;
    let half = "x".repeat(BYTES_MAX / 2);
    send(&queue, &[message(&half), message(&half)]).await;
    let over = queue.send(&[message(&half), message(&half), message("x")]).await;
    assert!(matches!(over, Err(DriverError::Refused(_))), "{over:?}");
    let depth = queue.attributes().await.unwrap().depth;
    assert_eq!(depth.visible, 2, "none of the batch was taken");
}

pub(crate) async fn depth_counts_visible_in_flight_and_delayed(backend: Backend) {
    let queue = backend.standard().await;
    send(&queue, &["a", "b"].map(message)).await;
    let held = receive_all(&queue, 60, 2).await;
    let back = (held[0].receipt.clone(), Duration::ZERO);
    queue.extend(&[back]).await.unwrap();
    let delayed = Outgoing { delay: Some(Duration::from_secs(600)), ..message("later") };
    send(&queue, &[delayed]).await;
    eventually(LIMIT, "one of each", async || {
        let depth = queue.attributes().await.unwrap().depth;
        ((depth.visible, depth.in_flight, depth.delayed) == (1, 1, 1)).then_some(())
    })
    .await;
}

pub(crate) async fn a_missing_queue_is_refused_with_its_name(backend: Backend) {
    let missing = backend.sqs.queue_url("no-such-queue").await;
    let Err(DriverError::Refused(told)) = missing else { panic!("{missing:?}") };
    assert!(
        told.contains("no-such-queue") && told.contains("QueueDoesNotExist")
            || told.contains("NonExistentQueue"),
        "{told}"
    );
    let queue = backend.standard().await;
    let url = backend.sqs.queue_url(queue.queue()).await.unwrap();
    let absent = backend.sqs.queue("absent", &format!("{url}-absent"));
    let request = ReceiveRequest { max: 1, wait: Duration::ZERO, lease: Duration::from_secs(1) };
    let received = absent.receive(request).await;
    assert!(matches!(received, Err(DriverError::Refused(_))), "{received:?}");
    let sent = absent.send(&[message("x")]).await;
    assert!(matches!(sent, Err(DriverError::Refused(_))), "{sent:?}");
}
