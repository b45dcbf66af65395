//! `fleetctl doctor`: every dependency, checked one after the other, each with what to do when it
//! fails. It changes nothing.

use clap::Args;
use contracts::QueueSpec;
use database::Role;
use database::partitions::Remaining;
use queue_core::Probe;
use queue_core::driver::QueueAttributes;
use serde::Serialize;

use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;
use crate::settings::{PATIENCE, Settings};

/// Checks everything the services need.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  fleetctl doctor\n  fleetctl doctor --json | jq 'select(.ok | not)'"
)]
pub(crate) struct Doctor {}

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

    fn bad(what: impl Into<String>, found: impl Into<String>, hint: &str) -> Self {
        Self { what: what.into(), ok: false, found: found.into(), hint: hint.to_owned() }
    }
}

impl Doctor {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let mut findings = postgres(settings).await;
        findings.push(search(settings).await);
        findings.push(redis(settings).await);
        findings.extend(queues(settings).await);
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

/// Every queue whose worker exists: there, with the catalogue's dead-letter queue behind it.
async fn queues(settings: &Settings) -> Vec<Finding> {
    let hint = "check AWS_REGION, AWS_ENDPOINT_URL and the credentials; Terraform or localstack/ makes the queues";
    let sqs = match settings.sqs().await {
        Ok(sqs) => sqs,
        Err(failure) => return vec![Finding::bad("SQS", failure.message, hint)],
    };
    let mut findings = Vec::new();
    for spec in contracts::catalogue::QUEUES {
        let what = format!("queue {}", spec.key);
        let asked = async {
            let queue = settings.queue(&sqs, spec).await?;
            let attributes = queue.queue.attributes().await.map_err(|e| Failure::sqs(&e))?;
            queue.dead_letters.attributes().await.map_err(|e| Failure::sqs(&e))?;
            Ok::<_, Failure>(attributes)
        };
        findings.push(match asked.await {
            Err(failure) => Finding::bad(what, failure.message, hint),
            Ok(attributes) => judged(what, spec, &attributes),
        });
    }
    findings
}

/// The figures that lose messages when they are wrong.
fn judged(what: String, spec: &QueueSpec, attributes: &QueueAttributes) -> Finding {
    let hint = "bring the queue to docs/QUEUES.md: with Terraform, or by making it anew";
    let dead_letters = attributes.dead_letter_arn.as_deref().unwrap_or_default();
    if !dead_letters.ends_with(spec.dlq) {
        return Finding::bad(what, format!("does not redrive into {}", spec.dlq), hint);
    }
    if attributes.receives_max.is_some_and(|receives| receives <= spec.failures_max) {
        let receives = attributes.receives_max.unwrap_or_default();
        let found = format!("redrives after {receives} receives, which are no failures");
        return Finding::bad(what, found, hint);
    }
    let depth = attributes.depth;
    Finding::good(what, format!("{} waiting, {} in flight", depth.visible, depth.in_flight))
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
