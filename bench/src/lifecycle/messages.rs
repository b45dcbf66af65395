//! Archive and cleanup as their queues see them: small units, one message each, through the real workers
//! on the real engine, with PostgreSQL, search in it, and a directory as the archive. Once as fast as
//! they go, once at the seed's hundred messages per second for the time from message to done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use audit::cleanup::Survivors;
use audit::workers::cleanup::{CleanupWorker, Parts};
use aws_sdk_sqs::Client;
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use queue_core::{SystemClock, Worker};
use sinks::objects::SharedObjects;
use sinks::search::{Document, SearchConfig, SharedSearch};
use tokio_util::sync::CancellationToken;

use super::noted::{Handled, Noted};
use super::scene::{Ready, Scene, Started};
use crate::books::Books;
use crate::report::{Figure, Report};
use crate::{median, postgres, samples, sqs, work_off};

/// Events of one message's unit.
const EVENTS: usize = 100;
const ROUNDS: usize = 3;
/// The seed's load, in messages per second.
const OFFERED: usize = 100;
/// The seed's longest times from message to done, in seconds.
const ARCHIVED_WITHIN: f64 = 30.0;
const CLEANED_WITHIN: f64 = 5.0;
/// Documents of one call to search.
const DOCUMENTS: usize = 1_000;

/// What one of the two workers did.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    books: Books,
}

/// Takes the figures.
pub async fn run(report: &mut Report, messages: usize, seconds: usize) -> anyhow::Result<()> {
    let paced = OFFERED * seconds;
    let scene = Scene::start(messages.max(paced)).await?;
    let search = sinks::search::open(&SearchConfig::postgres(), &scene.worker).await?;
    search.ensure().await?;
    let (mut archive, mut cleanup) = (Side::default(), Side::default());
    for round in 1..=ROUNDS {
        eprintln!("  round {round} of {ROUNDS}: {messages} messages of {EVENTS} events");
        let (run, ids) = prepare(&scene, &search, messages).await?;
        let bodies = texts(scene.archive_messages(&run)?);
        let worker = Noted::new(scene.archive_worker());
        let done = beside_sealer(&scene, work_off::run(&scene.server, worker, bodies)).await?;
        archive.rates.push(messages as f64 / done.took.as_secs_f64());
        archive.books = archive.books.and(Books::compare(&ids, &scene.archived(&run).await?));
        scene.sealed().await?;
        let bodies = texts(scene.cleanup_messages(&run).await?);
        let worker = Noted::new(cleanup_worker(&scene, &search));
        let done = work_off::run(&scene.server, worker, bodies).await?;
        cleanup.rates.push(messages as f64 / done.took.as_secs_f64());
        cleanup.books = cleanup.books.and(deleted(&scene, &ids).await?);
    }
    for (name, side) in [("archive", &archive), ("cleanup", &cleanup)] {
        let name = format!("{name}, {EVENTS} events per message");
        let figure = Figure::new(name, median(&side.rates), "messages/s").at_least(OFFERED as f64);
        report.add(figure.books(side.books).beside(format!("median of {ROUNDS} rounds")));
    }
    pace(report, &scene, &search, paced).await?;
    scene.end().await
}

/// Fresh rows, found by search, and a run over them; with their ids.
async fn prepare(
    scene: &Scene,
    search: &SharedSearch,
    messages: usize,
) -> anyhow::Result<(Started, Vec<u128>)> {
    scene.empty().await?;
    let logs = scene.spread(EVENTS).logs(0, messages * EVENTS, samples::new_log);
    scene.insert(&logs).await?;
    for logs in logs.chunks(DOCUMENTS) {
        let documents: Vec<Document> = logs.iter().map(|log| log.document.clone()).collect();
        for outcome in search.index(&documents).await? {
            ensure!(outcome.is_ok(), "{outcome:?}");
        }
    }
    let run = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await?;
    ensure!(run.units.len() == messages, "{} units", run.units.len());
    Ok((run, logs.iter().map(|log| log.key.id.0.as_u128()).collect()))
}

fn texts(messages: Vec<Ready>) -> Vec<String> {
    messages.into_iter().map(|message| message.body).collect()
}

/// As in the archive worker's process, the sealer runs beside.
async fn beside_sealer<T>(
    scene: &Scene,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let ended = CancellationToken::new();
    let sealing = tokio::spawn({
        let (sealer, ended) = (scene.sealer(), ended.clone());
        async move { sealer.run(ended).await }
    });
    let done = work.await;
    ended.cancel();
    sealing.await?;
    done
}

