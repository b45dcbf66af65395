//! The real cleanup worker on one large unit, beside a bare loop that deletes the same number of rows and
//! leaves the same tombstones, and does nothing else. Search says yes to both by not being there.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use sinks::search::SharedSearch;
use sqlx::PgPool;
use uuid::Uuid;

use super::messages::{cleanup_worker, deleted};
use super::noted::Noted;
use super::scene::Scene;
use crate::books::Books;
use crate::report::{Figure, Report};
use crate::stubs::StubSearch;
use crate::{machine, median, postgres, samples, work_off};

const ROUNDS: usize = 3;
const GOAL: f64 = 0.8;
/// Rows of one transaction of the bare loop that are tried.
const BATCHES: [usize; 4] = [1_000, 2_500, 5_000, 10_000];
/// Of a round's rows, so many are enough to choose.
const SWEEP_SHARE: usize = 4;
/// The seed's longest time from message to done, in seconds.
const CLEANED_WITHIN: f64 = 5.0;
const UNIT: &str = "rows/s";

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let scene = Scene::start(1).await?;
    let batch = sweep(&scene, (count / SWEEP_SHARE).max(1)).await?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let (mut ratios, mut whole) = (Vec::new(), Vec::new());
    let (mut bare_books, mut books) = (Books::default(), Books::default());
    for round in 1..=ROUNDS {
        eprintln!("  round {round} of {ROUNDS}: {count} rows");
        let ids = fresh(&scene, count).await?;
        let rate = bare_loop(scene.worker.pool(), batch, count).await?;
        bare_books = bare_books.and(deleted(&scene, &ids).await?);
        let ids = fresh(&scene, count).await?;
        let took = cleaned(&scene).await?;
        books = books.and(deleted(&scene, &ids).await?);
        bare.push(rate);
        ours.push(count as f64 / took);
        ratios.push(count as f64 / took / rate);
        whole.push(took);
    }
    scene.end().await?;
    let figure = Figure::new("bare loop of deletes and tombstones", median(&bare), UNIT);
    let best = format!("its best of {BATCHES:?} rows per transaction: {batch}");
    report.add(figure.books(bare_books).beside(best));
    report.add(Figure::new("cleanup", median(&ours), UNIT).books(books));
    let figure = Figure::new("cleanup / bare loop", median(&ratios), "ratio").at_least(GOAL);
    let note = format!("median of {ROUNDS} rounds, one unit of {count} events");
    report.add(figure.books(books).beside(note));
    let name = format!("cleanup of a unit of {count} events, from message to done");
    report.add(Figure::new(name, median(&whole), "s").at_most(CLEANED_WITHIN).books(books));
    Ok(())
}

/// A table of that many rows and nothing else; their ids.
async fn fresh(scene: &Scene, count: usize) -> anyhow::Result<Vec<u128>> {
    scene.empty().await?;
    scene.fill(count, count, samples::new_log).await?;
    postgres::stored(scene.owner.pool()).await
}

async fn sweep(scene: &Scene, count: usize) -> anyhow::Result<usize> {
    // The first run makes connections and warms the server; nobody is judged by it.
    fresh(scene, count).await?;
    bare_loop(scene.worker.pool(), BATCHES[0], count).await?;
    let (mut best, mut choice) = (0.0_f64, BATCHES[0]);
    for batch in BATCHES {
        fresh(scene, count).await?;
        let rate = bare_loop(scene.worker.pool(), batch, count).await?;
        eprintln!("  bare loop: {batch} rows per transaction: {rate:.0} {UNIT}");
        if rate > best {
            (best, choice) = (rate, batch);
        }
    }
    Ok(choice)
}

/// Archives and seals everything, then deletes it: the seconds from the handler's begin to its end.
async fn cleaned(scene: &Scene) -> anyhow::Result<f64> {
    let run = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await?;
    ensure!(run.units.len() == 1, "{} units", run.units.len());
    let bodies = scene.archive_messages(&run)?.into_iter().map(|message| message.body).collect();
    work_off::run(&scene.server, Arc::new(scene.archive_worker()), bodies).await?;
    scene.sealed().await?;
    let search: SharedSearch = Arc::new(StubSearch);
    let message = scene.cleanup_messages(&run).await?.pop().context("a sealed unit")?;
    sqlx::query("CHECKPOINT").execute(scene.owner.pool()).await?;
    let worker = Noted::new(cleanup_worker(scene, &search));
    work_off::run(&scene.server, Arc::clone(&worker), vec![message.body]).await?;
    let span = worker.handled().get(&message.id).copied().context("the unit was not deleted")?;
    Ok((span.ended - span.begun).as_secs_f64())
}

/// What anybody would write who has the keys: tombstones and deletes, so many at once.
async fn bare_loop(pool: &PgPool, batch: usize, count: usize) -> anyhow::Result<f64> {
    let keys: Vec<(DateTime<Utc>, Uuid)> =
        sqlx::query_as("SELECT recorded_at, id FROM logs ORDER BY recorded_at, id")
            .fetch_all(pool)
            .await?;
    ensure!(keys.len() == count, "{} rows of {count}", keys.len());
    let (mut connection, unit) = (pool.acquire().await?, Uuid::new_v4());
    let start = Instant::now();
    for keys in keys.chunks(batch) {
        let (times, ids): (Vec<_>, Vec<_>) = keys.iter().copied().unzip();
        let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
        bury(&mut transaction, &times, &ids, unit).await?;
        let deleted = sqlx::query(
            "DELETE FROM logs l USING unnest($1::timestamptz[], $2::uuid[]) AS n (at, id)
              WHERE l.tenant = 'bench' AND l.retention_class = '90d'
                AND l.recorded_at = n.at AND l.id = n.id
                AND l.recorded_at >= $3 AND l.recorded_at <= $4",
        )
        .bind(&times)
        .bind(&ids)
        .bind(times.first())
        .bind(times.last())
        .execute(&mut *transaction)
        .await?;
        ensure!(deleted.rows_affected() == keys.len() as u64, "{deleted:?}");
        transaction.commit().await?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

async fn bury(
    connection: &mut sqlx::PgConnection,
    times: &[DateTime<Utc>],
    ids: &[Uuid],
    unit: Uuid,
) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO tombstones (tenant, id, reason, requester, operation_id, recorded_at,
                                 expires_at, erased_class, erased_recorded_at)
         SELECT 'bench', n.id, 'bench', '{}'::jsonb, $3, $4, now() + interval '60 days', '90d', n.at
           FROM unnest($1::timestamptz[], $2::uuid[]) AS n (at, id)
         ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(times)
    .bind(ids)
    .bind(unit)
    .bind(machine::now())
    .execute(connection)
    .await?;
    Ok(())
}
