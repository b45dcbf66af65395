//! Plans of what is stored: every log of the tenant once, across chunks and classes, with metadata only
//! where a rule asks, and nothing that came after the snapshot.

use std::sync::Arc;
use std::time::Duration;

use audit::retention::plan::Place;
use audit::retention::{Plan, Planner, RuleHold, RuleSet};
use audit::store::{self, CHUNK_ROWS, Fed, policies};
use chrono::TimeDelta;
use database::{Database, Role, partitions};
use serde_json::{Value, json};
use sqlx::PgConnection;
use testkit::TestDatabase;
use uuid::Uuid;

use super::{at, hold, new, now};
use crate::scene::tenant;

/// Fills January and February with logs of two classes; ids rise with time.
pub(crate) async fn fill(owner: &Database, of: &str, count: i64) {
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-03-02T00:00:00Z"));
    partitions::ensure_range(owner.pool(), from, to).await.unwrap();
    let rows = r#"INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                      actor_type, actor_id, action, outcome, target_types, target_ids)
        SELECT $1, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
               CASE WHEN n % 3 = 0 THEN '1y' ELSE '90d' END, $3 + n * interval '7 seconds',
               convert_to('{"id":"00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')
                   || '","tenant":"' || $1 || '","recorded_at":"2026-01-01T00:00:00Z","class":"90d",'
                   || '"source":{"key_id":"k"},"event":{"actor":{"type":"user","id":"u"},"action":"a",'
                   || '"metadata":{"even":"' || (n % 2 = 0)::text || '"}}}', 'UTF8'),
               sha256(''), '', 'user', 'u' || n % 10, 'act.' || n % 4, 'success', '{doc}', '{d}'
          FROM generate_series(1, $2) n"#;
    sqlx::query(rows).bind(of).bind(count).bind(from).execute(owner.pool()).await.unwrap();
}

/// Waits until what is stored is in a snapshot: transaction ids are the cluster's, so other tests'
/// transactions hold it back for a moment.
pub(crate) async fn settled(owner: &Database) {
    testkit::eventually(Duration::from_secs(60), "the logs are in the snapshot", async || {
        let settled: bool = sqlx::query_scalar(
            "SELECT coalesce(max(ingest_xid::text::bigint), 0)
                    < pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM logs",
        )
        .fetch_one(owner.pool())
        .await
        .unwrap();
        settled.then_some(())
    })
    .await;
}

async fn planned(connection: &mut PgConnection, rules: RuleSet, days: i64) -> Plan {
    let acme = tenant("acme");
    let horizon = store::feed_position(connection).await.unwrap().horizon;
    let as_of = now() + TimeDelta::days(days);
    let policy = rules.policies()[0].id;
    let mut planner = Planner::new(&acme, Arc::new(rules), policy, as_of, horizon).unwrap();
    let mut after: Option<Place> = None;
    loop {
        match store::feed(connection, &acme, &mut planner, after).await.unwrap() {
            Fed::More(place) => {
                assert!(after.is_none_or(|before| before < place));
                after = Some(place);
            }
            Fed::End => return planner.finish(true),
            Fed::Full => return planner.finish(false),
        }
    }
}

fn rules(members: &Value, holds: &[Value]) -> RuleSet {
    let version = new(1, "p", members);
    let policy = audit::retention::Policy {
        id: version.id,
        version: 1,
        spec: version.spec,
        effective_from: now(),
        created_by: json!({}),
        created_at: now(),
    };
    let holds = holds.iter().map(|filter| RuleHold::from(&hold(7, filter)));
    RuleSet::new(vec![policy.rule()], holds.collect())
}

