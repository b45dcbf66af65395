//! `fleetctl doctor`: every dependency, every queue's figures and every dead letter's prospects, each
//! with what to do when it fails. It changes nothing.

mod queues;
mod times;

use std::time::Duration;

use clap::Args;
use database::partitions::Remaining;
use database::{PostgresParking, Role};
use queue_core::Probe;
use serde::Serialize;

use super::dlq::AdminPorts;

use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;
use crate::settings::{PATIENCE, Settings};

/// Checks everything the services need.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  fleetctl doctor\n  fleetctl doctor --json | jq 'select(.ok | not)'"
)]
pub(crate) struct Doctor {
    #[command(flatten)]
    ports: AdminPorts,
    /// Dead letters looked at per queue at most, 0 to 100000
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    letters: u32,
}

/// An effect that may be run again is, within this: what is silent for longer waits for a person.
const SILENT_FOR: Duration = Duration::from_mins(15);
/// Effects in doubt that are counted.
const UNSETTLED_MAX: usize = 1_000;

/// What one check found.
#[derive(Serialize)]
struct Finding {
    what: String,
    ok: bool,
    found: String,
    /// What to do; empty when all is well.
    hint: String,
}

impl Finding {
    fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), ok: true, found: found.into(), hint: String::new() }
    }

    fn bad(what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), ok: false, found: found.into(), hint: hint.into() }
    }
}

impl Doctor {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let mut findings = postgres(settings).await;
        findings.push(search(settings).await);
        findings.push(redis(settings).await);
        findings.push(queues::drain(settings));
        findings.extend(queues::all(settings, &self.ports, self.letters as usize).await);
        findings.push(api(settings).await);
        output.rows(&findings, &["", "WHAT", "FOUND"], |finding| {
            let mark = if finding.ok { "ok" } else { "BAD" };
            vec![mark.to_owned(), finding.what.clone(), finding.found.clone()]
        });
        let bad: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
        for finding in &bad {
            output.note(&format!("{}: {}", finding.what, finding.hint));
        }
        if bad.is_empty() {
            return Ok(());
        }
        Err(Failure {
            exit: UNAVAILABLE,
            ..Failure::new(format!("{} of {} checks failed", bad.len(), findings.len()))
        })
    }
}

async fn parked(settings: &Settings) -> Finding {
    let what = "parked FIFO groups";
    let groups = match settings.database(Role::Worker) {
        Ok(database) => super::parked::groups(&PostgresParking::new(&database), None).await,
        Err(failure) => return Finding::bad(what, failure.message, "check DATABASE_URL"),
    };
    match groups {
        Ok(groups) => match groups.iter().filter(|group| !group.releasing).count() {
            0 => Finding::good(what, format!("none; {} being released", groups.len())),
            count => Finding::bad(
                what,
                format!("{count} wait for a decision"),
                "`fleetctl parked list` shows why; then replay, release or skip",
            ),
        },
        Err(error) => Finding::bad(what, error.to_string(), "check DATABASE_URL"),
    }
}

async fn unsettled(settings: &Settings) -> Finding {
    let what = "effects in doubt";
    match super::effects::unsettled(settings, SILENT_FOR, UNSETTLED_MAX).await {
        Ok(open) if open.is_empty() => Finding::good(what, "none"),
        Ok(open) => {
            let more = if open.len() == UNSETTLED_MAX { " or more" } else { "" };
            let found = format!("{}{more} were begun and not ended", open.len());
            let hint =
                "`fleetctl effects list` names them; ask the other side, then `effects settle`";
            Finding::bad(what, found, hint)
        }
        Err(failure) => Finding::bad(what, failure.message, "check DATABASE_URL"),
    }
}

