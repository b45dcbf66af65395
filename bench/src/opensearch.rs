//! Drain into OpenSearch beside a bare `_bulk` loop. The loop sends the very bytes that the sink would
//! have sent, captured beforehand, and asks for no more of the answer than whether there were errors,
//! so only what happens around the call differs. Its calls in flight and its batch size are swept, and
//! its best pair is what we are compared with, in turns, each time on an index of its own.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use sinks::search::{Document, PAGE_MAX, Query, Search, SearchConfig};

use crate::books::Books;
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::stubs::StubStore;
use crate::{drain, median, postgres, samples};

const IN_FLIGHT: [usize; 3] = [1, 2, 4];
const BATCHES: [usize; 4] = [500, 1_000, 2_000, 5_000];
/// They make the index and its mapping; neither side pays for that.
const FIRST: usize = 100;

/// Bulk bodies as action and source lines, in order.
type Captured = Arc<Mutex<Vec<String>>>;

/// OpenSearch, and a new prefix for every run.
struct Bench {
    url: String,
    database: database::Database,
    client: reqwest::Client,
    prefixes: u32,
}

/// Takes the figures.
pub async fn run(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let opensearch = local_services::OpenSearch::start(folder.path()).await?;
    // The port takes a database because it might be PostgreSQL search; here it is never asked.
    let nowhere = postgres::config("postgres://nobody@127.0.0.1:1/none")?;
    let mut bench = Bench {
        url: opensearch.url(),
        database: database::Database::connect(&nowhere, database::Role::Worker)?,
        client: reqwest::Client::new(),
        prefixes: 0,
    };
    let count = 300 * scale;
    let (in_flight, batch) = sweep(&mut bench, count / 2).await?;
    let server = SqsLocal::start().await?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let (mut bare_books, mut books) = (Books::default(), Books::default());
    for _ in 0..3 {
        let (rate, one) = bench.bare(count, in_flight, batch).await?;
        bare.push(rate);
        bare_books = bare_books.and(one);
        let (rate, one) = bench.ours(&server, count).await?;
        ours.push(rate);
        books = books.and(one);
    }
    let (bare, ours) = (median(&bare), median(&ours));
    let best = format!(
        "its best of {IN_FLIGHT:?} calls in flight by {BATCHES:?} documents: {in_flight} by {batch}"
    );
    let figure = Figure::new("bare _bulk loop", bare, "documents/s").books(bare_books);
    report.add(figure.beside(best));
    let figure = Figure::new("drain into OpenSearch, 100 logs per message", ours, "logs/s");
    report.add(figure.books(books));
    let figure = Figure::new("drain into OpenSearch / bare _bulk loop", ours / bare, "ratio");
    report.add(figure.at_least(0.8).books(books));
    opensearch.stop().await?;
    Ok(())
}

async fn sweep(bench: &mut Bench, count: usize) -> anyhow::Result<(usize, usize)> {
    // A JVM is slow until it is warm; nobody is judged by that.
    bench.bare(2 * count, IN_FLIGHT[1], BATCHES[1]).await?;
    let (mut best, mut choice) = (0.0_f64, (IN_FLIGHT[0], BATCHES[0]));
    for in_flight in IN_FLIGHT {
        for batch in BATCHES {
            let (rate, _) = bench.bare(count, in_flight, batch).await?;
            eprintln!(
                "  bare _bulk loop: {in_flight} in flight, {batch} documents: {rate:.0} documents/s"
            );
            if rate > best {
                (best, choice) = (rate, (in_flight, batch));
            }
        }
    }
    Ok(choice)
}

impl Bench {
    /// An index of its own with some documents in it, behind the sink.
    async fn fresh(&mut self) -> anyhow::Result<(String, Arc<dyn Search>)> {
        self.prefixes += 1;
        let prefix = format!("bench{}", self.prefixes);
        let search = sinks::search::open(&config(&self.url, &prefix)?, &self.database).await?;
        search.ensure().await?;
        search.index(&documents(FIRST)).await?;
        Ok((prefix, search))
    }

    /// Compares what was sent with what is found, then drops the index.
    async fn close(
        &self,
        prefix: &str,
        search: &dyn Search,
        sent: &[u128],
        first: &[u128],
    ) -> anyhow::Result<Books> {
        let found = all_ids(search).await?;
        let sent: Vec<u128> = sent.iter().chain(first).copied().collect();
        let url = format!("{}/{prefix}-*", self.url);
        self.client.delete(url).send().await?.error_for_status()?;
        Ok(Books::compare(&sent, &found))
    }

