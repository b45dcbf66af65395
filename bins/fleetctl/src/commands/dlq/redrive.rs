//! `fleetctl dlq redrive`: originals back to their queue. The original is sent with its attributes,
//! and deleted here only after the queue has accepted it: an end at any point between the two leaves
//! a duplicate, which the envelope's id makes harmless, never a loss. What is left is found by the next
//! run. Without --yes it only says what it would do.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use contracts::QueueSpec;
use contracts::catalogue::QueueKind;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::carry::{Carrier, Done};
use super::groups::{By, Groups};
use super::interrupt::Interrupt;
use super::letter::Letter;
use super::list::look;
use super::outlook::{Doubted, Outlook, Prospects};
use super::select::Select;
use super::sweep::Sweep;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Queue, Settings};

/// Sends dead letters back.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq redrive audit-index                                        # what would happen
  fleetctl dlq redrive audit-index --fingerprint 9c1185a5c5e9fc54 --rate 50 --yes
  fleetctl dlq redrive audit-index --id 5f2c --yes
Without --yes nothing is sent. Stopped at any point, the next run goes on with what is left.")]
pub(crate) struct Redrive {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    #[command(flatten)]
    select: Select,
    /// Messages per second at most, 1 to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Letters at most; as many as there are when left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Send them
    #[arg(long, short)]
    yes: bool,
    /// Also those that no worker of this build can handle
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ports: super::AdminPorts,
    /// How long a message is kept from others at a time; no option.
    #[arg(skip)]
    pub(super) lease: Option<Duration>,
}

/// What a redrive would do.
#[derive(Serialize)]
struct Preview {
    would_send: u64,
    would_skip: u64,
    would_fail_again: u64,
    at_rate: u32,
    takes_secs: u64,
    doubts: Vec<Doubted>,
}

impl Redrive {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let outlook = self.ports.outlook(settings).await;
        if !self.yes {
            return self.preview(settings, &outlook, output).await;
        }
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let bar = output.bar(self.total(&queue).await?);
        let done = self.send(&queue, &outlook, Some(Interrupt::catch()?), &bar).await;
        bar.finish_and_clear();
        let done = done?;
        output.value(&done, || done.told(self.queue));
        done.verdict(output)
    }

    async fn preview(
        &self,
        settings: &Settings,
        outlook: &Outlook,
        output: &Output,
    ) -> Result<(), Failure> {
        let mut groups = Groups::new(By::Fingerprint);
        let mut prospects = Prospects::default();
        let (mut interrupt, spec) = (Interrupt::catch()?, self.queue);
        let take = |letter: &Letter| {
            groups.add(letter.row(spec));
            prospects.add(outlook, spec, letter);
        };
        let limit = self.limit();
        look(settings, spec, &self.select, limit, &mut interrupt, output, take).await?;
        let skipped = if self.force { 0 } else { prospects.hopeless };
        let would_send = prospects.count - skipped;
        let preview = Preview {
            would_send,
            would_skip: skipped,
            would_fail_again: prospects.failing,
            at_rate: self.rate,
            takes_secs: would_send.div_ceil(u64::from(self.rate)),
            doubts: prospects.doubts(),
        };
        if !output.json && groups.count() > 0 {
            groups.print(output);
        }
        output.value(&preview, || preview.told(self.queue));
        Ok(())
    }

    fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit as usize)
    }

    /// For the progress bar; known only when nothing is filtered.
    async fn total(&self, queue: &Queue) -> Result<Option<u64>, Failure> {
        if !self.select.is_everything() {
            return Ok(self.limit.map(u64::from));
        }
        let attributes = queue.dead_letters.attributes().await;
        let visible = attributes.map_err(|error| Failure::sqs(&error))?.depth.visible;
        Ok(Some(self.limit.map_or(visible, |limit| visible.min(limit.into()))))
    }

    /// Sends what is meant, at the rate, until nothing is left or somebody interrupts.
    pub(super) async fn send(
        &self,
        queue: &Queue,
        outlook: &Outlook,
        mut interrupt: Option<Interrupt>,
        bar: &ProgressBar,
    ) -> Result<Done, Failure> {
        let dead = &*queue.dead_letters;
        let mut sweep = match self.lease {
            Some(lease) => Sweep::with_lease(dead, self.queue, &self.select, lease),
            None => Sweep::open(dead, self.queue, &self.select).await?,
        };
        let mut carrier = Carrier::new(queue, self.queue);
        // What was sent and has come back rejected meanwhile is not sent again.
        let mut sent_before = HashSet::new();
        let (mut due, mut left) = (Instant::now(), self.limit());
        let outcome = loop {
            if interrupt.as_mut().is_some_and(Interrupt::came) {
                carrier.done.interrupted = true;
                break Ok(());
            }
            let letters = match sweep.next(left.min(self.rate as usize)).await {
                Ok(Some(letters)) => letters,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            let count = letters.len();
            // In order and one by one where there is an order.
            let step = if self.queue.kind == QueueKind::Fifo { 1 } else { count };
            let mut letters = letters.into_iter();
            loop {
                let part: Vec<Letter> = letters.by_ref().take(step).collect();
                if part.is_empty() {
                    break;
                }
                let (go, stay) = self.sort(part, outlook, &sent_before, &mut carrier.done);
                carrier.hold_behind(&stay);
                sweep.keep(&stay);
                sweep.keep(carrier.carry(&go).await);
                sent_before.extend(go.iter().map(Letter::identity));
                left = left.saturating_sub(go.len());
            }
            bar.inc(count as u64);
            bar.set_message(format!("{} sent", carrier.done.sent));
            if carrier.gives_up() {
                break Ok(());
            }
            due += Duration::from_secs(count as u64) / self.rate;
            match &mut interrupt {
                Some(interrupt) => tokio::select! {
                    () = sweep.pause_until(due) => {}
                    () = interrupt.wait() => {}
                },
                None => sweep.pause_until(due).await,
            }
        };
        carrier.done.stopped_at_limit = sweep.stopped_at_limit();
        sweep.finish().await;
        outcome.map(|()| carrier.done)
    }
}

impl Redrive {
    /// Those to send, and those that stay.
    fn sort(
        &self,
        letters: Vec<Letter>,
        outlook: &Outlook,
        sent_before: &HashSet<String>,
        done: &mut Done,
    ) -> (Vec<Letter>, Vec<Letter>) {
        let (mut go, mut stay) = (Vec::new(), Vec::new());
        for letter in letters {
            let again = sent_before.contains(&letter.identity());
            let hopeless = !self.force
                && outlook.doubt(self.queue, &letter).is_some_and(|doubt| doubt.certain);
            done.came_back += u64::from(again);
            done.skipped += u64::from(!again && hopeless);
            if again || hopeless { stay.push(letter) } else { go.push(letter) }
        }
        (go, stay)
    }
}

impl Preview {
    fn told(&self, spec: &QueueSpec) -> String {
        let (count, rate, secs) = (self.would_send, self.at_rate, self.takes_secs);
        let mut lines = vec![format!(
            "would send {count} to {} at {rate} per second, in {secs} s; nothing was sent",
            spec.name
        )];
        for Doubted { count, doubt } in &self.doubts {
            let what = if doubt.certain { "would be left, as" } else { "would fail again, as" };
            lines.push(format!("  {count} {what} {}\n    {}", doubt.why, doubt.fix));
        }
        if count > 0 {
            lines.push("--yes sends them".to_owned());
        }
        lines.join("\n")
    }
}
