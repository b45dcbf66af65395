//! The index queue drained by the real index worker on the real engine. With stub sinks it is the
//! product's own share: receive, decode, check, hash, project, batch, settle.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use audit::store::LogStore;
use audit::workers::index::{Announce, BatchLimits, IndexWorker, Parts};
use contracts::Tenant;
use queue_core::{MemoryAttempts, SystemClock};
use sinks::pubsub::FeedEvent;
use sinks::search::{Search, SinkError};

use crate::books::Books;
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::stubs::{StubSearch, StubStore};
use crate::{median, samples, work_off};

/// Notes the ids of what is announced, which is the worker's last step, and passes nothing on.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<u128>>,
}

#[async_trait]
impl Announce for Notes {
    async fn announce(&self, events: &[FeedEvent]) -> Result<(), SinkError> {
        let mut seen = self.seen.lock().expect("nobody panics");
        seen.extend(events.iter().map(|event| event.id.0.as_u128()));
        Ok(())
    }

    /// Ids are all that is kept, and they are what is counted.
    async fn forget(&self, _: &Tenant) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A drained queue.
pub struct Drained {
    /// Logs per second, from the engine's start to the last settled message.
    pub rate: f64,
    /// Sent against announced.
    pub books: Books,
    /// The ids that were sent.
    pub ids: Vec<u128>,
}

/// Drains `count` logs at `per_message`.
pub async fn drain(
    server: &SqsLocal,
    store: Arc<dyn LogStore>,
    search: Arc<dyn Search>,
    count: usize,
    per_message: usize,
) -> anyhow::Result<Drained> {
    let (ids, bodies) = samples::messages(count, per_message);
    let notes = Arc::new(Notes::default());
    let worker = Arc::new(IndexWorker::new(Parts {
        store,
        search,
        feed: Arc::clone(&notes) as Arc<dyn Announce>,
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
        probes: Vec::new(),
        limits: BatchLimits::default(),
        legacy_tenants: Vec::new(),
    }));
    let run = work_off::run(server, worker, bodies).await?;
    let books = Books::compare(&ids, &notes.seen.lock().expect("nobody panics"));
    Ok(Drained { rate: count as f64 / run.took.as_secs_f64(), books, ids })
}

/// Stub sinks, at one and at a hundred logs per message.
pub async fn stub(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let server = SqsLocal::start().await?;
    for (per_message, count, goal) in
        [(1, 1_000 * scale, 25_000.0), (100, 4_000 * scale, 100_000.0)]
    {
        let (mut rates, mut books) = (Vec::new(), Books::default());
        for _ in 0..3 {
            let (store, search) = (Arc::new(StubStore), Arc::new(StubSearch));
            let one = drain(&server, store, search, count, per_message).await?;
            rates.push(one.rate);
            books = books.and(one.books);
        }
        let name = format!("drain, stub sinks, {per_message} logs per message");
        let figure = Figure::new(name, median(&rates), "logs/s").at_least(goal).books(books);
        report.add(figure.beside(format!("{:.0} messages/s", median(&rates) / per_message as f64)));
    }
    Ok(())
}
