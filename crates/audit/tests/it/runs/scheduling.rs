//! Policies' schedules: each slot a message once, whoever looks and however often; after a pause the
//! latest one alone, tenants in turn.

use audit::scheduling::{self, TENANT_MAX};
use audit::store::policies;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::scene::{Scene, acme};
use crate::retention::{at, new, now};
use crate::scene::tenant;

fn nightly() -> Value {
    json!({"schedule": {"cron": "0 3 * * *", "time_zone": "UTC"}})
}

impl Scene {
    /// Rounds until nothing is due any more; the slots that became messages, in order.
    async fn follow(&self, now: DateTime<Utc>) -> Vec<(String, Value)> {
        self.sql("DELETE FROM outbox").await;
        while scheduling::follow(&self.database, now).await.unwrap().more {}
        let outbox = self.outbox().await.into_iter();
        outbox.map(|(_, group, body)| (group, body["slot"].clone())).collect()
    }

    async fn write_as(&self, of: &str, id: u128, name: &str, members: &Value) {
        let of = tenant(of);
        let mut transaction = self.api.tenant(&of).await.unwrap();
        policies::create(&mut transaction, &of, new(id, name, members)).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

fn ours(slot: &str) -> Vec<(String, Value)> {
    vec![("acme".to_owned(), json!(slot))]
}

#[tokio::test]
async fn a_slot_is_named_once_and_after_a_pause_only_the_latest() {
    let scene = Scene::new(0).await;
    // Written at noon of the first of March.
    scene.write(&acme(), &nightly(), 0).await;
    assert_eq!(scene.follow(now()).await, []);
    assert_eq!(scene.follow(at("2026-03-02T02:59:59Z")).await, []);
    assert_eq!(scene.follow(at("2026-03-02T03:00:00Z")).await, ours("2026-03-02T03:00:00Z"));
    assert_eq!(scene.follow(at("2026-03-02T03:00:10Z")).await, []);
    // Down for three weeks.
    let back = at("2026-03-23T12:00:00Z");
    assert_eq!(scene.follow(back).await, ours("2026-03-23T03:00:00Z"));
    // The clock steps back, and comes again.
    for hours in [-23, -10, 0, 1] {
        assert_eq!(scene.follow(back + TimeDelta::hours(hours)).await, [], "{hours}");
    }
    assert_eq!(scene.follow(at("2026-03-24T03:00:01Z")).await, ours("2026-03-24T03:00:00Z"));
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_silences_no_policy() {
    let scene = Scene::new(0).await;
    scene.write(&acme(), &nightly(), 0).await;
    assert_eq!(scene.follow(now()).await, []);
    assert_eq!(scene.follow(at("2027-03-02T03:00:00Z")).await, ours("2027-03-02T03:00:00Z"));
    let right = at("2026-03-02T12:00:00Z");
    assert_eq!(scene.follow(right).await, [], "from now on, and nothing of the past twice");
    assert_eq!(scene.follow(at("2026-03-03T03:00:00Z")).await, ours("2026-03-03T03:00:00Z"));
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_silences_no_other() {
    let scene = Scene::new(0).await;
    for (of, name) in [("acme", "a"), ("globex", "b"), ("umbrella", "c")] {
        scene.write_as(of, 100, name, &nightly()).await;
    }
    while scheduling::follow(&scene.database, now()).await.unwrap().more {}
    scene.sql("ALTER TABLE policy_versions DISABLE TRIGGER ALL;
               UPDATE policy_versions SET spec = '{\"of\": \"another release\"}' WHERE tenant = 'globex'").await;
    let followed = scheduling::follow(&scene.database, at("2026-03-02T03:00:00Z")).await.unwrap();
    assert_eq!((followed.slots, followed.failed), (2, 1));
    let groups: Vec<_> = scene.outbox().await.into_iter().map(|(_, group, _)| group).collect();
    assert_eq!(groups, ["acme", "umbrella"]);
}

#[tokio::test]
async fn a_change_of_the_policy_changes_its_slots_from_its_time_on() {
    let scene = Scene::new(0).await;
    scene.write(&acme(), &nightly(), 0).await;
    assert_eq!(scene.follow(now()).await, []);
    let mut later = json!({"schedule": {"cron": "0 5 * * *", "time_zone": "UTC"}});
    later["effective_at"] = json!("2026-03-03T00:00:00Z");
    scene.write(&acme(), &later, 1).await;
    assert_eq!(scene.follow(at("2026-03-02T06:00:00Z")).await, ours("2026-03-02T03:00:00Z"));
    assert_eq!(scene.follow(at("2026-03-03T04:00:00Z")).await, [], "the new one is in effect");
    assert_eq!(scene.follow(at("2026-03-03T06:00:00Z")).await, ours("2026-03-03T05:00:00Z"));
    let off = json!({"state": "disabled"});
    scene.write(&acme(), &off, 2).await;
    assert_eq!(scene.follow(at("2026-03-09T06:00:00Z")).await, []);
}

#[tokio::test]
async fn tenants_take_turns_and_a_round_is_bounded() {
    let scene = Scene::new(0).await;
    for n in 0..12 {
        scene.write_as("acme", 100 + n, &format!("p{n}"), &nightly()).await;
    }
    scene.write_as("globex", 7, "theirs", &nightly()).await;
    while scheduling::follow(&scene.database, now()).await.unwrap().more {}
    let morning = at("2026-03-02T03:00:00Z");
    let first = scheduling::follow(&scene.database, morning).await.unwrap();
    assert_eq!(first.slots, u64::try_from(TENANT_MAX).unwrap() + 1);
    let groups: Vec<_> = scene.outbox().await.into_iter().map(|(_, group, _)| group).collect();
    assert_eq!(groups[..2], ["acme", "globex"], "who has few does not wait for who has many");
    while scheduling::follow(&scene.database, morning).await.unwrap().more {}
    assert_eq!(scene.outbox().await.len(), 13);
}

#[tokio::test]
async fn schedulers_at_the_same_time_name_a_slot_once() {
    let scene = Scene::new(0).await;
    for n in 0..5 {
        scene.write_as("acme", 100 + n, &format!("p{n}"), &nightly()).await;
    }
    while scheduling::follow(&scene.database, now()).await.unwrap().more {}
    let morning = at("2026-03-02T03:00:00Z");
    let rounds = (0..6).map(|_| scheduling::follow(&scene.database, morning));
    let slots: u64 = futures_util::future::join_all(rounds)
        .await
        .into_iter()
        .map(|followed| followed.unwrap().slots)
        .sum();
    assert_eq!((slots, scene.outbox().await.len()), (5, 5));
}

#[tokio::test]
async fn a_schedule_that_never_fires_again_is_reported_and_ends() {
    let scene = Scene::new(0).await;
    scene.write(&acme(), &nightly(), 0).await;
    // As no API would take it.
    scene.sql("ALTER TABLE policy_versions DISABLE TRIGGER ALL;
               UPDATE policy_versions SET spec = jsonb_set(spec, '{schedule,cron}', '\"0 3 31 2 *\"')").await;
    let followed = scheduling::follow(&scene.database, now()).await.unwrap();
    assert_eq!((followed.looked_at, followed.slots, followed.never), (1, 0, 1));
    let again = scheduling::follow(&scene.database, now() + TimeDelta::days(400)).await.unwrap();
    assert_eq!(again.looked_at, 0, "it is not looked at again");
}
