//! What is asked before and after everything else: is it alive, is all there, who may do what.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Answer, HttpDouble, TestOpenSearch, eventually};

use crate::command::fleetctl;
use crate::fleet::{Fleet, PATIENCE, TENANT};

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// The names of checks that failed, each of which says what to do.
fn bad(rows: &[Value]) -> Vec<&str> {
    let failed = rows.iter().filter(|row| row["ok"] == false);
    failed
        .map(|row| {
            assert!(!row["hint"].as_str().unwrap().is_empty(), "what to do? {row}");
            assert!(!row["found"].as_str().unwrap().is_empty(), "why? {row}");
            row["what"].as_str().unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_each_dependency_that_is_down_and_what_to_do() {
    let fleet = Fleet::start().await;
    let rows = fleet.type_in(&["doctor", "--json"]).await.ok().lines();
    assert!(bad(&rows).is_empty(), "{rows:?}");
    let table = fleet.type_in(&["doctor"]).await.ok();
    for what in [
        "PostgreSQL",
        "partitions made ahead",
        "partitions retired",
        "Redis",
        "queue audit-index",
        "API",
    ] {
        assert!(table.out.contains(what), "{what}: {table:?}");
    }
    let postgres = format!("postgres://nobody@{NOBODY}/none");
    let redis = format!("redis://{NOBODY}");
    let http = format!("http://{NOBODY}");
    let queues: Vec<String> =
        contracts::catalogue::QUEUES.iter().map(|spec| format!("queue {}", spec.key)).collect();
    let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
    for (variable, value, expected) in [
        ("DATABASE_URL", &postgres, vec!["PostgreSQL", "search in PostgreSQL"]),
        ("REDIS_URL", &redis, vec!["Redis"]),
        ("OPENSEARCH_URL", &http, vec!["OpenSearch"]),
        ("AWS_ENDPOINT_URL", &http, queues),
        ("FLOTILLA_URL", &http, vec!["API"]),
    ] {
        let said = fleetctl(&fleet.with(variable, value), &["doctor", "--json"]).await;
        assert_eq!(said.code, 69, "{variable}: {said:?}");
        assert_eq!(bad(&said.lines()), expected, "{variable}");
    }
    let said = fleetctl(&fleet.with("REDIS_URL", &redis), &["doctor"]).await;
    assert!(said.out.contains("BAD"), "{said:?}");
    assert!(said.err.contains("Redis: check REDIS_URL"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_admin_port() {
    let fleet = Fleet::start().await;
    for words in [
        vec!["healthcheck", "--admin", &fleet.admin],
        vec!["healthcheck", "--ready", "--admin", &fleet.admin],
    ] {
        assert_eq!(fleetctl(&[], &words).await.ok().out, "healthy\n");
    }
    // A service whose PostgreSQL is away: alive, and not ready, with the reason.
    let double = HttpDouble::start().await;
    double.programme(|seen| {
        if seen.path == "/readyz" {
            Answer::json(serde_json::json!({ "ready": false, "reason": "postgres is away" }))
                .with_status(503)
        } else {
            Answer::json(serde_json::json!({}))
        }
    });
    let admin = double.url();
    fleetctl(&[], &["healthcheck", "--admin", &admin]).await.ok();
    let said = fleetctl(&[], &["healthcheck", "--ready", "--admin", &admin]).await;
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.err.contains("postgres is away"), "{said:?}");
}

/// A machine that stalls for a while is no slow revocation: one of so many tries has to be in time.
const TRIES: usize = 5;
const PROMISED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_by_command_is_refused_within_five_seconds() {
    let fleet = Fleet::start().await;
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let words = ["keys", "create", "--tenant", TENANT, "--scope", "logs:write", "--json"];
        let made = fleet.type_in(&words).await.ok().lines().remove(0);
        let key = made["key"].as_str().unwrap();
        assert_eq!(fleet.send(key, "door.opened").await.0, 202, "known to the API's cache now");
        let revoke = ["keys", "revoke", made["key_id"].as_str().unwrap()];
        let begun = Instant::now();
        let said = fleet.type_in(&revoke).await.ok();
        assert!(!said.err.contains("Redis was not told"), "{said:?}");
        eventually(PATIENCE, "the key is refused", async || {
            (fleet.send(key, "door.opened").await.0 == 401).then_some(())
        })
        .await;
        took.push(begun.elapsed());
        if begun.elapsed() < PROMISED {
            return;
        }
    }
    panic!("not once within {PROMISED:?}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_rebuild_brings_back_what_the_index_lost_while_writes_go_on() {
    let Some(opensearch) = TestOpenSearch::new().await else { return };
    let fleet = Fleet::on(&opensearch).await;
    for _ in 0..30 {
        fleet.post("door.opened").await;
    }
    fleet.found("door.opened", 30).await;
    lose_documents(&fleet, opensearch.url(), 10).await;
    assert_eq!(fleet.find("door.opened").await.len(), 20);
    assert_eq!(fleet.type_in(&["search", "rebuild"]).await.code, 64, "nobody is there to say yes");

    let words = ["search", "rebuild", "--yes", "--json"];
    let (ended, mut written) = (tokio_util::sync::CancellationToken::new(), 0);
    let rebuild = async {
        let rows = fleet.type_in(&words).await.ok().lines();
        ended.cancel();
        rows
    };
    let writing = async {
        while !ended.is_cancelled() {
            fleet.post("window.opened").await;
            written += 1;
        }
    };
    let (rows, ()) = tokio::join!(rebuild, writing);
    let row = |class: &str| rows.iter().find(|row| row["partition"].to_string().contains(class));
    let row = row("90d").unwrap_or_else(|| panic!("{rows:?}"));
    assert!(row["logs"].as_u64().unwrap() >= 30, "{row}");
    assert_eq!(row["rejected"], 0);
    assert!(row["now"].as_str().unwrap().ends_with("-v2"), "{row}");
    fleet.found("door.opened", 30).await;
    assert!(written > 0, "no write fell into the rebuild");
    fleet.found("window.opened", written).await;
    let again = fleet.type_in(&["search", "rebuild", "--class", "1y", "--yes", "--json"]).await;
    assert!(again.ok().lines().is_empty(), "no log is of that class");
}

/// A cluster loses documents.
async fn lose_documents(fleet: &Fleet, opensearch: &str, count: usize) {
    let prefix = fleet.variable("OPENSEARCH_INDEX_PREFIX");
    let url = format!("{opensearch}/{prefix}-*/_search?size={count}&_source=false");
    let found: Value = fleet.client.get(url).send().await.unwrap().json().await.unwrap();
    let hits = found["hits"]["hits"].as_array().unwrap();
    assert_eq!(hits.len(), count);
    for hit in hits {
        let (index, id) = (hit["_index"].as_str().unwrap(), hit["_id"].as_str().unwrap());
        let mut query = vec![("refresh", "true")];
        query.extend(hit["_routing"].as_str().map(|routing| ("routing", routing)));
        let mut url = reqwest::Url::parse(opensearch).unwrap();
        url.path_segments_mut().unwrap().extend([index, "_doc", id]);
        let gone = fleet.client.delete(url).query(&query).send().await.unwrap();
        assert!(gone.status().is_success(), "{}", gone.text().await.unwrap());
    }
}