#[tokio::test]
async fn a_plan_counts_every_log_once() {
    let cluster = TestDatabase::new().await;
    let (owner, worker) = (cluster.connect(Role::Owner), cluster.connect(Role::Worker));
    let count = CHUNK_ROWS * 2 + 17;
    fill(&owner, "acme", count).await;
    fill(&owner, "umbrella", 100).await;
    settled(&owner).await;
    let mut connection = worker.pool().acquire().await.unwrap();

    let all = planned(&mut connection, rules(&json!({"keep": "P1D"}), &[]), 0).await;
    let count = count.cast_unsigned();
    assert!(all.complete);
    assert_eq!((all.looked_at, all.events), (count, count));
    let (bytes, first, last): (i64, _, _) = sqlx::query_as(
        "SELECT sum(octet_length(record)), min(recorded_at), max(recorded_at) FROM logs
          WHERE tenant = 'acme'",
    )
    .fetch_one(worker.pool())
    .await
    .unwrap();
    assert_eq!((all.bytes.cast_signed(), all.oldest, all.newest), (bytes, first, last));
    assert_eq!(all.cells.iter().map(|cell| cell.tally.events).sum::<u64>(), count);
    assert_eq!(all.units.iter().map(|unit| unit.tally.events).sum::<u64>(), count);
    assert_eq!(all.by_action.len(), 4);

    let some = json!({"keep": "P1D", "filter": {"actions": ["act.1", "act.2"],
                      "metadata": {"even": "true"}}});
    let some = planned(
        &mut connection,
        rules(&some, &[json!({"actors": [{"type": "user", "id": "u6"}]})]),
        0,
    );
    let some = some.await;
    let (goes, held): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE actor_id <> 'u6'), count(*) FILTER (WHERE actor_id = 'u6')
           FROM logs WHERE tenant = 'acme' AND action = 'act.2'",
    )
    .fetch_one(worker.pool())
    .await
    .unwrap();
    assert_eq!((some.events.cast_signed(), some.staying.held.cast_signed()), (goes, held));
    assert!(goes > 0 && held > 0);

    let nothing = rules(&json!({"keep": "P1D", "filter": {"actions": ["nothing"]}}), &[]);
    let nothing = planned(&mut connection, nothing, 0).await;
    assert_eq!((nothing.events, nothing.units.len(), nothing.looked_at), (0, 0, count));
    assert_eq!(planned(&mut connection, rules(&json!({"keep": "P1Y"}), &[]), 0).await.looked_at, 0);
}

#[tokio::test]
async fn a_plan_ends_at_its_snapshot() {
    let cluster = TestDatabase::new().await;
    let (owner, worker) = (cluster.connect(Role::Owner), cluster.connect(Role::Worker));
    fill(&owner, "acme", 50).await;
    settled(&owner).await;
    // An open transaction: what it and later ones bring is the next plan's.
    let mut open = worker.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let late = "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                                  actor_type, actor_id, action, outcome)
                VALUES ('acme', gen_random_uuid(), '90d', '2026-01-05', '', sha256(''), '', 'user', 'u',
                        'a', 'success')";
    sqlx::query(late).execute(owner.pool()).await.unwrap();
    let mut connection = worker.pool().acquire().await.unwrap();
    let plan = planned(&mut connection, rules(&json!({"keep": "P1D"}), &[]), 0).await;
    assert_eq!(plan.events, 50);
    open.rollback().await.unwrap();
    settled(&owner).await;
    let plan = planned(&mut connection, rules(&json!({"keep": "P1D"}), &[]), 0).await;
    assert_eq!(plan.events, 51);
}

#[tokio::test]
async fn figures_of_an_earlier_day_are_found_and_long_past_ones_forgotten() {
    let cluster = TestDatabase::new().await;
    let (api, owner) = (cluster.connect(Role::Api), cluster.connect(Role::Owner));
    let acme = tenant("acme");
    let mut transaction = api.tenant(&acme).await.unwrap();
    let mut plan = planned(&mut transaction, rules(&json!({"keep": "P1D"}), &[]), 0).await;
    let (id, today) = (Uuid::from_u128(1), now().date_naive());
    let mut keep = async |days: i64, events: u64| {
        plan.as_of = now() + TimeDelta::days(days);
        plan.events = events;
        policies::keep_figures(&mut transaction, &plan).await.unwrap();
    };
    keep(-100, 1).await;
    keep(-2, 2).await;
    keep(-1, 3).await;
    keep(-1, 4).await;
    keep(0, 5).await;
    let before = policies::figures_before(&mut transaction, &acme, id, today).await.unwrap();
    assert_eq!(before.map(|figures| figures.events), Some(4), "the last of yesterday");
    transaction.commit().await.unwrap();
    let days: i64 = sqlx::query_scalar("SELECT count(*) FROM plan_figures")
        .fetch_one(owner.pool())
        .await
        .unwrap();
    assert_eq!(days, 3);
}
