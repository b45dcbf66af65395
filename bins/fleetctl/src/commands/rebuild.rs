//! `fleetctl search rebuild`: a new version of the search index from what Postgres holds, while
//! writes go on. Searches see the old version until the new one is whole.

use std::time::Duration;

use audit::model::LogKey;
use audit::{projection, store};
use clap::Args;
use contracts::RetentionClass;
use database::{Database, Role};
use indicatif::ProgressBar;
use serde::Serialize;
use sinks::search::{Document, ItemError, Partition, Rebuild, Search, SearchConfig, SinkError};

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Settings, confirm};

/// Logs read and written at a time.
const PAGE: i64 = 500;
/// Times a document goes to an engine that says "not now".
const TRIES_MAX: u32 = 6;
/// Between two of them, times how many there were.
const PAUSE: Duration = Duration::from_secs(1);

/// Builds search anew.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl search rebuild
  fleetctl search rebuild --class 90d --yes")]
pub(crate) struct Rebuilding {
    /// Only this retention class
    #[arg(long)]
    class: Option<RetentionClass>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What became of one partition.
#[derive(Serialize)]
struct Row {
    partition: String,
    logs: u64,
    rejected: u64,
    now: String,
    dropped: Option<u64>,
}

impl Rebuilding {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let database = settings.database(Role::Worker)?;
        let search = sinks::search::open(&settings.read::<SearchConfig>()?, &database).await;
        let search = search.map_err(|error| failed(&error))?;
        search.probe().await.map_err(Failure::unavailable)?;
        let months = store::months(&mut *database.pool().acquire().await?).await?;
        let wanted = |class| self.class.is_none_or(|only| only == class);
        let partitions: Vec<Partition> = months
            .into_iter()
            .filter(|(class, _)| wanted(*class))
            .map(|(class, at)| Partition::of(class, at))
            .collect();
        let question = format!("Rebuild {} partitions of search?", partitions.len());
        confirm(output, self.yes || partitions.is_empty(), &question)?;
        let bar = output.bar(self.expected(&database).await?);
        let mut rows = Vec::new();
        for partition in partitions {
            bar.set_message(partition.to_string());
            rows.push(rebuild(&database, &*search, partition, &bar).await?);
        }
        bar.finish_and_clear();
        let heads = ["PARTITION", "LOGS", "REJECTED", "NOW IN", "STALE DROPPED"];
        output.rows(&rows, &heads, |row| {
            vec![
                row.partition.clone(),
                row.logs.to_string(),
                row.rejected.to_string(),
                row.now.clone(),
                row.dropped.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            ]
        });
        let rejected: u64 = rows.iter().map(|row| row.rejected).sum();
        if rejected > 0 {
            return Err(Failure::new(format!("{rejected} logs were refused by the search engine"))
                .hint("they are stored and not searchable; the worker's log names the reason"));
        }
        Ok(())
    }
}

impl Rebuilding {
    /// About how many logs there are to read, where PostgreSQL has an idea.
    async fn expected(&self, database: &Database) -> Result<Option<u64>, Failure> {
        let mut connection = database.pool().acquire().await?;
        let logs = store::logs_estimated(&mut connection, self.class).await?;
        Ok(Some(logs).filter(|logs| *logs > 0))
    }
}

async fn rebuild(
    database: &Database,
    search: &dyn Search,
    partition: Partition,
    bar: &ProgressBar,
) -> Result<Row, Failure> {
    let started = search.begin_rebuild(partition).await.map_err(|error| failed(&error))?;
    let filled = fill(database, search, &started, bar).await;
    let (logs, rejected) = match filled {
        Ok(counts) => counts,
        Err(failure) => {
            // The old version serves on; what is left of the new one is dropped by the next try.
            drop(search.abandon_rebuild(started).await);
            return Err(failure);
        }
    };
    let rebuilt = search.finish_rebuild(started).await.map_err(|error| failed(&error))?;
    let partition = partition.to_string();
    Ok(Row { partition, logs, rejected, now: rebuilt.now, dropped: rebuilt.dropped })
}

/// Reads the partition in pages and writes them; `(written, rejected)`.
async fn fill(
    database: &Database,
    search: &dyn Search,
    rebuild: &Rebuild,
    bar: &ProgressBar,
) -> Result<(u64, u64), Failure> {
    let partition = rebuild.partition;
    let range = (partition.month.start(), partition.month.end());
    let (mut written, mut rejected) = (0, 0);
    let mut after: Option<LogKey> = None;
    loop {
        let mut connection = database.pool().acquire().await?;
        let keys =
            store::keys_between(&mut connection, partition.class, range, after.as_ref(), PAGE);
        let keys = keys.await?;
        let Some(last) = keys.last().cloned() else { return Ok((written, rejected)) };
        let logs = store::fetch_by_keys(&mut connection, &keys).await?;
        let documents: Result<Vec<_>, _> = logs.iter().map(projection::of_stored).collect();
        let documents =
            documents.map_err(|error| Failure::new(format!("a stored record: {error}")))?;
        let refused = write(search, rebuild, &documents).await?;
        rejected += refused;
        written += documents.len() as u64 - refused;
        erase_again(&mut connection, search, &documents).await?;
        bar.inc(documents.len() as u64);
        if bar.length().is_some_and(|expected| expected < bar.position()) {
            bar.set_length(bar.position());
        }
        after = Some(last);
    }
}

/// Writes a page, sending again what the engine could not take at once; how many it refused.
async fn write(
    search: &dyn Search,
    rebuild: &Rebuild,
    documents: &[Document],
) -> Result<u64, Failure> {
    let mut left = documents.to_vec();
    let mut refused = 0;
    for again in 1..=TRIES_MAX {
        let outcomes = search.fill(rebuild, &left).await.map_err(|error| failed(&error))?;
        refused +=
            outcomes.iter().filter(|o| matches!(o, Err(ItemError::Reject(_)))).count() as u64;
        let outcomes = left.into_iter().zip(outcomes);
        let later = outcomes.filter(|(_, outcome)| matches!(outcome, Err(ItemError::Retry(_))));
        left = later.map(|(document, _)| document).collect();
        if left.is_empty() {
            return Ok(refused);
        }
        tokio::time::sleep(PAUSE * again).await;
    }
    Err(Failure::unavailable(format!("the search engine did not take {} logs", left.len()))
        .hint("the old version serves on; try again when the cluster is less busy"))
}

/// A log that was erased between its reading and its writing must not come back.
async fn erase_again(
    connection: &mut database::sqlx::PgConnection,
    search: &dyn Search,
    documents: &[Document],
) -> Result<(), Failure> {
    let keys: Vec<_> = documents.iter().map(|document| (&document.tenant, document.id)).collect();
    let erased = store::erased_among(connection, &keys).await?;
    let erased: Vec<_> =
        erased.into_iter().filter_map(|at| documents.get(at)).map(Document::reference).collect();
    if !erased.is_empty() {
        search.erase(&erased).await.map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn failed(error: &SinkError) -> Failure {
    Failure::unavailable(format!("search: {error}"))
        .hint("check OPENSEARCH_URL and the cluster; the old version serves on")
}
