//! Fair queues: a noisy tenant's backlog does not keep quiet tenants waiting, and loses nothing by it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sqs_emulator::{Broker, BrokerConfig, Draft, QueueArn};

use crate::support::Bench;

fn of(tenant: &str, body: &str) -> Draft {
    Draft { group: Some(tenant.to_owned()), ..Draft::text(body) }
}

fn tenants(bench: &mut Bench, queue: &QueueArn, max: i64, lease: i64) -> Vec<String> {
    let got = bench.receive(queue, max, lease);
    got.iter().map(|got| got.message.group.as_deref().unwrap_or("-").to_owned()).collect()
}

/// `noisy` sends `backlog` messages and has `in_flight` of them received.
fn noisy(backlog: usize, in_flight: usize) -> (Bench, QueueArn) {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    for n in 0..backlog {
        bench.send(&queue, of("noisy", &n.to_string())).unwrap();
    }
    for _ in 0..in_flight {
        assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["noisy"]);
    }
    (bench, queue)
}

#[test]
fn who_comes_next_depends_on_what_the_others_hold() {
    for (in_flight, expected) in
        [(29, ["noisy", "quiet", "quiet"]), (30, ["quiet", "quiet", "noisy"])]
    {
        let (mut bench, queue) = noisy(200, in_flight);
        for body in ["a", "b"] {
            bench.send(&queue, of("quiet", body)).unwrap();
        }
        assert_eq!(tenants(&mut bench, &queue, 3, 3_600)[..], expected[..], "{in_flight}");
    }
}

#[test]
fn a_message_without_a_group_is_a_quiet_tenant_of_its_own() {
    let (mut bench, queue) = noisy(200, 30);
    bench.send(&queue, Draft::text("alone")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 2, 3_600), ["-", "noisy"]);
}

#[test]
fn ten_percent_of_all_in_flight_is_not_yet_noisy() {
    let mut bench = Bench::new();
    let queue = bench.create("q", &[]);
    for n in 0..270 {
        bench.send(&queue, Draft::text(n.to_string())).unwrap();
    }
    for _ in 0..27 {
        assert_eq!(bench.receive(&queue, 10, 3_600).len(), 10);
    }
    for n in 0..100 {
        bench.send(&queue, of("large", &n.to_string())).unwrap();
    }
    assert_eq!(tenants(&mut bench, &queue, 10, 3_600).len(), 10);
    assert_eq!(tenants(&mut bench, &queue, 10, 3_600).len(), 10);
    assert_eq!(tenants(&mut bench, &queue, 10, 3_600).len(), 10, "30 of 300");
    bench.send(&queue, of("quiet", "q")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["large"], "the oldest still comes first");
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["quiet"], "31 of 301 are more than 10 %");
}

#[test]
fn among_the_noisy_the_one_with_least_in_flight_comes_first() {
    let (mut bench, queue) = noisy(200, 60);
    for n in 0..100 {
        bench.send(&queue, of("second", &n.to_string())).unwrap();
    }
    // It is quiet until it holds thirty, then noisy, with less than the other until both hold sixty.
    for n in 0..60 {
        assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["second"], "{n}");
    }
    let mut after = tenants(&mut bench, &queue, 2, 3_600);
    after.sort();
    assert_eq!(after, ["noisy", "second"], "then they take turns");
}

#[test]
fn an_empty_backlog_or_five_silent_minutes_make_a_tenant_quiet() {
    let (mut bench, queue) = noisy(200, 30);
    bench.send(&queue, of("quiet", "a")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["quiet"]);
    bench.now += 299_999;
    bench.send(&queue, of("quiet", "b")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["quiet"], "a millisecond before");
    bench.now += 1;
    bench.send(&queue, of("quiet", "c")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 2, 3_600), ["noisy"; 2], "the older ones come first");
    bench.send(&queue, of("noisy", "again")).unwrap();
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["noisy"], "noticed at its next lease");
    assert_eq!(tenants(&mut bench, &queue, 1, 3_600), ["quiet"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever the order, everything is handed out once, oldest first within a tenant.
    #[test]
    fn fairness_changes_the_order_between_tenants_only(
        sends in prop::collection::vec(0_u8..4, 1..300), fair in any::<bool>(), batch in 1_i64..=10,
    ) {
        let config = BrokerConfig { fair_queues: fair, ..BrokerConfig::default() };
        let mut bench = Bench { broker: Broker::new(config), now: 0 };
        let queue = bench.create("q", &[]);
        for (n, tenant) in sends.iter().enumerate() {
            let draft = match tenant {
                0 => Draft::text(n.to_string()),
                tenant => of(&tenant.to_string(), &n.to_string()),
            };
            bench.send(&queue, draft).unwrap();
        }
        let mut latest: BTreeMap<Option<String>, usize> = BTreeMap::new();
        let mut count = 0;
        loop {
            let got = bench.receive(&queue, batch, 3_600);
            if got.is_empty() {
                break;
            }
            for delivery in got {
                let number: usize = delivery.message.body.parse().unwrap();
                let before = latest.insert(delivery.message.group.as_deref().map(str::to_owned), number);
                prop_assert!(before.is_none_or(|before| before < number));
                count += 1;
            }
        }
        prop_assert_eq!(count, sends.len());
    }
}
