//! What a cluster in trouble answers to `_bulk`, item by item and as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queue_core::Probe as _;
use serde_json::{Value, json};
use sinks::search::{
    Document, Indexed, ItemError, OpenSearchSink, Query, Search as _, SearchConfig, SinkErrorKind,
};
use testkit::{Answer, Gate, HttpDouble, Seen};

use crate::engines::{document, tenant};

/// A cluster that has the template and the index, and answers bulks as `bulk` says.
async fn cluster(bulk: impl Fn(&Seen) -> Answer + Send + 'static) -> (HttpDouble, OpenSearchSink) {
    let double = HttpDouble::start().await;
    double.programme(move |seen| {
        if seen.path.starts_with("/_bulk") {
            return bulk(seen);
        }
        if seen.path.contains("-v*/_alias") {
            let aliases = json!({ "audit-read": {}, "audit-30d-2026.11-w4": {} });
            return Answer::json(json!({ "audit-30d-2026.11-v2": { "aliases": aliases } }));
        }
        Answer::json(json!({ "acknowledged": true }))
    });
    let sink = sink(&double.url()).await;
    (double, sink)
}

async fn sink(url: &str) -> OpenSearchSink {
    let mut config = SearchConfig::opensearch(url);
    config.search_timeout_secs = 1;
    OpenSearchSink::new(&config).await.unwrap()
}

fn item(status: u16, kind: &str, reason: &str) -> Value {
    json!({ "index": { "status": status, "error": { "type": kind, "reason": reason } } })
}

fn written() -> Value {
    json!({ "index": { "status": 201 } })
}

fn documents(count: u32) -> Vec<Document> {
    (0..count).map(document).collect()
}

