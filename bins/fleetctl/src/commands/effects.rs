//! `fleetctl effects`: effects of which nobody knows whether they happened, looked at and settled. What
//! a person says is kept with who said it and why. It neither runs an effect nor sends a message.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use database::Role;
use database::effects::desk::{
    EffectDesk, EffectEntry, EffectName, Ruling, Standing, Wanted, Word,
};
use queue_core::effects::Outcome;
use queue_core::{Clock, SystemClock};
use serde_json::json;

use crate::author::{author, words};
use crate::failure::Failure;
use crate::output::{Output, short, span};
use crate::settings::{Settings, confirm};

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  fleetctl effects list
  fleetctl effects show orders.mail/acme/id:01941f29-7c00-7000-8000-000000000001
  fleetctl effects settle orders.mail/acme/key:order-17 --done --reason 'the customer has it'
Then `fleetctl dlq redrive QUEUE --code effect-unknown`: what is done is only acknowledged, what is
not done runs.";

/// Decisions that are shown of one effect.
const DECISIONS_MAX: usize = 100;

/// What can be done with effects.
#[derive(Subcommand)]
pub(crate) enum Effects {
    /// List effects of which nobody knows whether they happened
    #[command(after_help = "\
Examples:
  fleetctl effects list
  fleetctl effects list --tenant acme --all
  fleetctl effects list --json | jq -r .effect")]
    List(List),
    /// Show one effect, and what was decided over it
    #[command(after_help = "Example:\n  fleetctl effects show orders.mail/acme/key:order-17")]
    Show {
        /// SCOPE/TENANT/KEY, as `list` and the dead letter give it
        effect: EffectName,
    },
    /// Say whether one happened
    Settle(Settle),
}

/// Which are listed.
#[derive(Args)]
pub(crate) struct List {
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only this effect, e.g. orders.mail
    #[arg(long)]
    scope: Option<String>,
    /// Also those that a delivery is at, and those that will be run again
    #[arg(long)]
    all: bool,
    /// At most this many, 1 to 10000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// A person's word.
#[derive(Args)]
#[command(
    group = ArgGroup::new("word").required(true).args(["done", "not_done"]),
    after_help = "\
Examples:
  fleetctl effects settle orders.mail/acme/key:order-17 --done --reason 'the customer has it'
  fleetctl effects settle orders.charge/acme/key:order-17 --done --outcome ch_1N8 --reason INC-12
  fleetctl effects settle orders.mail/acme/key:order-17 --not-done --reason 'not in the outbox' --yes"
)]
pub(crate) struct Settle {
    /// SCOPE/TENANT/KEY, as `list` and the dead letter give it
    effect: EffectName,
    /// It happened: it is never run again
    #[arg(long)]
    done: bool,
    /// It did not happen: the next delivery runs it
    #[arg(long)]
    not_done: bool,
    /// What it came to, as its worker would have noted it, e.g. a receipt
    #[arg(long, conflicts_with = "not_done", value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Why, or how it is known; kept with the decision
    #[arg(long, value_parser = words)]
    reason: String,
    /// Who; by default the user of this terminal
    #[arg(long, value_parser = words)]
    by: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::new(text).map_err(|error| error.to_string())
}

impl Effects {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let desk = EffectDesk::new(&settings.database(Role::Worker)?);
        match self {
            Self::List(command) => command.run(&desk, output).await,
            Self::Show { effect } => show(&desk, &effect, output).await,
            Self::Settle(command) => command.run(&desk, settings, output).await,
        }
    }
}

/// Names of the effects nobody has said anything of for that long.
pub(super) async fn unsettled(
    settings: &Settings,
    silent_for: Duration,
    max: usize,
) -> Result<Vec<String>, Failure> {
    let desk = EffectDesk::new(&settings.database(Role::Worker)?);
    let open = desk.open(&Wanted { silent_for, ..Wanted::default() }, max).await?;
    Ok(open.into_iter().map(|entry| entry.effect).collect())
}

impl List {
    async fn run(self, desk: &EffectDesk, output: &Output) -> Result<(), Failure> {
        let wanted = Wanted {
            tenant: self.tenant,
            scope: self.scope,
            all_open: self.all,
            silent_for: Duration::ZERO,
        };
        let open = desk.open(&wanted, self.limit as usize).await?;
        if open.is_empty() {
            output.note("no effect is in doubt");
            return Ok(());
        }
        let now = SystemClock.now();
        output.rows(&open, &["EFFECT", "STATE", "BEGUN", "BY"], |entry| {
            vec![
                entry.effect.clone(),
                entry.standing.as_str().to_owned(),
                format!("{} ago", span((now - entry.since).num_seconds())),
                short(&entry.begun_by, 80),
            ]
        });
        if open.len() == self.limit as usize {
            output.note(&format!("stopped at {}: --limit shows more", self.limit));
        }
        Ok(())
    }
}