async fn postgres(settings: &Settings) -> Vec<Finding> {
    let hint = "check DATABASE_URL, the server and its log; then `fleetctl migrate`";
    let database = match settings.database(Role::Owner) {
        Ok(database) => database,
        Err(failure) => return vec![Finding::bad("PostgreSQL", failure.message, hint)],
    };
    match database.probe().await {
        Err(reason) => vec![Finding::bad("PostgreSQL", reason, hint)],
        Ok(()) => vec![
            Finding::good("PostgreSQL", "answers, the schema fits this release"),
            partitions(&database).await,
            retired(&database).await,
            parked(settings).await,
            unsettled(settings).await,
        ],
    }
}

async fn partitions(database: &database::Database) -> Finding {
    let now = queue_core::Clock::now(&queue_core::SystemClock);
    let what = "partitions made ahead";
    let hint = "start the scheduler: it makes 14 days ahead";
    match database::partitions::remaining(database.pool(), now).await {
        Err(error) => Finding::bad(what, error.to_string(), hint),
        Ok(remaining) => {
            let fewest = remaining.iter().map(|class| class.days).min().unwrap_or(0);
            let found = format!("the shortest class has {fewest} days");
            let alarming = remaining.is_empty() || remaining.iter().any(Remaining::alarming);
            if alarming { Finding::bad(what, found, hint) } else { Finding::good(what, found) }
        }
    }
}

async fn retired(database: &database::Database) -> Finding {
    let what = "partitions retired";
    let summary = match database::partitions::retire::summary(database.pool()).await {
        Ok(summary) => summary,
        Err(error) => return Finding::bad(what, error.to_string(), "`fleetctl migrate`"),
    };
    let bytes = |bytes: i64| indicatif::HumanBytes(bytes.unsigned_abs());
    if !summary.occupied.is_empty() {
        let found = format!("rows by hand in {}", summary.occupied.join(", "));
        let hint =
            "detached, and not dropped since somebody wrote into it: attach it again, or empty it";
        return Finding::bad(what, found, hint);
    }
    let found = format!(
        "{} detached ({}), {} dropped in 30 days ({} came back)",
        summary.waiting,
        bytes(summary.waiting_bytes),
        summary.dropped,
        bytes(summary.dropped_bytes)
    );
    Finding::good(what, found)
}

async fn search(settings: &Settings) -> Finding {
    let what = if settings.has("OPENSEARCH_URL") { "OpenSearch" } else { "search in PostgreSQL" };
    let hint = "check OPENSEARCH_URL and the cluster; unset it to search in PostgreSQL";
    let opened = async {
        let database = settings.database(Role::Worker)?;
        let config = settings.read::<sinks::search::SearchConfig>()?;
        sinks::search::open(&config, &database).await.map_err(Failure::new)
    };
    match opened.await {
        Err(failure) => Finding::bad(what, failure.message, hint),
        Ok(search) => probed(what, &*search, hint).await,
    }
}

async fn redis(settings: &Settings) -> Finding {
    let hint = "check REDIS_URL and the server; without it the live tail polls the database";
    let opened = settings
        .read::<sinks::pubsub::FeedConfig>()
        .and_then(|config| sinks::pubsub::Feed::open(&config).map_err(Failure::new));
    match opened {
        Err(failure) => Finding::bad("Redis", failure.message, hint),
        Ok(feed) => probed("Redis", &feed, hint).await,
    }
}

async fn probed<P: Probe + ?Sized>(what: &str, sink: &P, hint: &str) -> Finding {
    match tokio::time::timeout(PATIENCE, sink.probe()).await {
        Err(_) => Finding::bad(what, "no answer in time", hint),
        Ok(Err(reason)) => Finding::bad(what, reason, hint),
        Ok(Ok(())) => Finding::good(what, "answers"),
    }
}

async fn api(settings: &Settings) -> Finding {
    let hint = "start ingest-api, or set FLOTILLA_URL to where it is";
    let api = match settings.api() {
        Ok(api) => api,
        Err(failure) => return Finding::bad("API", failure.message, hint),
    };
    match api.healthy().await {
        Ok(()) => Finding::good("API", format!("{} answers", api.base())),
        Err(failure) => Finding::bad("API", failure.message, hint),
    }
}
