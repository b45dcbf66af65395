//! The engine with every duty on and a handler that only notes the id, beside a bare aws-sdk loop with
//! eight pollers: the same messages from the same server, both timed until the last message is deleted.
//! Once as fast as the server answers, and once with 10 ms added to every answer.

use std::sync::Arc;

use anyhow::Context;
use queue_core::engine::EngineConfig;

use crate::books::Books;
use crate::ping::{self, Note};
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::{bare, median, work_off};

/// Rounds of which the middle counts.
const ROUNDS: usize = 3;
const UNIT: &str = "messages/s";
/// Every call waits this long, whatever it asks for.
const SLOW: &str = r#"{"rules":[{"fault":"latency","delay_ms":10}]}"#;
/// What answers that come late are met with: more open polls, and more in hand.
const SLOW_POLLERS: usize = 32;
const SLOW_CONCURRENCY: usize = 1_024;

/// Both sides, in turns.
#[derive(Default)]
struct Rounds {
    bare: Vec<f64>,
    bare_processor: Vec<f64>,
    bare_books: Books,
    ours: Vec<f64>,
    processor: Vec<f64>,
    calls: Vec<f64>,
    books: Books,
}

impl Rounds {
    async fn run(
        server: &SqsLocal,
        count: usize,
        tune: impl Fn(EngineConfig) -> EngineConfig,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let per_ten_thousand = 10_000.0 / count as f64;
        for _ in 0..ROUNDS {
            let bare = bare::run(server, count).await?;
            all.bare.push(bare.rate);
            all.bare_processor.push(bare.processor * per_ten_thousand);
            all.bare_books = all.bare_books.and(bare.books);
            let (ids, bodies) = ping::bodies(count);
            let worker = Arc::new(Note::default());
            let run = work_off::run_with(server, Arc::clone(&worker), bodies, &tune).await?;
            all.ours.push(count as f64 / run.took.as_secs_f64());
            all.processor.push(run.processor * per_ten_thousand);
            all.calls.push(run.calls);
            let seen = worker.seen.lock().expect("no handler panics");
            all.books = all.books.and(Books::compare(&ids, &seen));
        }
        Ok(all)
    }

    fn add(&self, report: &mut Report, suffix: &str, goal: f64) {
        let (bare, ours) = (median(&self.bare), median(&self.ours));
        let name = format!("bare aws-sdk-sqs loop, {} pollers{suffix}", bare::POLLERS);
        report.add(Figure::new(name, bare, UNIT).books(self.bare_books));
        report.add(Figure::new(format!("engine{suffix}"), ours, UNIT).books(self.books));
        let name = format!("engine / bare aws-sdk-sqs loop{suffix}");
        let ratio = Figure::new(name, ours / bare, "ratio").at_least(goal);
        report.add(ratio.books(self.books));
    }
}

/// Takes the figures on a server that answers at once.
pub async fn fast(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    let rounds = Rounds::run(&server, count, |config| config).await?;
    rounds.add(report, "", 0.95);
    let calls = Figure::new("engine: SQS calls per message", median(&rounds.calls), "calls");
    let calls = calls.at_most(0.21).books(rounds.books);
    report.add(calls.beside("a receive and a delete per ten are 0.2"));
    let name = "engine: processor time per 10,000 messages";
    let processor = Figure::new(name, median(&rounds.processor), "s");
    let beside = format!("bare loop {:.3} s", median(&rounds.bare_processor));
    report.add(processor.at_most(0.5).books(rounds.books).beside(beside));
    Ok(())
}

/// Takes them on one that adds 10 ms to every answer.
pub async fn slow(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules.json");
    std::fs::write(&rules, SLOW)?;
    let rules = rules.to_str().context("a path")?;
    let server = SqsLocal::start_with(&["--faults", rules]).await?;
    let rounds = Rounds::run(&server, count, |config| EngineConfig {
        pollers_max: SLOW_POLLERS,
        concurrency: SLOW_CONCURRENCY,
        ..config
    })
    .await?;
    rounds.add(report, ", answers 10 ms late", 2.0);
    Ok(())
}
