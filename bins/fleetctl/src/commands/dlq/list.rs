//! `fleetctl dlq list`: what lies on the dead-letter queues and why.

use clap::Args;
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;
use queue_core::{Clock, SystemClock};

use super::letter::Row;
use super::select::Select;
use super::sweep::Sweep;
use crate::failure::Failure;
use crate::output::{Output, short, span, table};
use crate::settings::Settings;

/// Lists dead letters.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq list
  fleetctl dlq list audit-index --code failures-exhausted --older-than 1h
  fleetctl dlq list --by-cause
  fleetctl dlq list --json | jq -r .fingerprint | sort | uniq -c")]
pub(crate) struct List {
    /// Key or name of the queue; every queue when left out
    #[arg(value_parser = super::spec)]
    queue: Option<&'static QueueSpec>,
    #[command(flatten)]
    select: Select,
    /// Count by cause instead
    #[arg(long)]
    by_cause: bool,
    /// At most this many, 1 to 10000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl List {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let specs = self.queue.map_or_else(|| QUEUES.to_vec(), |spec| vec![spec]);
        let mut rows = Vec::new();
        for spec in specs {
            let room = (self.limit as usize).saturating_sub(rows.len());
            rows.extend(matching(settings, spec, &self.select, room).await?);
        }
        if rows.is_empty() {
            output.note("no dead letters");
        }
        if self.by_cause {
            print_causes(&rows, output);
        } else if !rows.is_empty() {
            print(&rows, output);
        }
        if rows.len() == self.limit as usize {
            output.note(&format!("stopped at {}: --limit shows more", self.limit));
        }
        Ok(())
    }
}

/// The rows that are meant; every message is given back.
pub(super) async fn matching(
    settings: &Settings,
    spec: &'static QueueSpec,
    select: &Select,
    limit: usize,
) -> Result<Vec<Row>, Failure> {
    let sqs = settings.sqs().await?;
    let queue = settings.queue(&sqs, spec).await?;
    let mut sweep = Sweep::new(&*queue.dead_letters, spec, select);
    let mut rows = Vec::new();
    let outcome = loop {
        match sweep.next(limit.saturating_sub(rows.len())).await {
            Ok(Some(letters)) => {
                rows.extend(letters.iter().map(|letter| letter.row(spec)));
                sweep.keep(&letters);
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    sweep.finish().await;
    outcome.map(|()| rows)
}

/// The listing as a table.
pub(super) fn print(rows: &[Row], output: &Output) {
    let now = SystemClock.now();
    let heads = ["ID", "QUEUE", "TYPE", "TENANT", "CODE", "REJECTED", "REASON"];
    output.rows(rows, &heads, |row| {
        let ago = row
            .rejected_at
            .map_or_else(|| "-".to_owned(), |at| format!("{} ago", span((now - at).num_seconds())));
        vec![
            row.id.chars().take(8).collect(),
            row.queue.clone(),
            row.kind.clone(),
            row.tenant.clone(),
            row.code.clone(),
            ago,
            short(&row.reason, 80),
        ]
    });
}

fn print_causes(rows: &[Row], output: &Output) {
    let mut causes: Vec<(usize, &Row)> = Vec::new();
    for row in rows {
        let same = |known: &&mut (usize, &Row)| {
            known.1.fingerprint == row.fingerprint && known.1.code == row.code
        };
        match causes.iter_mut().find(same) {
            Some(cause) => cause.0 += 1,
            None => causes.push((1, row)),
        }
    }
    causes.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let values: Vec<_> = causes
        .iter()
        .map(|(count, row)| {
            serde_json::json!({
                "count": count, "fingerprint": row.fingerprint, "code": row.code, "example": row,
            })
        })
        .collect();
    output.value(&values, || {
        let cells: Vec<Vec<String>> = causes
            .iter()
            .map(|(count, row)| {
                let reason = short(&row.reason, 80);
                vec![count.to_string(), row.fingerprint.clone(), row.code.clone(), reason]
            })
            .collect();
        table(&["COUNT", "FINGERPRINT", "CODE", "FOR EXAMPLE"], &cells)
    });
}
