//! What the ledger costs: a handler whose effect is a row in PostgreSQL, with a claim of the effect in
//! the same transaction and without, in pairs one after the other. The median of the pairs' ratios, so
//! that what else happens on the machine falls on both.

use std::sync::Arc;

use contracts::errors;
use database::effects::claim;
use database::{Database, Role};
use queue_core::effects::{Claim, EffectKey};
use queue_core::{Delivery, Error, Failure, Worker};
use sqlx::PgPool;

use crate::books::Books;
use crate::ping::{self, Ping};
use crate::report::{Figure, Report};
use crate::sqs::SqsLocal;
use crate::{median, postgres, work_off};

/// Pairs of which the middle counts.
const PAIRS: usize = 5;
const UNIT: &str = "messages/s";

/// Writes a row per message, once where it asks the ledger.
struct Rows {
    pool: PgPool,
    ledger: bool,
}

impl Rows {
    async fn write(&self, delivery: &Delivery<Ping>) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        if self.ledger {
            let key = EffectKey::of_message("bench.row", &delivery.header);
            if let Claim::Done(_) = claim(&mut transaction, &key).await? {
                return Ok(());
            }
        }
        let insert = sqlx::query("INSERT INTO bench_rows VALUES ($1)").bind(delivery.header.id.0);
        insert.execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

impl Worker for Rows {
    const NAME: &'static str = "rows";
    type Message = Ping;
    async fn handle(&self, delivery: Delivery<Ping>) -> Result<(), Failure> {
        self.write(&delivery).await.map_err(|error| {
            let text = format!("{error:#}");
            Failure::Retry(Error::infrastructure(errors::DATABASE_UNAVAILABLE, text))
        })
    }
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let postgres = local_services::Postgres::start(folder.path()).await?;
    let owner = Database::connect(&postgres::config(&postgres.url())?, Role::Owner)?;
    owner.migrate().await?;
    sqlx::raw_sql(
        "CREATE TABLE bench_rows (id uuid NOT NULL);
         GRANT SELECT, INSERT ON bench_rows TO flotilla_worker",
    )
    .execute(owner.pool())
    .await?;
    let worker = Database::connect(&postgres::config(&postgres.url())?, Role::Worker)?;
    let server = SqsLocal::start().await?;
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut books = Books::default();
    for _ in 0..PAIRS {
        let (bare, bare_books) = one(&server, &owner, worker.pool(), count, false).await?;
        let (rate, one_books) = one(&server, &owner, worker.pool(), count, true).await?;
        books = books.and(bare_books).and(one_books);
        ratios.push(rate / bare);
        without.push(bare);
        with.push(rate);
    }
    let name = "a row per message in PostgreSQL";
    report.add(Figure::new(name, median(&without), UNIT).books(books));
    report
        .add(Figure::new(format!("{name}, once by the ledger"), median(&with), UNIT).books(books));
    let figure = Figure::new("cost of the ledger: with / without", median(&ratios), "ratio");
    let note = format!("median of {PAIRS} pairs; one statement more in each transaction");
    report.add(figure.books(books).beside(note));
    owner.close().await;
    worker.close().await;
    postgres.stop().await?;
    Ok(())
}

/// Messages per second, and the rows against what was sent.
async fn one(
    server: &SqsLocal,
    owner: &Database,
    pool: &PgPool,
    count: usize,
    ledger: bool,
) -> anyhow::Result<(f64, Books)> {
    sqlx::raw_sql("TRUNCATE bench_rows, effects; CHECKPOINT").execute(owner.pool()).await?;
    let (ids, bodies) = ping::bodies(count);
    let worker = Arc::new(Rows { pool: pool.clone(), ledger });
    let run = work_off::run(server, worker, bodies).await?;
    let rows: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM bench_rows").fetch_all(owner.pool()).await?;
    let rows: Vec<u128> = rows.into_iter().map(|id| id.as_u128()).collect();
    Ok((count as f64 / run.took.as_secs_f64(), Books::compare(&ids, &rows)))
}