async fn show(desk: &EffectDesk, name: &EffectName, output: &Output) -> Result<(), Failure> {
    let entry = desk.find(name).await?;
    let decisions = desk.decisions(name, DECISIONS_MAX).await?;
    if entry.is_none() && decisions.is_empty() {
        return Err(unheard_of(name));
    }
    output.value(&json!({ "effect": entry, "decisions": decisions }), || {
        let mut lines = match &entry {
            Some(entry) => told(entry),
            None => vec![format!("{name}: not in the ledger; the next delivery runs it")],
        };
        lines.extend(decisions.iter().map(|decided| {
            format!(
                "{:<12} {} {}: {} (begun {} by {})",
                decided.decision,
                decided.decided_at.to_rfc3339(),
                decided.decided_by,
                decided.reason,
                decided.since.to_rfc3339(),
                decided.holder
            )
        }));
        lines.join("\n")
    });
    Ok(())
}

fn unheard_of(name: &EffectName) -> Failure {
    Failure::new(format!("the ledger has no effect {name}")).hint(
        "`fleetctl effects list --all` gives names; one that was given back, or aged out, is not there",
    )
}

/// An entry for a person.
fn told(entry: &EffectEntry) -> Vec<String> {
    let meaning = match entry.standing {
        Standing::Done => "it happened and is not run again",
        Standing::InProgress => "a delivery is at it",
        Standing::Unknown => "begun, and nobody said how it ended",
        Standing::NotDone => "it did not happen; the next delivery runs it",
    };
    let rows = [
        ("effect", entry.effect.clone()),
        ("state", format!("{}: {meaning}", entry.standing.as_str())),
        ("begun", entry.since.to_rfc3339()),
        ("by", entry.begun_by.clone()),
        ("held for", entry.held_secs.map(|left| format!("{left:.0} s more")).unwrap_or_default()),
        ("outcome", entry.outcome.clone()),
        ("forgotten at", entry.expires_at.to_rfc3339()),
    ];
    let said = rows.into_iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| format!("{name:<12} {value}")).collect()
}

impl Settle {
    async fn run(
        self,
        desk: &EffectDesk,
        settings: &Settings,
        output: &Output,
    ) -> Result<(), Failure> {
        let name = &self.effect;
        let entry = desk.find(name).await?.ok_or_else(|| unheard_of(name))?;
        settleable(&entry)?;
        if !self.yes {
            output.note(&told(&entry).join("\n"));
        }
        let question = if self.done {
            format!("Note that {name} happened, so that it is never run again?")
        } else {
            format!("Note that {name} did not happen, so that the next delivery runs it?")
        };
        confirm(output, self.yes, &question)?;
        let word =
            if self.done { Word::Done(self.outcome.unwrap_or_default()) } else { Word::NotDone };
        let by = author(self.by.as_ref(), settings);
        let ruling = Ruling { word, reason: self.reason, by };
        if !desk.settle(name, entry.epoch, &ruling).await? {
            return Err(Failure::new(format!("{name} has changed since it was looked at"))
                .hint("nothing was noted; `fleetctl effects show` shows how it stands now"));
        }
        let standing = if self.done { Standing::Done } else { Standing::NotDone };
        let value = json!({ "effect": entry.effect, "standing": standing, "by": ruling.by });
        output.value(&value, || {
            let then = if self.done { "only acknowledges it" } else { "runs it" };
            format!("{name} is {}; a redrive of its dead letter {then}", standing.as_str())
        });
        Ok(())
    }
}

/// Only what nobody knows needs a person's word.
fn settleable(entry: &EffectEntry) -> Result<(), Failure> {
    let name = &entry.effect;
    match entry.standing {
        Standing::Unknown => Ok(()),
        Standing::InProgress => {
            let left = entry.held_secs.unwrap_or_default().ceil();
            Err(Failure::new(format!("{name} is held by a delivery for {left:.0} s more")).hint(
                "look again then: it may end well by itself, and is in doubt only afterwards",
            ))
        }
        Standing::Done => Err(Failure::new(format!("{name} is done already"))
            .hint("what is done stays done; a new effect needs a new key")),
        Standing::NotDone => Err(Failure::new(format!("{name} was settled as not done already"))
            .hint("redrive its dead letter: the next delivery runs it")),
    }
}
