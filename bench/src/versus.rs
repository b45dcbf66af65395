//! The emulator beside LocalStack, over the same bare connections in the same run: sends of one, sends
//! of ten, receives with deletes. In memory and, as a journal on disk that is synced before an answer,
//! with `--data-dir`.

use std::time::Duration;

use anyhow::Context;
use local_services::LocalStack;

use crate::books::Books;
use crate::median;
use crate::raw::{self, Queue};
use crate::raw_http::BATCH;
use crate::report::{Figure, Report};
use crate::sqs::{self, SqsLocal};

/// Rounds of which the middle counts.
const ROUNDS: usize = 3;
/// What LocalStack does, times this.
const TIMES: f64 = 20.0;
const CALLS: [&str; 3] = ["send", "batch send", "receive + delete"];

/// Messages per second by kind of call, and the books of all of them.
struct Rates {
    by_call: [f64; 3],
    books: Books,
}

/// Takes the figures.
pub async fn run(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let localstack = LocalStack::start(&folder.path().join("localstack")).await?;
    let theirs = rates(&localstack.url(), seconds).await?;
    localstack.stop().await?;
    for (call, rate) in CALLS.iter().zip(theirs.by_call) {
        let figure = Figure::new(format!("LocalStack: {call}"), rate, "messages/s");
        report.add(figure.books(theirs.books));
    }
    let memory = SqsLocal::start().await?;
    add(report, "sqs-local", &theirs, &rates(&memory.endpoint, seconds).await?);
    drop(memory);
    let directory = folder.path().join("journal");
    let directory = directory.to_str().context("a path")?;
    let synced = SqsLocal::start_with(&["--data-dir", directory]).await?;
    add(report, "sqs-local, fsync", &theirs, &rates(&synced.endpoint, seconds).await?);
    Ok(())
}

fn add(report: &mut Report, who: &str, theirs: &Rates, ours: &Rates) {
    for (at, call) in CALLS.iter().enumerate() {
        let (rate, base) = (ours.by_call[at], theirs.by_call[at]);
        let figure = Figure::new(format!("{who}: {call}"), rate, "messages/s");
        report.add(figure.books(ours.books));
        let figure = Figure::new(format!("{who} / LocalStack: {call}"), rate / base, "times");
        report.add(figure.at_least(TIMES).books(ours.books));
    }
}

async fn rates(endpoint: &str, seconds: u64) -> anyhow::Result<Rates> {
    let duration = Duration::from_secs(seconds);
    let mut by_call: [Vec<f64>; 3] = Default::default();
    let mut books = Books::default();
    for _ in 0..ROUNDS {
        let name = format!("raw-{}", uuid::Uuid::new_v4().simple());
        let (url, _) = sqs::create(&sqs::client(endpoint), &name).await?;
        let addr = endpoint.trim_start_matches("http://").parse()?;
        let queue = Queue { addr, url };
        let (single, batch, sent, read) = tokio::task::block_in_place(|| {
            let single = raw::send(&queue, 1, 0, duration)?;
            let batch = raw::send(&queue, BATCH, 1 << 64, duration)?;
            let sent = [single.numbers, batch.numbers].concat();
            let read = raw::work_off(&queue, sent.len())?;
            anyhow::Ok((single.rate, batch.rate, sent, read))
        })?;
        books = books.and(Books::compare(&sent, &read.numbers));
        for (all, one) in by_call.iter_mut().zip([single, batch, read.rate]) {
            all.push(one);
        }
    }
    Ok(Rates { by_call: by_call.each_ref().map(|rates| median(rates)), books })
}
