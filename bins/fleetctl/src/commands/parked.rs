//! `fleetctl parked`: FIFO groups that wait behind a rejected message, looked at and decided over. A
//! decision is recorded in PostgreSQL; workers carry it out, in order. It sends nothing itself.

use clap::{Args, Subcommand};
use contracts::QueueSpec;
use database::{PostgresParking, Role};
use queue_core::park::{Decision, LineEntry, ParkDesk, ParkStoreError, ParkedGroup};
use queue_core::{Clock, SystemClock};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, short, span};
use crate::settings::{Settings, confirm};

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  fleetctl parked list
  fleetctl parked show orders order-17
  fleetctl parked replay orders order-17
  fleetctl parked skip orders 4711 --reason 'cancelled by the customer'";

/// Groups that one listing shows.
const GROUPS_MAX: usize = 10_000;
/// Messages that a preview names.
const PREVIEW: usize = 10;

/// What can be done with parked groups.
#[derive(Subcommand)]
pub(crate) enum Parked {
    /// List parked groups with their reasons
    #[command(
        after_help = "Examples:\n  fleetctl parked list\n  fleetctl parked list orders --json"
    )]
    List {
        /// Key or name of the queue; every queue when left out
        #[arg(value_parser = queue)]
        queue: Option<String>,
    },
    /// Show a group's line in order
    #[command(after_help = "\
