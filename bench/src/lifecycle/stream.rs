//! From PostgreSQL to an object: the real archive worker on the largest units there are, beside a bare
//! `COPY` of the same rows and beside the bare codec with the hashes of an object. The slower of these two
//! is what cannot be beaten by one after the other.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use futures_util::TryStreamExt;
use sqlx::postgres::PgPoolCopyExt;

use super::bare;
use super::corpus::Corpus;
use super::megabytes;
use super::noted::Noted;
use super::scene::Scene;
use crate::books::Books;
use crate::report::{Figure, Report};
use crate::{median, postgres, samples, work_off};

const ROUNDS: usize = 3;
const GOAL: f64 = 0.7;
const CODEC: Codec = Codec::Zstd;
/// The seed's longest time from message to done, in seconds.
const ARCHIVED_WITHIN: f64 = 30.0;
/// Events of which the bare codec's rate is taken.
const SAMPLE: usize = 100_000;
/// The columns of a line, of everything there is, in no order.
const COPY: &str = "COPY (SELECT record, leaf_salt FROM logs WHERE tenant = 'bench') \
                    TO STDOUT (FORMAT binary)";
const UNIT: &str = "MB/s";

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let scene = Scene::start(1).await?;
    let bytes = usize::try_from(scene.fill(count, count, samples::new_log).await?)?;
    let ids = postgres::stored(scene.owner.pool()).await?;
    let corpus = Corpus::new(count.min(SAMPLE));
    let blocks = corpus.blocks();
    let (mut copies, mut codecs, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratios, mut whole, mut books) = (Vec::new(), Vec::new(), Books::default());
    for round in 1..=ROUNDS {
        eprintln!("  round {round} of {ROUNDS}: {count} rows");
        let copy = copied(&scene, bytes).await?;
        let codec = tokio::task::block_in_place(|| packed(&blocks, corpus.bytes))?;
        let archived = archive(&scene, bytes).await?;
        copies.push(copy);
        codecs.push(codec);
        ours.push(archived.rate);
        ratios.push(archived.rate / copy.min(codec));
        whole.push(archived.done.as_secs_f64());
        books = books.and(Books::compare(&ids, &archived.ids));
    }
    scene.end().await?;
    let name = CODEC.extension();
    report.add(Figure::new("bare COPY out", median(&copies), UNIT));
    report.add(Figure::new(
        format!("bare {name} and the hashes, {SAMPLE} events at most"),
        median(&codecs),
        UNIT,
    ));
    let figure = Figure::new(format!("from PostgreSQL to object, {name}"), median(&ours), UNIT);
    report.add(figure.books(books));
    let name = "from PostgreSQL to object / the slower of both";
    let figure = Figure::new(name, median(&ratios), "ratio").at_least(GOAL).books(books);
    report.add(figure.beside(format!("median of {ROUNDS} rounds, {count} rows, {bytes} bytes")));
    let name = format!("archive of {count} events, from message to done");
    let figure = Figure::new(name, median(&whole), "s").at_most(ARCHIVED_WITHIN).books(books);
    report.add(figure.beside("read back whole and in the chain; its slowest unit"));
    Ok(())
}

/// Megabytes of records per second that a `COPY` brings.
async fn copied(scene: &Scene, bytes: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut stream = scene.worker.pool().copy_out_raw(COPY).await?;
    let mut arrived = 0;
    while let Some(chunk) = stream.try_next().await? {
        arrived += chunk.len();
    }
    let rate = megabytes(bytes, start.elapsed());
    ensure!(arrived > bytes, "{arrived} bytes came, {bytes} are stored");
    Ok(rate)
}

fn packed(blocks: &[bare::Block], bytes: usize) -> anyhow::Result<f64> {
    let mut out = Vec::new();
    let start = Instant::now();
    bare::pack(CODEC, blocks, &mut out)?;
    Ok(megabytes(bytes, start.elapsed()))
}

/// What one run over all rows came to.
struct Archived {
    /// Megabytes of records per second, from the handler's begin until the object has its name.
    rate: f64,
    /// The slowest unit, from the handler's begin to its end.
    done: Duration,
    ids: Vec<u128>,
}

/// Archives every row by a run that leaves them: the next run finds them again.
async fn archive(scene: &Scene, bytes: usize) -> anyhow::Result<Archived> {
    let run = scene.run(Then::ArchiveAndDelete, CODEC).await?;
    let (mut to_object, mut done, mut spans) = (Duration::ZERO, Duration::ZERO, Vec::new());
    // One after the other: what one unit takes is not what two take that share the cores.
    for message in scene.archive_messages(&run)? {
        let worker = Noted::new(scene.archive_worker());
        work_off::run(&scene.server, Arc::clone(&worker), vec![message.body]).await?;
        let handled = worker.handled();
        spans.push(*handled.get(&message.id).context("a unit was not archived")?);
    }
    for (unit, span) in scene.units(&run).await?.iter().zip(spans) {
        let object = unit.object.as_ref().context("an object")?;
        let named = named(&scene.archive().join(object))? - span.begun_at;
        to_object += named.to_std().context("the object is older than its unit")?;
        done = done.max(span.ended - span.begun);
    }
    Ok(Archived { rate: megabytes(bytes, to_object), done, ids: scene.archived(&run).await? })
}

/// When a file got its name: the last change of its inode, since nobody writes to an object.
fn named(path: &Path) -> anyhow::Result<DateTime<Utc>> {
    let about = path.metadata().with_context(|| path.display().to_string())?;
    let nanos = u32::try_from(about.ctime_nsec())?;
    DateTime::from_timestamp(about.ctime(), nanos).context("a time")
}
