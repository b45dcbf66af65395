//! What cannot be understood ends with a reason, or waits for a build that understands it; nothing
//! stops the engine.

use std::time::Duration;

use contracts::Header;
use proptest::prelude::*;
use queue_core::dead_letter::EnvelopeSummary;

use crate::broker_driver::World;
use crate::rig::{DAY, QUEUE, Rig, envelope, header};

#[tokio::test(start_paused = true)]
async fn each_kind_of_nonsense_is_rejected_with_its_reason_and_the_rest_goes_on() {
    let rig = Rig::new();
    let with = |change: fn(&mut Header), body: &str| {
        let mut header = header(1);
        change(&mut header);
        let mut value = serde_json::to_value(header).unwrap();
        value["body"] = serde_json::from_str(body).unwrap();
        value.to_string()
    };
    let nonsense = [
        ("not json".to_owned(), "message-not-json"),
        ("{}".to_owned(), "message-not-json"),
        ("{\"type\":\"JOB\"}".to_owned(), "message-not-json"),
        ("[".repeat(100_000), "message-not-json"),
        (with(|_| {}, "\"a text\""), "message-malformed"),
        (with(|header| header.kind = "BOMB".into(), "1"), "message-malformed"),
        (with(|header| header.hops = 5, "1"), "message-loop"),
    ];
    for (body, _) in &nonsense {
        rig.queue.put(body);
    }
    rig.queue.put(&with(|header| header.hops = 4, "1"));
    let (running, seen) = rig.start_noting(|_| async { Ok(()) });
    rig.until_empty().await;
    let letters = rig.letters();
    assert_eq!(letters.len(), nonsense.len());
    for (body, code) in nonsense {
        let letter = letters.iter().find(|letter| letter.body == body).unwrap();
        assert_eq!(letter.code, code, "{letter:?}");
        assert!(!letter.message.is_empty());
    }
    assert_eq!(seen.all(), [1], "four hops are allowed");
    running.stop().await;
}

/// Snoozes of an unknown message, and when it was rejected.
async fn unknown(rig: &Rig, body: &str) -> (Vec<Duration>, Duration) {
    rig.queue.put(body);
    let running = rig.start(|_| async { Ok(()) });
    rig.until_within(3 * DAY, "rejected", || rig.dlq.depth().visible == 1).await;
    rig.until_empty().await;
    let letter = rig.letters().remove(0);
    let rejected = (letter.rejected_at - letter.first_seen).to_std().unwrap();
    running.stop().await;
    let snoozes = rig.queue.calls(crate::broker_driver::Kind::Extend);
    let seconds = snoozes.iter().flat_map(|call| call.seconds.clone());
    (seconds.map(Duration::from_secs).collect(), rejected)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_type_or_version_waits_for_a_deploy() {
    const SHORT: Duration = Duration::from_secs(900);
    const LONG: Duration = Duration::from_secs(7_200);
    for change in [
        |header: &mut Header| header.kind = "FROM_THE_FUTURE".into(),
        |header: &mut Header| header.v = 2,
    ] {
        let rig = Rig::new();
        let mut header = header(1);
        change(&mut header);
        let mut value = serde_json::to_value(&header).unwrap();
        value["body"] = 1.into();
        let (snoozes, rejected) = unknown(&rig, &value.to_string()).await;
        assert_eq!(snoozes[..4], [SHORT; 4]);
        assert!(snoozes[4..snoozes.len() - 1].iter().all(|snooze| *snooze == LONG), "{snoozes:?}");
        // One day's retention: two hours before its end.
        let due = Duration::from_secs(22 * 3_600);
        assert!(rejected >= due && rejected < due + Duration::from_secs(30), "{rejected:?}");
        let letter = rig.letters().remove(0);
        assert_eq!(letter.code, "message-unknown-type");
        assert_eq!(letter.envelope, Some(EnvelopeSummary::from(&header)));
        assert!(letter.receives <= 16);
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_longer_retention_an_unknown_type_is_rejected_within_a_day() {
    let mut rig = Rig::new();
    let world = World::new(3);
    rig.dlq = world.queue(QUEUE.dlq, 14 * DAY, None);
    rig.queue = world.queue(QUEUE.name, 7 * DAY, Some((&rig.dlq, QUEUE.receives_max)));
    rig.world = world;
    let body = envelope(1).replace("\"JOB\"", "\"NEWER\"");
    let (_, rejected) = unknown(&rig, &body).await;
    // Four times a quarter of an hour and eleven times two hours: the sixteenth receive.
    let sixteenth = Duration::from_secs(23 * 3_600);
    assert!(rejected >= sixteenth && rejected < DAY, "{rejected:?}");
}

#[tokio::test(start_paused = true)]
async fn sixteen_receives_are_enough_also_when_they_come_faster() {
    let rig = Rig::new();
    rig.queue.put(&envelope(1).replace("\"JOB\"", "\"NEWER\""));
    for _ in 0..15 {
        let taken = rig.queue.take(1, Duration::from_secs(30));
        rig.queue.expose(&taken[0].receipt);
    }
    let running = rig.start(|_| async { Ok(()) });
    rig.until_empty().await;
    assert_eq!(rig.letters()[0].code, "message-unknown-type");
    assert!(rig.world.elapsed() < Duration::from_secs(1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_in_time_handles_what_was_unknown() {
    let rig = Rig::new();
    // A body encoding that this build does not know counts as unknown, too.
    rig.queue.put(&envelope(1).replace("\"json\"", "\"zstd\""));
    let claim = envelope(2).replace(
        "\"body\":2",
        "\"claim\":{\"bucket\":\"b\",\"key\":\"k\",\"sha256\":\"00\",\"size\":1}",
    );
    rig.queue.put(&claim);
    let running = rig.start(|_| async { Ok(()) });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.queue.depth().in_flight, 2, "both are snoozed");
    assert_eq!(rig.dlq.depth().visible, 0);
    running.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the queue, it ends, and the engine goes on.
    #[test]
    fn arbitrary_text_never_stops_the_engine(texts in prop::collection::vec("[ -~]{1,80}", 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            for text in &texts {
                rig.queue.put(text);
            }
            rig.fill(0..1);
            let running = rig.start(|_| async { Ok(()) });
            rig.until_empty().await;
            assert_eq!(rig.letters().len(), texts.len());
            running.stop().await;
        });
    }
}