Examples:
  fleetctl parked show orders order-17
  fleetctl parked show orders order-17 --json | jq -r .body")]
    Show {
        #[command(flatten)]
        group: Group,
        /// At most this many, 1 to 10000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Go on behind what was rejected; that stays in the dead-letter queue
    #[command(after_help = "Example:\n  fleetctl parked release orders order-17")]
    Release(Decide),
    /// Begin again with what was rejected, after the cause was mended
    #[command(after_help = "Example:\n  fleetctl parked replay orders order-17 --yes")]
    Replay(Decide),
    /// Send one waiting message to the dead-letter queue; the group stays parked
    #[command(after_help = "Example:\n  fleetctl parked skip orders 4711 --reason 'cancelled'")]
    Skip {
        /// Key or name of the queue
        #[arg(value_parser = queue)]
        queue: String,
        /// Id of the message, as `parked show` gives it
        id: i64,
        /// Why; stands in the dead letter
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// One group of one queue.
#[derive(Args)]
pub(crate) struct Group {
    /// Key or name of the queue
    #[arg(value_parser = queue)]
    queue: String,
    /// The group
    group: String,
}

/// A decision over a group.
#[derive(Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    group: Group,
    /// Show what would be sent, and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// The SQS name of a FIFO queue: by the catalogue, or as it is.
fn queue(text: &str) -> Result<String, String> {
    match QueueSpec::find(text) {
        Some(spec) => Ok(spec.name.to_owned()),
        None if text.strip_suffix(".fifo").is_some_and(|rest| !rest.is_empty()) => {
            Ok(text.to_owned())
        }
        None => Err("neither a queue of the catalogue nor a name that ends in .fifo".to_owned()),
    }
}

fn store(error: ParkStoreError) -> Failure {
    Failure::unavailable(error).hint("check DATABASE_URL; `fleetctl doctor` names what is wrong")
}

impl Parked {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let desk = PostgresParking::new(&settings.database(Role::Worker)?);
        match self {
            Self::List { queue } => list(&desk, queue, output).await,
            Self::Show { group, limit } => show(&desk, &group, limit as usize, output).await,
            Self::Release(decide) => decide.run(&desk, Decision::Release, output).await,
            Self::Replay(decide) => decide.run(&desk, Decision::Replay, output).await,
            Self::Skip { queue, id, reason, yes } => {
                let question = format!("Send message {id} of {queue} to its dead-letter queue?");
                confirm(output, yes, &question)?;
                if !desk.skip(&queue, id, &reason).await.map_err(store)? {
                    return Err(Failure::new(format!("message {id} does not wait in {queue}"))
                        .hint("`fleetctl parked show` gives ids; what is on its way cannot be skipped"));
                }
                output.value(&json!({ "skipped": id }), || {
                    format!(
                        "message {id} is skipped; a worker sends its dead letter within seconds"
                    )
                });
                Ok(())
            }
        }
    }
}

/// Every parked group of a queue, or of all that have some.
pub(super) async fn groups(
    desk: &PostgresParking,
    queue: Option<String>,
) -> Result<Vec<ParkedGroup>, ParkStoreError> {
    let queues = match queue {
        Some(queue) => vec![queue],
        None => desk.queues().await?,
    };
    let mut groups = Vec::new();
    for queue in queues {
        groups.extend(desk.groups(&queue, GROUPS_MAX - groups.len()).await?);
    }
    Ok(groups)
}

async fn list(
    desk: &PostgresParking,
    queue: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    let groups = groups(desk, queue).await.map_err(store)?;
    if groups.is_empty() {
        output.note("no group is parked");
        return Ok(());
    }
    let now = SystemClock.now();
    let heads = ["QUEUE", "GROUP", "STATE", "WAITING", "REJECTED", "SINCE", "CODE", "REASON"];
    output.rows(&groups, &heads, |group| {
        vec![
            group.queue.clone(),
            group.group.clone(),
            if group.releasing { "releasing" } else { "parked" }.to_owned(),
            group.waiting.to_string(),
            group.rejected.to_string(),
            format!("{} ago", span((now - group.parked_at).num_seconds())),
            group.reason.code.clone(),
            short(&group.reason.message, 80),
        ]
    });
    Ok(())
}

async fn show(
    desk: &PostgresParking,
    Group { queue, group }: &Group,
    limit: usize,
    output: &Output,
) -> Result<(), Failure> {
    let line = desk.line(queue, group, limit).await.map_err(store)?;
    if line.is_empty() {
        return Err(not_parked(queue, group));
    }
    print(&line, output);
    if line.len() == limit {
        output.note(&format!("stopped at {limit}: --limit shows more"));
    }
    Ok(())
}

fn not_parked(queue: &str, group: &str) -> Failure {
    Failure::new(format!("group {group} of {queue} is not parked"))
        .hint("`fleetctl parked list` shows those that are")
}

fn print(line: &[LineEntry], output: &Output) {
    let now = SystemClock.now();
    output.rows(line, &["ID", "STATE", "TYPE", "TENANT", "SENT", "BODY"], |entry| {
        let message = &entry.message;
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            entry.id.to_string(),
            entry.state.as_str().to_owned(),
            or_dash(&message.kind),
            or_dash(&message.tenant),
            format!("{} ago", span((now - message.first_seen).num_seconds())),
            short(&message.body, 60),
        ]
    });
}

impl Decide {
    async fn run(
        self,
        desk: &PostgresParking,
        decision: Decision,
        output: &Output,
    ) -> Result<(), Failure> {
        let Group { queue, group } = &self.group;
        let groups = desk.groups(queue, GROUPS_MAX).await.map_err(store)?;
        let Some(found) = groups.iter().find(|found| found.group == *group) else {
            return Err(not_parked(queue, group));
        };
        let (count, first) = match decision {
            Decision::Release => (found.waiting, "behind what was rejected, which stays"),
            Decision::Replay => (found.waiting + found.rejected, "what was rejected first"),
        };
        if self.dry_run || !self.yes {
            let line = desk.line(queue, group, PREVIEW).await.map_err(store)?;
            print(&line, output);
            output.note(&format!("parked: {}: {}", found.reason.code, found.reason.message));
        }
        if self.dry_run {
            return Ok(());
        }
        confirm(output, self.yes, &format!("Send {count} of group {group} in order, {first}?"))?;
        if !desk.decide(queue, group, decision).await.map_err(store)? {
            return Err(not_parked(queue, group));
        }
        let value = json!({ "queue": queue, "group": group, "messages": count });
        output.value(&value, || {
            format!(
                "{count} of group {group} will be sent in order; `fleetctl parked list` follows it"
            )
        });
        Ok(())
    }
}
