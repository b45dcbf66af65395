//! `fleetctl reconcile`: whether everything that was accepted is stored once and found by search, by
//! sets of ids and not by totals. It changes nothing.

use std::collections::HashSet;
use std::path::PathBuf;

use audit::store;
use clap::Args;
use contracts::{LogId, Tenant};
use database::Role;
use reqwest::Method;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, table};
use crate::settings::Settings;

/// Ids asked for at a time.
const CHUNK: usize = 1_000;
/// Ids named in the answer for each kind of difference; the rest are counted.
const SHOWN: usize = 5;
/// Lines of the file at most.
const IDS_MAX: usize = 5_000_000;
/// Logs per page of the search.
const PAGE: usize = 500;

/// Compares accepted, stored and searchable.
#[derive(Args)]
#[command(after_help = "\
Example:
  fleetctl import git . --receipts accepted.ids
  fleetctl reconcile --tenant demo accepted.ids
The API key must be of that tenant and have the scope logs:read.")]
pub(crate) struct Reconcile {
    /// File of accepted ids, one per line, as `import --receipts` writes it
    file: PathBuf,
    /// Whose logs
    #[arg(long)]
    tenant: Tenant,
}

/// What was found. `missing` and `twice` must be empty.
#[derive(Serialize)]
struct Findings {
    accepted: usize,
    stored: usize,
    searchable: usize,
    not_stored: usize,
    stored_twice: usize,
    not_searchable: usize,
    found_twice: usize,
    examples: Vec<String>,
}

impl Findings {
    fn is_whole(&self) -> bool {
        self.not_stored + self.stored_twice + self.not_searchable + self.found_twice == 0
    }
}

impl Reconcile {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let accepted = self.accepted()?;
        let (stored, stored_twice) = self.stored(settings, &accepted).await?;
        let (found, found_twice) = searchable(settings, &accepted).await?;
        let mut examples: Vec<String> = Vec::new();
        let mut missing = |of: &HashSet<LogId>, what: &str| {
            let missing: Vec<_> = accepted.difference(of).collect();
            examples.extend(missing.iter().take(SHOWN).map(|id| format!("{id} {what}")));
            missing.len()
        };
        let not_stored = missing(&stored, "is not stored");
        let not_searchable = missing(&found, "is not searchable");
        let findings = Findings {
            accepted: accepted.len(),
            stored: stored.len(),
            searchable: found.len(),
            not_stored,
            stored_twice,
            not_searchable,
            found_twice,
            examples,
        };
        output.value(&findings, || {
            let row = |name: &str, count: usize, lost: usize, twice: usize| {
                vec![name.to_owned(), count.to_string(), lost.to_string(), twice.to_string()]
            };
            let rows = [
                row("accepted", findings.accepted, 0, 0),
                row("stored", findings.stored, not_stored, stored_twice),
                row("searchable", findings.searchable, not_searchable, found_twice),
            ];
            table(&["", "LOGS", "LOST", "TWICE"], &rows)
        });
        if findings.is_whole() {
            return Ok(());
        }
        Err(Failure::new(format!("the sets differ: {}", findings.examples.join(", ")))
            .hint("`fleetctl queues` shows what is still on its way, `fleetctl dlq list` what was rejected"))
    }

    /// The ids of the file; the same id twice is one log (an answer that was repeated).
    fn accepted(&self) -> Result<HashSet<LogId>, Failure> {
        let named = |why: String| Failure::usage(format!("{}: {why}", self.file.display()));
        let text = std::fs::read_to_string(&self.file).map_err(|error| named(error.to_string()))?;
        let mut ids = HashSet::new();
        for (at, line) in text.lines().enumerate() {
            if at >= IDS_MAX {
                return Err(named(format!("over {IDS_MAX} lines")));
            }
            let id = line.trim().parse();
            ids.insert(id.map_err(|_| named(format!("line {}: {line:?} is no id", at + 1)))?);
        }
        Ok(ids)
    }

    async fn stored(
        &self,
        settings: &Settings,
        accepted: &HashSet<LogId>,
    ) -> Result<(HashSet<LogId>, usize), Failure> {
        let database = settings.database(Role::Worker)?;
        let mut connection = database.pool().acquire().await?;
        let ids: Vec<LogId> = accepted.iter().copied().collect();
        let (mut stored, mut twice) = (HashSet::new(), 0);
        for chunk in ids.chunks(CHUNK) {
            for (id, times) in store::times_stored(&mut connection, &self.tenant, chunk).await? {
                stored.insert(id);
                twice += usize::from(times > 1);
            }
        }
        Ok((stored, twice))
    }
}

/// Pages through everything that the key's tenant can find, newest first.
async fn searchable(
    settings: &Settings,
    accepted: &HashSet<LogId>,
) -> Result<(HashSet<LogId>, usize), Failure> {
    let api = settings.api()?;
    let (mut found, mut twice) = (HashSet::new(), 0);
    let mut cursor: Option<String> = None;
    loop {
        let limit = PAGE.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = api.send(|| Ok(api.request(Method::GET, "/logs")?.query(&query))).await?;
        let logs = page["logs"].as_array().map(Vec::as_slice).unwrap_or_default();
        for log in logs {
            let id: Option<LogId> = log["id"].as_str().and_then(|id| id.parse().ok());
            if let Some(id) = id.filter(|id| accepted.contains(id)) {
                twice += usize::from(!found.insert(id));
            }
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || logs.is_empty() {
            return Ok((found, twice));
        }
    }
}
