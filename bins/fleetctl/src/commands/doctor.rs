//! `fleetctl doctor`: every dependency, checked one after the other, each with what to do when it
//! fails. It changes nothing.

use clap::Args;
use database::Role;
use database::partitions::Remaining;
use queue_core::Probe;
use serde::Serialize;

use crate::failure::{Failure, UNAVAILABLE};
use crate::output::Output;
use crate::settings::Settings;

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