/// What the documents of a bulk were: the action lines.
fn actions(seen: &Seen) -> Vec<Value> {
    seen.text().lines().step_by(2).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn items_are_read_one_by_one_in_their_place() {
    let items = vec![
        written(),
        item(409, "version_conflict_engine_exception", "newer"),
        item(429, "es_rejected_execution_exception", "busy"),
        item(503, "unavailable_shards_exception", "primary away"),
        item(400, "circuit_breaking_exception", "memory"),
        item(400, "mapper_parsing_exception", "failed to parse field [x]"),
        item(400, "strict_dynamic_mapping_exception", "[y] is not allowed"),
        item(403, "cluster_block_exception", "disk flood stage"),
        item(500, "", ""),
        written(),
    ];
    let count = u32::try_from(items.len()).unwrap();
    let (_double, sink) = cluster(move |_| Answer::json(json!({ "items": items }))).await;
    let outcomes = sink.index(&documents(count)).await.unwrap();
    let retries: Vec<bool> =
        outcomes.iter().map(|o| matches!(o, Err(ItemError::Retry(_)))).collect();
    assert_eq!(
        retries,
        [false, false, true, true, true, false, false, true, true, false],
        "{outcomes:#?}"
    );
    assert_eq!(outcomes[0], Ok(Indexed::Written));
    assert_eq!(outcomes[1], Ok(Indexed::Superseded));
    assert_eq!(outcomes[9], Ok(Indexed::Written));
    for (at, reason) in [(5, "failed to parse field [x]"), (6, "[y] is not allowed")] {
        let Err(ItemError::Reject(why)) = &outcomes[at] else { panic!("{:?}", outcomes[at]) };
        assert!(why.contains(reason), "{why}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_account_for_every_item_accounts_for_none() {
    let whole = json!({ "items": [written(), written(), written()] }).to_string();
    let cut = Answer::status(200).body(whole.clone()).truncated_at(whole.len() - 5);
    let other = json!({ "index": { "status": 201, "_id": "acme/other" } });
    for (name, answer) in [
        ("cut off", cut),
        ("too few", Answer::json(json!({ "items": [written(), written()] }))),
        ("too many", Answer::json(json!({ "items": vec![written(); 4] }))),
        ("no status", Answer::json(json!({ "items": [written(), { "index": {} }, written()] }))),
        ("another's", Answer::json(json!({ "items": [written(), other, written()] }))),
        ("not JSON", Answer::status(200).body("<html>gateway</html>")),
        ("half JSON", Answer::status(200).body(whole[..whole.len() - 5].to_owned())),
        ("no items", Answer::json(json!({}))),
    ] {
        let (_double, sink) = cluster(move |_| answer.clone()).await;
        let outcomes = sink.index(&documents(3)).await.unwrap();
        assert_eq!(outcomes.len(), 3, "{name}");
        let all = outcomes.iter().all(|outcome| matches!(outcome, Err(ItemError::Retry(_))));
        assert!(all, "{name}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_call_that_fails_as_a_whole_is_infrastructure() {
    let late = Gate::closed();
    for (name, answer, kind) in [
        ("429", Answer::too_many(1), SinkErrorKind::Throttled),
        ("503", Answer::status(503), SinkErrorKind::Unavailable),
        ("403", Answer::status(403), SinkErrorKind::Refused),
        ("dropped", Answer::dropped(), SinkErrorKind::Unavailable),
        ("late", Answer::status(200).behind(&late), SinkErrorKind::Timeout),
    ] {
        let (_double, sink) = cluster(move |_| answer.clone()).await;
        let error = sink.index(&documents(2)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
        let asked = (name == "429").then_some(Duration::from_secs(1));
        assert_eq!(error.retry_after, asked, "{name}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sink = sink(&format!("http://{free}")).await;
    let error = sink.index(&documents(1)).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    assert!(sink.probe().await.is_err());
    let error = sink.search(&tenant(), &Query::default(), 1, None).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn requests_are_bounded_by_bytes() {
    let all_written = |seen: &Seen| {
        let items: Vec<Value> = actions(seen).iter().map(|_| written()).collect();
        Answer::json(json!({ "items": items }))
    };
    let (double, sink) = cluster(all_written).await;
    let sink = sink.with_bulk_bytes_max(1_500);
    let mut documents = documents(10);
    documents[4].text = vec!["long ".repeat(2_000)];
    let outcomes = sink.index(&documents).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(Indexed::Written)));
    let bulks: Vec<Seen> =
        double.seen().into_iter().filter(|seen| seen.path.starts_with("/_bulk")).collect();
    let counts: Vec<usize> = bulks.iter().map(|seen| actions(seen).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 10);
    assert!(counts.len() > 3, "{counts:?}");
    for seen in &bulks {
        let alone = actions(seen).len() == 1;
        assert!(seen.body.len() <= 1_500 || alone, "{} bytes", seen.body.len());
        assert_eq!(seen.header("content-type"), "application/x-ndjson");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_halved_until_the_culprit_is_alone() {
    let limited = |seen: &Seen| {
        if seen.body.len() > 5_000 {
            return Answer::status(413);
        }
        let items: Vec<Value> = actions(seen).iter().map(|_| written()).collect();
        Answer::json(json!({ "items": items }))
    };
    let (_double, sink) = cluster(limited).await;
    let mut documents = documents(20);
    documents[7].text = vec!["long ".repeat(2_000)];
    let outcomes = sink.index(&documents).await.unwrap();
    for (at, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(ItemError::Reject(_)) => assert_eq!(at, 7),
            outcome => assert_eq!(*outcome, Ok(Indexed::Written), "{at}"),
        }
    }
    assert!(matches!(outcomes[7], Err(ItemError::Reject(_))));
}

#[tokio::test]
async fn writes_name_alias_tenant_and_version() {
    let all_written = |seen: &Seen| {
        let items: Vec<Value> = actions(seen).iter().map(|_| written()).collect();
        Answer::json(json!({ "items": items }))
    };
    let (double, sink) = cluster(all_written).await;
    let mut document = document(1);
    document.revision = 7;
    sink.index(&[document]).await.unwrap();
    let seen = double.seen().pop().unwrap();
    assert_eq!(
        actions(&seen)[0],
        json!({ "index": {
            "_index": "audit-30d-2026.11-w4",
            "_id": "acme/0190a6a0-0000-7000-8000-000000000001",
            "routing": "acme",
            "version": 8,
            "version_type": "external",
            "require_alias": true,
        }})
    );
}

#[tokio::test]
async fn an_alias_that_is_gone_is_looked_up_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let (double, sink) = cluster(move |_| {
        let item = match counter.fetch_add(1, Ordering::Relaxed) {
            0 => item(404, "index_not_found_exception", "no such index"),
            _ => written(),
        };
        Answer::json(json!({ "items": [item] }))
    })
    .await;
    assert_eq!(sink.index(&documents(1)).await.unwrap(), [Ok(Indexed::Written)]);
    let looks = double.seen().iter().filter(|seen| seen.path.contains("_alias")).count();
    assert_eq!((tries.load(Ordering::Relaxed), looks), (2, 2));
}

#[tokio::test]
async fn a_search_that_missed_a_shard_is_an_error() {
    let double = HttpDouble::start().await;
    let sink = sink(&double.url()).await;
    let hits = json!({ "hits": [] });
    for answer in [
        json!({ "timed_out": false, "_shards": { "failed": 1 }, "hits": hits }),
        json!({ "timed_out": true, "_shards": { "failed": 0 }, "hits": hits }),
        json!({ "count": 1, "_shards": { "failed": 1 } }),
    ] {
        double.always(Answer::json(answer));
        assert!(sink.search(&tenant(), &Query::default(), 10, None).await.is_err());
        assert!(sink.count(&tenant(), &Query::default()).await.is_err());
    }
    for request in double.seen() {
        assert!(request.path.contains("routing=acme"), "{}", request.path);
        let filter = &request.json()["query"]["bool"]["filter"][0];
        assert_eq!(*filter, json!({ "term": { "tenant": "acme" } }));
    }
}

#[tokio::test]
async fn a_cluster_that_is_red_or_silent_fails_the_probe() {
    let double = HttpDouble::start().await;
    let sink = sink(&double.url()).await;
    for (status, fine) in [("green", true), ("yellow", true), ("red", false)] {
        double.always(Answer::json(json!({ "status": status })));
        assert_eq!(sink.probe().await.is_ok(), fine, "{status}");
    }
    double.always(Answer::status(200).after(Duration::from_secs(30)));
    assert!(sink.probe().await.is_err());
}
