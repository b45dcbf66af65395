//! Drain into PostgreSQL beside a bare loop that inserts the same rows: no queue, no decoding, nothing
//! but the statement. Its connections and its batch size are swept, and its best pair is what we are
//! compared with, in turns, each time on an empty table.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use audit::model::NewLog;
use audit::store::PostgresLogs;
use database::{Database, Role};
use futures_util::StreamExt;
use sqlx::PgPool;

use crate::books::Books;
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::stubs::StubSearch;
use crate::{drain, machine, median, samples};

const CONNECTIONS: [usize; 4] = [1, 2, 3, 4];
const BATCHES: [usize; 4] = [500, 1_000, 2_000, 5_000];

/// Takes the figures.
pub async fn run(report: &mut Report, scale: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let postgres = local_services::Postgres::start(folder.path()).await?;
    let owner = Database::connect(&config(&postgres.url())?, Role::Owner)?;
    owner.migrate().await?;
    database::partitions::ensure_ahead(owner.pool(), machine::now(), 14).await?;
    let worker = Database::connect(&config(&postgres.url())?, Role::Worker)?;
    let (connections, batch) = sweep(owner.pool(), worker.pool(), 300 * scale).await?;

    let count = 1_000 * scale;
    let logs: Arc<[NewLog]> = samples::new_logs(count).into();
    let bare_ids: Vec<u128> = logs.iter().map(|log| log.key.id.0.as_u128()).collect();
    let server = SqsLocal::start().await?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let (mut bare_books, mut books) = (Books::default(), Books::default());
    for _ in 0..3 {
        empty(owner.pool()).await?;
        bare.push(bare_inserts(worker.pool(), &logs, connections, batch).await?);
        bare_books = bare_books.and(Books::compare(&bare_ids, &stored(owner.pool()).await?));
        empty(owner.pool()).await?;
        let store = Arc::new(PostgresLogs::new(worker.clone()));
        let one = drain::drain(&server, store, Arc::new(StubSearch), count, 100).await?;
        ours.push(one.rate);
        let in_table = Books::compare(&one.ids, &stored(owner.pool()).await?);
        books = books.and(one.books.worse(in_table));
    }
    let (bare, ours) = (median(&bare), median(&ours));
    let best = format!(
        "its best of {CONNECTIONS:?} connections by {BATCHES:?} rows: {connections} by {batch}"
    );
    let figure = Figure::new("bare insert loop", bare, "rows/s").books(bare_books);
    report.add(figure.beside(best));
    let figure = Figure::new("drain into PostgreSQL, 100 logs per message", ours, "logs/s");
    report.add(figure.books(books));
    let figure = Figure::new("drain into PostgreSQL / bare insert loop", ours / bare, "ratio");
    report.add(figure.at_least(0.8).books(books));
    owner.close().await;
    worker.close().await;
    postgres.stop().await?;
    Ok(())
}

/// Options for a database at that URL.
pub fn config(url: &str) -> anyhow::Result<database::DatabaseConfig> {
    use clap::{Args, FromArgMatches};
    let command = database::DatabaseConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from(["bench", "--database-url", url])?;
    Ok(database::DatabaseConfig::from_arg_matches(&matches)?)
}

/// Ids of every stored row, repeats included.
pub async fn stored(owner: &PgPool) -> anyhow::Result<Vec<u128>> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM logs").fetch_all(owner).await?;
    Ok(ids.into_iter().map(|id| id.as_u128()).collect())
}

/// Both sides begin with an empty table and no write-back of the other's pages.
async fn empty(owner: &PgPool) -> anyhow::Result<()> {
    sqlx::query("TRUNCATE logs").execute(owner).await?;
    sqlx::query("CHECKPOINT").execute(owner).await?;
    Ok(())
}

async fn sweep(owner: &PgPool, worker: &PgPool, count: usize) -> anyhow::Result<(usize, usize)> {
    let logs: Arc<[NewLog]> = samples::new_logs(count).into();
    // The first run makes connections and warms the server; nobody is judged by it.
    bare_inserts(worker, &logs, CONNECTIONS[3], BATCHES[0]).await?;
    let (mut best, mut choice) = (0.0_f64, (CONNECTIONS[0], BATCHES[0]));
    for connections in CONNECTIONS {
        for batch in BATCHES {
            empty(owner).await?;
            let rate = bare_inserts(worker, &logs, connections, batch).await?;
            eprintln!(
                "  bare insert loop: {connections} connections, {batch} rows: {rate:.0} rows/s"
            );
            if rate > best {
                (best, choice) = (rate, (connections, batch));
            }
        }
    }
    Ok(choice)
}

/// The same rows by the same statement shape over `connections`, nothing else done.
pub async fn bare_inserts(
    pool: &PgPool,
    logs: &Arc<[NewLog]>,
    connections: usize,
    batch: usize,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    let results: Vec<anyhow::Result<()>> =
        futures_util::stream::iter((0..logs.len()).step_by(batch))
            .map(|from| {
                let (pool, logs) = (pool.clone(), Arc::clone(logs));
                let task = tokio::spawn(async move {
                    let to = (from + batch).min(logs.len());
                    bare_insert(&pool, &logs[from..to]).await
                });
                async move { task.await? }
            })
            .buffer_unordered(connections)
            .collect()
            .await;
    results.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(logs.len() as f64 / start.elapsed().as_secs_f64())
}

/// One statement.
pub async fn bare_insert(pool: &PgPool, logs: &[NewLog]) -> anyhow::Result<()> {
    let text = |take: fn(&NewLog) -> &str| logs.iter().map(take).collect::<Vec<&str>>();
    let list = |values: Vec<&str>| format!("{{{}}}", values.join(","));
    let kinds = |log: &NewLog| list(log.document.targets.iter().map(|t| &*t.kind).collect());
    let ids = |log: &NewLog| list(log.document.targets.iter().map(|t| &*t.id).collect());
    sqlx::query(
        "INSERT INTO logs (tenant, id, retention_class, recorded_at, record, sha256, leaf_salt,
                           occurred_at, actor_type, actor_id, actor_name, action, outcome,
                           target_types, target_ids)
         SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n::text[], o::text[]
           FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::bytea[],
                       $6::bytea[], $7::bytea[], $8::timestamptz[], $9::text[], $10::text[],
                       $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
             AS r (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)
         ON CONFLICT DO NOTHING",
    )
    .bind(text(|log| log.key.tenant.as_str()))
    .bind(logs.iter().map(|log| log.key.id.0).collect::<Vec<_>>())
    .bind(text(|log| log.key.class.as_str()))
    .bind(logs.iter().map(|log| log.key.recorded_at).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.record[..]).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.sha256[..]).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| &log.salt[..]).collect::<Vec<_>>())
    .bind(logs.iter().map(|log| log.document.occurred_at).collect::<Vec<_>>())
    .bind(text(|log| &log.document.actor.kind))
    .bind(text(|log| &log.document.actor.id))
    .bind(logs.iter().map(|log| log.document.actor.name.as_deref()).collect::<Vec<_>>())
    .bind(text(|log| &log.document.action))
    .bind(text(|log| &log.document.outcome))
    .bind(logs.iter().map(kinds).collect::<Vec<_>>())
    .bind(logs.iter().map(ids).collect::<Vec<_>>())
    .execute(pool)
    .await
    .context("bare insert")?;
    Ok(())
}