/// The cleanup worker on the scene and that search.
pub fn cleanup_worker(scene: &Scene, search: &SharedSearch) -> CleanupWorker {
    CleanupWorker::new(Parts {
        database: scene.worker.clone(),
        objects: SharedObjects::clone(&scene.objects),
        search: SharedSearch::clone(search),
        clock: Arc::new(SystemClock),
        survivors: Survivors::default(),
    })
}

/// Planned against deleted: by what the table has no more, and by tombstones.
pub async fn deleted(scene: &Scene, ids: &[u128]) -> anyhow::Result<Books> {
    let left: HashSet<u128> = postgres::stored(scene.owner.pool()).await?.into_iter().collect();
    let gone: Vec<u128> = ids.iter().copied().filter(|id| !left.contains(id)).collect();
    let buried: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM tombstones").fetch_all(scene.owner.pool()).await?;
    let buried: Vec<u128> = buried.into_iter().map(|id| id.as_u128()).collect();
    Ok(Books::compare(ids, &gone).worse(Books::compare(ids, &buried)))
}

/// The same at a steady pace.
async fn pace(
    report: &mut Report,
    scene: &Scene,
    search: &SharedSearch,
    messages: usize,
) -> anyhow::Result<()> {
    eprintln!("  {OFFERED} messages/s, {messages} of them");
    let (run, ids) = prepare(scene, search, messages).await?;
    let sent = scene.archive_messages(&run)?;
    let worker = Noted::new(scene.archive_worker());
    let waits = beside_sealer(scene, paced(scene, &worker, sent)).await?;
    let books = Books::compare(&ids, &scene.archived(&run).await?);
    add(report, "archive", waits, ARCHIVED_WITHIN, books);
    scene.sealed().await?;
    let sent = scene.cleanup_messages(&run).await?;
    let worker = Noted::new(cleanup_worker(scene, search));
    let waits = paced(scene, &worker, sent).await?;
    add(report, "cleanup", waits, CLEANED_WITHIN, deleted(scene, &ids).await?);
    Ok(())
}

fn add(report: &mut Report, who: &str, waits: Vec<f64>, within: f64, books: Books) {
    let name = |share| format!("{who} at {OFFERED} messages/s, from message to done: {share}");
    let percentile = |share: f64| {
        let at = (waits.len() as f64 * share) as usize;
        waits.get(at.min(waits.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let figure = Figure::new(name("p50"), percentile(0.5), "s").at_most(within).books(books);
    report.add(figure);
    let figure = Figure::new(name("p99"), percentile(0.99), "s").at_most(within).books(books);
    let slowest = waits.last().copied().unwrap_or(f64::NAN);
    report.add(figure.beside(format!("slowest {slowest:.3} s; {EVENTS} events per message")));
}

/// Seconds from when each message should have been sent until its handler ended well, in order. One
/// that never did counts with the time until all was over.
async fn paced<W: Worker>(
    scene: &Scene,
    worker: &Arc<Noted<W>>,
    messages: Vec<Ready>,
) -> anyhow::Result<Vec<f64>> {
    let (count, begin) = (messages.len(), Instant::now() + Duration::from_millis(500));
    let planned = |at: usize| begin + Duration::from_secs_f64(at as f64 / OFFERED as f64);
    let times: HashMap<u128, Instant> =
        messages.iter().enumerate().map(|(at, message)| (message.id, planned(at))).collect();
    let send = |client: Client, url: String| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for (at, message) in messages.into_iter().enumerate() {
            tokio::time::sleep_until(planned(at).into()).await;
            let (client, url) = (client.clone(), url.clone());
            tasks.spawn(async move { sqs::fill(&client, &url, vec![message.body]).await });
        }
        while let Some(sent) = tasks.join_next().await {
            sent??;
        }
        anyhow::Ok(())
    };
    work_off::run_fed(&scene.server, Arc::clone(worker), count, send).await?;
    Ok(waits(&times, &worker.handled(), Instant::now()))
}

fn waits(planned: &HashMap<u128, Instant>, handled: &Handled, over: Instant) -> Vec<f64> {
    let wait = |(id, from): (&u128, &Instant)| {
        let ended = handled.get(id).map_or(over, |span| span.ended);
        ended.duration_since(*from).as_secs_f64()
    };
    let mut waits: Vec<f64> = planned.iter().map(wait).collect();
    waits.sort_by(f64::total_cmp);
    waits
}
