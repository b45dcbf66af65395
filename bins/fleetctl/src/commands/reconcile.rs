//! `fleetctl reconcile`: whether everything that was accepted is stored once and found by search, or was
//! deleted and is found nowhere, by sets of ids and not by totals. It changes nothing.

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

/// Compares accepted, deleted, stored and searchable.
#[derive(Args)]
#[command(after_help = "\
Example:
  fleetctl import git . --receipts accepted.ids
  fleetctl reconcile --tenant demo accepted.ids
The API key must be of that tenant and have the scope logs:read. A log that was erased, or deleted by a
policy, is neither lost nor to be found: for 60 days its tombstone says so.")]
pub(crate) struct Reconcile {
    /// File of accepted ids, one per line, as `import --receipts` writes it
    file: PathBuf,
    /// Whose logs
    #[arg(long)]
    tenant: Tenant,
}

/// What was found. All from `not_stored` on must be nothing.
#[derive(Serialize)]
struct Findings {
    accepted: usize,
    deleted: usize,
    stored: usize,
    searchable: usize,
    not_stored: usize,
    stored_twice: usize,
    not_searchable: usize,
    found_twice: usize,
    /// Deleted, and there all the same.
    back: usize,
    examples: Vec<String>,
}

impl Findings {
    fn is_whole(&self) -> bool {
        let lost = self.not_stored + self.not_searchable;
        lost + self.stored_twice + self.found_twice + self.back == 0
    }

    /// A row per set; that of what was deleted only where there is any.
    fn table(&self) -> String {
        let row = |name: &str, counts: [usize; 4]| {
            std::iter::once(name.to_owned()).chain(counts.map(|count| count.to_string())).collect()
        };
        let mut rows: Vec<Vec<String>> = vec![row("accepted", [self.accepted, 0, 0, 0])];
        if self.deleted > 0 {
            rows.push(row("deleted", [self.deleted, 0, 0, self.back]));
        }
        rows.push(row("stored", [self.stored, self.not_stored, self.stored_twice, 0]));
        rows.push(row("searchable", [self.searchable, self.not_searchable, self.found_twice, 0]));
        table(&["", "LOGS", "LOST", "TWICE", "BACK"], &rows)
    }
}

impl Reconcile {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let accepted = self.accepted()?;
        let Known { deleted, stored, twice: stored_twice } =
            self.stored(settings, &accepted).await?;
        let (found, found_twice) = searchable(settings, &accepted).await?;
        let mut examples: Vec<String> = Vec::new();
        let mut note = |ids: Vec<&LogId>, what: &str| {
            examples.extend(ids.iter().take(SHOWN).map(|id| format!("{id} {what}")));
            ids.len()
        };
        let missing = |of: &HashSet<LogId>| {
            let gone = |id: &&LogId| !of.contains(*id) && !deleted.contains(*id);
            accepted.iter().filter(gone).collect::<Vec<_>>()
        };
        let not_stored = note(missing(&stored), "is not stored");
        let not_searchable = note(missing(&found), "is not searchable");
        let is_there = |id: &&LogId| stored.contains(*id) || found.contains(*id);
        let back = note(deleted.iter().filter(is_there).collect(), "was deleted and is there");
        let findings = Findings {
            accepted: accepted.len(),
            deleted: deleted.len(),
            stored: stored.len(),
            searchable: found.len(),
            not_stored,
            stored_twice,
            not_searchable,
            found_twice,
            back,
            examples,
        };
        output.value(&findings, || findings.table());
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
    ) -> Result<Known, Failure> {
        let database = settings.database(Role::Worker)?;
        let mut connection = database.pool().acquire().await?;
        let ids: Vec<LogId> = accepted.iter().copied().collect();
        let mut found = Known::default();
        for chunk in ids.chunks(CHUNK) {
            let keys: Vec<_> = chunk.iter().map(|id| (&self.tenant, *id)).collect();
            let erased = store::erased_among(&mut connection, &keys).await?;
            found.deleted.extend(erased.into_iter().map(|place| chunk[place]));
            for (id, times) in store::times_stored(&mut connection, &self.tenant, chunk).await? {
                found.stored.insert(id);
                found.twice += usize::from(times > 1);
            }
        }
        Ok(found)
    }
}

/// What `PostgreSQL` knows of the ids.
#[derive(Default)]
struct Known {
    /// By their tombstones.
    deleted: HashSet<LogId>,
    stored: HashSet<LogId>,
    /// Of those that are stored.
    twice: usize,
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
