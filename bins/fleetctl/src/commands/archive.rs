//! `fleetctl archive`: what the archive holds, and events out of it by range, without reading whole
//! objects. It changes nothing.

use audit::archive::Reader;
use audit::archive::reader::{ArchivedLine, PAGE_LINES_MAX, Position, Wanted};
use audit::store::{self, ArchivedObject, OBJECTS_PAGE_MAX};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use contracts::Tenant;
use database::{Database, Role};
use serde_json::json;
use sinks::objects::ArchiveConfig;
use uuid::Uuid;

use crate::failure::Failure;
use crate::output::{Output, line};
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "Examples:
  fleetctl archive list --tenant acme --from 2026-01-01T00:00:00Z
  fleetctl archive get 01940000-0000-7000-8000-000000000001 --tenant acme
  fleetctl archive search --tenant acme --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --action 'invoice.*'";

/// What can be asked of the archive.
#[derive(Subcommand)]
pub(crate) enum Archive {
    /// List the objects of a time
    #[command(
        after_help = "Example:\n  fleetctl archive list --tenant acme --from 2026-01-01T00:00:00Z"
    )]
    List {
        /// Whose
        #[arg(long)]
        tenant: Tenant,
        #[command(flatten)]
        time: Time,
    },
    /// Print one event with its revisions, byte for byte as it was archived
    #[command(
        after_help = "Example:\n  fleetctl archive get 01940000-0000-7000-8000-000000000001 --tenant acme"
    )]
    Get {
        /// The event's id
        id: Uuid,
        /// Whose
        #[arg(long)]
        tenant: Tenant,
    },
    /// Print the events of a time as NDJSON, oldest hour first
    #[command(
        after_help = "Example:\n  fleetctl archive search --tenant acme --from 2026-01-31T00:00:00Z --action 'invoice.*'"
    )]
    Search {
        /// Whose
        #[arg(long)]
        tenant: Tenant,
        #[command(flatten)]
        time: Time,
        /// Of this action; a `*` at its end stands for any rest
        #[arg(long)]
        action: Option<String>,
        /// By the actor of this id
        #[arg(long)]
        actor: Option<String>,
        /// Lines at most
        #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        limit: u64,
    },
}

/// A span of `recorded_at`.
#[derive(clap::Args)]
pub(crate) struct Time {
    /// From this time on (RFC 3339); by default from the beginning
    #[arg(long, default_value = "1970-01-01T00:00:00Z")]
    from: DateTime<Utc>,
    /// Before this time (RFC 3339); by default to the end
    #[arg(long, default_value = "9999-01-01T00:00:00Z")]
    to: DateTime<Utc>,
}

impl Archive {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let database = settings.database(Role::Worker)?;
        match self {
            Self::List { tenant, time } => list(&database, &tenant, &time, output).await,
            Self::Get { id, tenant } => {
                let reader = reader(&database, settings).await?;
                let found = reader.find(&tenant, id).await.map_err(failed)?;
                if found.is_empty() {
                    let text = format!("no object of the archive holds {id} of tenant {tenant}");
                    return Err(Failure::new(text)
                        .hint("it may not be archived yet, or be another tenant's"));
                }
                found.iter().for_each(print);
                output.note(&format!("from {}", found[0].object));
                Ok(())
            }
            Self::Search { tenant, time, action, actor, limit } => {
                let reader = reader(&database, settings).await?;
                let wanted = Wanted { from: time.from, to: time.to, action, actor };
                search(&reader, &tenant, &wanted, limit, output).await
            }
        }
    }
}

async fn reader(database: &Database, settings: &Settings) -> Result<Reader, Failure> {
    let config: ArchiveConfig = settings.read()?;
    let objects = config.objects().await.ok_or_else(|| {
        Failure::new("no archive is set").hint("ARCHIVE_BUCKET=audit-log-archive, or ARCHIVE_DIR")
    })?;
    Ok(Reader::new(database, objects))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn failed(error: audit::archive::reader::ReadError) -> Failure {
    Failure::new(error.to_string())
}

fn print(found: &ArchivedLine) {
    line(&String::from_utf8_lossy(&found.bytes));
}

async fn list(
    database: &Database,
    tenant: &Tenant,
    time: &Time,
    output: &Output,
) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let mut connection = database.pool().acquire().await?;
        let span = (time.from, time.to);
        let objects =
            store::objects_between(&mut connection, tenant, span, &after, OBJECTS_PAGE_MAX).await?;
        drop(connection);
        let Some(last) = objects.last() else { return Ok(()) };
        after.clone_from(&last.object);
        let rows: Vec<_> = objects.iter().map(row).collect();
        output.rows(&rows, &["OBJECT", "EVENTS", "BYTES", "MANIFEST", "ARCHIVED"], |row| {
            let text = |name: &str| match &row[name] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            ["object", "events", "packed_bytes", "manifest", "archived_at"].map(text).to_vec()
        });
    }
}

fn row(object: &ArchivedObject) -> serde_json::Value {
    json!({
        "object": object.object,
        "events": object.events,
        "packed_bytes": object.packed_bytes,
        "plain_bytes": object.contents.plain.bytes,
        "class": object.class.as_str(),
        "unit": object.unit_id,
        "manifest": object.manifest.sequence,
        "archived_at": object.archived_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "expires_at": object.expires_at,
        "locked_until": object.locked_until,
    })
}

async fn search(
    reader: &Reader,
    tenant: &Tenant,
    wanted: &Wanted,
    limit: u64,
    output: &Output,
) -> Result<(), Failure> {
    let (mut at, mut left, mut blocks) = (Position::default(), limit, 0);
    while left > 0 {
        let ask = usize::try_from(left).unwrap_or(usize::MAX).min(PAGE_LINES_MAX);
        let page = reader.search(tenant, wanted, &at, ask).await.map_err(failed)?;
        page.lines.iter().for_each(print);
        left -= (page.lines.len() as u64).min(left);
        blocks += page.blocks;
        let Some(next) = page.next else { break };
        at = next;
    }
    output.note(&format!("{} lines; {blocks} blocks were read", limit - left));
    Ok(())
}
