//! Drain into OpenSearch beside a bare `_bulk` loop. The loop sends the very bytes that the sink would
//! have sent, captured beforehand, so only what happens around the call differs.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use futures_util::StreamExt;
use sinks::search::{Document, Search, SearchConfig};

use crate::drain::{self, StubStore};
use crate::engine::median;
use crate::report::{Goal, Report};
use crate::samples;
use crate::sqs::SqsLocal;

/// Bulk bodies as action and source lines, in order.
type Captured = Arc<Mutex<Vec<String>>>;

/// Takes the figure.
pub async fn run(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let opensearch = local_services::OpenSearch::start(folder.path()).await?;
    let database = database::Database::connect(
        &drain::config("postgres://nobody@127.0.0.1:1/none")?,
        database::Role::Worker,
    )?;
    let count = 300 * scale;
    let search = sinks::search::open(&config(&opensearch.url())?, &database).await?;
    search.ensure().await?;
    // The first documents make the index; neither side pays for that.
    search.index(&documents(100)).await?;
    let (mut bare, mut best) = (0.0_f64, 0);
    for batch in [500, 2_000, 5_000] {
        let rate = bare_bulk(&opensearch.url(), &database, count, batch).await?;
        if rate > bare {
            (bare, best) = (rate, batch);
        }
    }
    let server = SqsLocal::start().await?;
    let (mut rates, mut books) = (Vec::new(), String::new());
    for _ in 0..3 {
        let before = count_all(&search).await?;
        let (rate, one) =
            drain::drain(&server, Arc::new(StubStore), Arc::clone(&search), count, 100).await?;
        let stored = count_all(&search).await? - before;
        ensure!(stored == count as u64, "{stored} documents for {count} logs");
        rates.push(rate);
        books = one.to_string();
    }
    let ours = median(rates);
    let note = format!("{ours:.0} against {bare:.0} logs/s, its best at {best} documents; {books}");
    report.add("drain into OpenSearch / bare _bulk loop", ours / bare, "ratio", Goal::AtLeast(0.8), note);
    opensearch.stop().await?;
    Ok(())
}

async fn count_all(search: &Arc<dyn Search>) -> anyhow::Result<u64> {
    search.refresh().await?;
    Ok(search.count(&samples::tenant(), &sinks::search::Query::default()).await?)
}

fn config(url: &str) -> anyhow::Result<SearchConfig> {
    use clap::{Args, FromArgMatches};
    let command = SearchConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from(["bench", "--opensearch-url", url])?;
    Ok(SearchConfig::from_arg_matches(&matches)?)
}

fn documents(count: usize) -> Vec<Document> {
    samples::new_logs(count).into_iter().map(|log| log.document).collect()
}

/// Two calls at a time, `batch` documents each.
async fn bare_bulk(
    url: &str,
    database: &database::Database,
    count: usize,
    batch: usize,
) -> anyhow::Result<f64> {
    let lines = capture(database, &documents(count)).await?;
    ensure!(lines.len() == 2 * count, "{} lines for {count} documents", lines.len());
    let bodies: Vec<String> = lines.chunks(2 * batch).map(|lines| lines.join("\n") + "\n").collect();
    let client = reqwest::Client::new();
    let start = Instant::now();
    let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(bodies)
        .map(|body| {
            let request = client
                .post(format!("{url}/_bulk"))
                .header("content-type", "application/x-ndjson")
                .body(body);
            async move {
                let answer: serde_json::Value =
                    serde_json::from_slice(&request.send().await?.bytes().await?)?;
                ensure!(answer["errors"] == false, "{answer}");
                Ok(())
            }
        })
        .buffer_unordered(2)
        .collect()
        .await;
    results.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// The lines that the sink sends for these documents.
async fn capture(database: &database::Database, documents: &[Document]) -> anyhow::Result<Vec<String>> {
    let captured = Captured::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(answer).with_state(Arc::clone(&captured));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let search = sinks::search::open(&config(&url)?, database).await?;
    for chunk in documents.chunks(1_000) {
        search.index(chunk).await?;
    }
    server.abort();
    let lines = captured.lock().expect("nobody panics").clone();
    Ok(lines)
}

async fn answer(State(captured): State<Captured>, uri: Uri, _headers: HeaderMap, body: String) -> axum::response::Response {
    use axum::response::IntoResponse;
    let json = [("content-type", "application/json")];
    if !uri.path().ends_with("_bulk") {
        return (json, "{\"acknowledged\":true}".to_owned()).into_response();
    }
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let items = vec![r#"{"index":{"status":201}}"#; lines.len() / 2].join(",");
    captured.lock().expect("nobody panics").extend(lines);
    (json, format!(r#"{{"took":1,"errors":false,"items":[{items}]}}"#)).into_response()
}
