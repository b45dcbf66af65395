//! A rebuild while writes, changes and erasures go on in other processes.

use std::sync::Arc;

use contracts::RetentionClass;
use sinks::search::{Document, OpenSearchSink, Partition, Query, Search, SinkErrorKind};

use crate::engines::{Engine, document, id, opensearch_config, tenant, time};

fn partition() -> Partition {
    Partition::of(RetentionClass::Days30, time())
}

fn tagged(n: u32, revision: u64, tag: &str) -> Document {
    let mut document = document(n);
    document.revision = revision;
    document.tags = vec![tag.into()];
    document
}

fn by_tag(tag: &str) -> Query {
    Query { tags: vec![tag.into()], ..Query::default() }
}

/// What the database would hold is passed to `fill`; what only the search engine holds is stale.
#[tokio::test]
async fn a_rebuild_drops_what_the_database_does_not_hold_and_keeps_what_is_written_meanwhile() {
    for engine in Engine::all().await {
        let name = engine.name;
        let mut elsewhere = document(9);
        elsewhere.class = RetentionClass::Days90;
        engine.write(&[document(1), document(2), document(3), elsewhere]).await;
        let rebuild = engine.writer.begin_rebuild(partition()).await.unwrap();
        // Meanwhile: a new log, a change, an erasure; then the fill with what it read before them.
        engine.write(&[document(4), tagged(2, 1, "changed")]).await;
        engine.erase(&[document(3).reference()]).await;
        let filled = [document(2), document(3)];
        let outcomes = engine.writer.fill(&rebuild, &filled).await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "{name}: {outcomes:?}");
        engine.writer.refresh().await.unwrap();
        // Until the end the old version serves, the new log included.
        let found = engine.found(&Query::default()).await;
        assert_eq!(found, [id(9), id(4), id(2), id(1)], "{name}");
        let end = engine.writer.finish_rebuild(rebuild).await.unwrap();
        assert!(end.dropped.is_none_or(|rows| rows == 1), "{name}: {end:?}");
        // 1 was not in the database.
        assert_eq!(engine.found(&Query::default()).await, [id(9), id(4), id(2)], "{name}");
        assert_eq!(engine.found(&by_tag("changed")).await, [id(2)], "{name}");
        engine.write(&[document(5)]).await;
        let late = engine.write(&[document(3)]).await;
        assert_eq!(late, [sinks::search::Indexed::Superseded], "{name}: erased meanwhile");
        let found = engine.found(&Query::default()).await;
        assert_eq!(found, [id(9), id(5), id(4), id(2)], "{name}");
    }
}

/// The same revision is written again by a fill: a new projection of old logs is what it is for.
#[tokio::test]
async fn a_rebuild_writes_the_same_revision_anew() {
    for engine in Engine::all().await {
        engine.write(&[tagged(1, 3, "old")]).await;
        let rebuild = engine.writer.begin_rebuild(partition()).await.unwrap();
        engine.writer.fill(&rebuild, &[tagged(1, 3, "new")]).await.unwrap();
        engine.writer.finish_rebuild(rebuild).await.unwrap();
        assert_eq!(engine.found(&by_tag("new")).await, [id(1)], "{}", engine.name);
        assert!(engine.found(&by_tag("old")).await.is_empty(), "{}", engine.name);
    }
}

/// Writers in other processes know nothing of the rebuild, but are fenced into it: while they
/// write without a pause, two rebuilds end and no log is missing, at any moment.
#[tokio::test]
async fn other_processes_write_on() {
    let Some(config) = opensearch_config().await else { return };
    let other = OpenSearchSink::new(&config).await.unwrap();
    let rebuilder = OpenSearchSink::new(&config).await.unwrap();
    let reader = OpenSearchSink::new(&config).await.unwrap();
    let stop = Arc::new(tokio_util::sync::CancellationToken::new());
    other.index(&[document(0)]).await.unwrap();
    let stopping = stop.clone();
    let writer = tokio::spawn(async move {
        let mut written: Vec<Document> = vec![document(0)];
        while !stopping.is_cancelled() {
            let next = document(u32::try_from(written.len()).unwrap());
            for outcome in other.index(std::slice::from_ref(&next)).await.unwrap() {
                outcome.unwrap();
            }
            written.push(next);
        }
        written
    });
    let all = Query::default();
    let mut before = 0;
    for _ in 0..2 {
        let rebuild = rebuilder.begin_rebuild(partition()).await.unwrap();
        // What the database holds from here on is at least what is found in a search now.
        reader.refresh().await.unwrap();
        let held = reader.count(&tenant(), &all).await.unwrap();
        let stored: Vec<Document> = (0..u32::try_from(held).unwrap()).map(document).collect();
        let outcomes = rebuilder.fill(&rebuild, &stored).await.unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        rebuilder.finish_rebuild(rebuild).await.unwrap();
        reader.refresh().await.unwrap();
        let now = reader.count(&tenant(), &all).await.unwrap();
        assert!(now >= held && now > before, "{before}, {held}, {now}");
        before = now;
    }
    stop.cancel();
    let written = writer.await.unwrap();
    reader.refresh().await.unwrap();
    assert_eq!(reader.count(&tenant(), &all).await.unwrap(), written.len() as u64);
}

#[tokio::test]
async fn an_erasure_by_a_process_that_remembers_wrongly_reaches_the_new_version() {
    let Some(config) = opensearch_config().await else { return };
    let stale = OpenSearchSink::new(&config).await.unwrap();
    let rebuilder = OpenSearchSink::new(&config).await.unwrap();
    stale.index(&[document(1), document(2)]).await.unwrap();
    let rebuild = rebuilder.begin_rebuild(partition()).await.unwrap();
    rebuilder.fill(&rebuild, &[document(1), document(2)]).await.unwrap();
    rebuilder.finish_rebuild(rebuild).await.unwrap();
    // `stale` still remembers the index that is gone; nothing must be created in its place.
    assert_eq!(stale.erase(&[document(1).reference()]).await.unwrap(), [Ok(())]);
    stale.refresh().await.unwrap();
    let page = rebuilder.search(&tenant(), &Query::default(), 10, None).await.unwrap();
    assert_eq!(page.hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [id(2)]);
}

#[tokio::test]
async fn a_second_rebuild_takes_the_place_of_the_first() {
    let Some(config) = opensearch_config().await else { return };
    let sink = OpenSearchSink::new(&config).await.unwrap();
    sink.index(&[document(1)]).await.unwrap();
    let first = sink.begin_rebuild(partition()).await.unwrap();
    let second = sink.begin_rebuild(partition()).await.unwrap();
    let error = sink.fill(&first, &[document(1)]).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Refused, "{error}");
    assert!(sink.finish_rebuild(first).await.is_err());
    // Abandoned, writes go on and the old version serves.
    sink.abandon_rebuild(second).await.unwrap();
    assert!(sink.index(&[document(2)]).await.unwrap()[0].is_ok());
    sink.refresh().await.unwrap();
    assert_eq!(sink.count(&tenant(), &Query::default()).await.unwrap(), 2);
}