    async fn ours(&mut self, server: &SqsLocal, count: usize) -> anyhow::Result<(f64, Books)> {
        let (prefix, search) = self.fresh().await?;
        let first = all_ids(&*search).await?;
        let store = Arc::new(StubStore);
        let one = drain::drain(server, store, Arc::clone(&search), count, 100).await?;
        let found = self.close(&prefix, &*search, &one.ids, &first).await?;
        Ok((one.rate, one.books.worse(found)))
    }

    async fn bare(
        &mut self,
        count: usize,
        in_flight: usize,
        batch: usize,
    ) -> anyhow::Result<(f64, Books)> {
        let (prefix, search) = self.fresh().await?;
        let first = all_ids(&*search).await?;
        let documents = documents(count);
        let ids: Vec<u128> = documents.iter().map(|document| document.id.0.as_u128()).collect();
        let lines = self.capture(&prefix, &documents).await?;
        ensure!(lines.len() == 2 * count, "{} lines for {count} documents", lines.len());
        let bodies: Vec<String> =
            lines.chunks(2 * batch).map(|lines| lines.join("\n") + "\n").collect();
        let start = Instant::now();
        let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(bodies)
            .map(|body| {
                let task = tokio::spawn(bulk(self.client.clone(), self.url.clone(), body));
                async move { task.await? }
            })
            .buffer_unordered(in_flight)
            .collect()
            .await;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        results.into_iter().collect::<anyhow::Result<()>>()?;
        Ok((rate, self.close(&prefix, &*search, &ids, &first).await?))
    }
}

async fn bulk(client: reqwest::Client, url: String, body: String) -> anyhow::Result<()> {
    let request = client.post(format!("{url}/_bulk?filter_path=errors"));
    let request = request.header("content-type", "application/x-ndjson").body(body);
    let answer = request.send().await?.error_for_status()?.bytes().await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    ensure!(answer["errors"] == false, "{answer}");
    Ok(())
}

/// Every id that a search finds, page by page.
async fn all_ids(search: &dyn Search) -> anyhow::Result<Vec<u128>> {
    search.refresh().await?;
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = search.search(&samples::tenant(), &Query::default(), PAGE_MAX, after).await?;
        ids.extend(page.hits.iter().map(|hit| hit.id.0.as_u128()));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(ids),
        }
    }
}

fn config(url: &str, prefix: &str) -> anyhow::Result<SearchConfig> {
    use clap::{Args, FromArgMatches};
    let command = SearchConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from([
        "bench",
        "--opensearch-url",
        url,
        "--opensearch-index-prefix",
        prefix,
    ])?;
    Ok(SearchConfig::from_arg_matches(&matches)?)
}

fn documents(count: usize) -> Vec<Document> {
    samples::new_logs(count).into_iter().map(|log| log.document).collect()
}

/// What stands in front of the real node: `_bulk` is kept and answered, the rest passed on.
#[derive(Clone)]
struct InFront {
    url: String,
    client: reqwest::Client,
    captured: Captured,
}

impl Bench {
    /// The lines that the sink sends for these documents.
    async fn capture(&self, prefix: &str, documents: &[Document]) -> anyhow::Result<Vec<String>> {
        let captured = Captured::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let in_front = InFront {
            url: self.url.clone(),
            client: self.client.clone(),
            captured: Arc::clone(&captured),
        };
        // A bulk has some megabytes.
        let router = Router::new().fallback(answer).with_state(in_front);
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let search = sinks::search::open(&config(&url, prefix)?, &self.database).await?;
        for chunk in documents.chunks(1_000) {
            search.index(chunk).await?;
        }
        server.abort();
        let lines = std::mem::take(&mut *captured.lock().expect("nobody panics"));
        Ok(lines)
    }
}

async fn answer(
    State(front): State<InFront>,
    method: Method,
    uri: Uri,
    body: String,
) -> Result<Response, StatusCode> {
    let json = [("content-type", "application/json")];
    if !uri.path().ends_with("_bulk") {
        let request = front.client.request(method, format!("{}{uri}", front.url));
        let request = request.header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let status = answer.status();
        let text = answer.text().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        return Ok((status, json, text).into_response());
    }
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let items = vec![r#"{"index":{"status":201}}"#; lines.len() / 2].join(",");
    front.captured.lock().expect("nobody panics").extend(lines);
    let text = format!(r#"{{"took":1,"errors":false,"items":[{items}]}}"#);
    Ok((json, text).into_response())
}
