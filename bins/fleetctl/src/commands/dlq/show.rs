//! `fleetctl dlq show`: one dead letter whole: why it is here, every attempt, what a worker makes of
//! its body, and what a redrive would come to.

use clap::Args;
use contracts::{ErrorCode, QueueSpec};
use queue_core::DeadLetter;
use serde_json::json;

use super::json_text::pretty;
use super::letter::{Letter, Reading, Row};
use super::outlook::Doubt;
use super::select::Select;
use super::sweep::Sweep;
use crate::failure::Failure;
use crate::output::{Output, line};
use crate::settings::Settings;

/// Shows a dead letter.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq show audit-index 5f2c
  fleetctl dlq show audit-index 5f2c --body > original.json")]
pub(crate) struct Show {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    /// Its id, or the beginning of it
    id: String,
    /// Print only the original's body, as it was
    #[arg(long)]
    body: bool,
    #[command(flatten)]
    ports: super::AdminPorts,
}

impl Show {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let letter = self.find(settings).await?;
        if self.body {
            line(letter.body());
            return Ok(());
        }
        let doubt = self.ports.outlook(settings).await.doubt(self.queue, &letter);
        let (row, whole) = (letter.row(self.queue), letter.explained(self.queue));
        let reading = letter.reading(self.queue);
        let (kind, version, typed, why) = match &reading {
            Reading::Typed { kind, version, body } => {
                let body = serde_json::from_str::<Box<serde_json::value::RawValue>>(body).ok();
                (Some(kind.as_str()), Some(*version), body, None)
            }
            Reading::Claimed { kind, key, size } => {
                let why = format!("its body is the object {key}, {size} bytes");
                (Some(kind.as_str()), None, None, Some(why))
            }
            Reading::Unknown(why) | Reading::Broken(why) => (None, None, None, Some(why.clone())),
        };
        let value = json!({
            "summary": row, "letter": whole, "would_fail_again": doubt,
            "decoded": { "type": kind, "version": version, "body": typed, "not_decoded": why },
        });
        output.value(&value, || told(&row, &whole, &reading, doubt.as_ref()));
        Ok(())
    }

    async fn find(&self, settings: &Settings) -> Result<Letter, Failure> {
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let select = Select { id: vec![self.id.clone()], ..Select::default() };
        let mut sweep = Sweep::open(&*queue.dead_letters, self.queue, &select).await?;
        let found = sweep.next(usize::MAX).await;
        if let Ok(Some(letters)) = &found {
            sweep.keep(letters);
        }
        sweep.finish().await;
        let letter = found?.and_then(|letters| letters.into_iter().next());
        letter.ok_or_else(|| missing(self.queue, &self.id))
    }
}

/// There is no such letter, or another reader has it.
pub(super) fn missing(spec: &QueueSpec, id: &str) -> Failure {
    Failure::new(format!("no dead letter {id} on {}", spec.dlq)).hint(format!(
        "`fleetctl dlq list {} --letters` shows the ids; another reader may hold it",
        spec.key
    ))
}

fn told(row: &Row, letter: &DeadLetter, reading: &Reading, doubt: Option<&Doubt>) -> String {
    let mut text = String::new();
    let envelope = letter.envelope.as_ref();
    let of_envelope = envelope.map(|e| format!("{}, correlation {}", e.id, e.correlation_id));
    let parent = letter.parent.as_ref();
    let parent = parent.map(|p| format!("item {} of {} ({})", p.index, p.id, p.message_id));
    for (name, value) in [
        ("id", row.id.clone()),
        ("queue", row.queue.clone()),
        ("type", row.kind.clone()),
        ("tenant", row.tenant.clone()),
        ("envelope", of_envelope.unwrap_or_default()),
        ("part of", parent.unwrap_or_default()),
        ("code", row.code.clone()),
        ("reason", row.reason.clone()),
        ("fingerprint", row.fingerprint.clone()),
        ("worker", letter.worker.clone()),
        ("first seen", letter.first_seen.to_rfc3339()),
        ("rejected at", letter.rejected_at.to_rfc3339()),
        ("receives", letter.receives.to_string()),
        ("trace", letter.traceparent.clone().unwrap_or_default()),
        ("group", letter.group.clone().unwrap_or_default()),
    ] {
        push(&mut text, name, &value);
    }
    for (at, attempt) in letter.attempts.iter().enumerate() {
        let counts = if attempt.counts { "" } else { ", does not count" };
        let said = format!(
            "{} {}: {} ({}{counts})",
            attempt.at.to_rfc3339(),
            attempt.code,
            attempt.error,
            attempt.worker
        );
        push(&mut text, &format!("attempt {}", at + 1), &said);
    }
    for edit in &letter.edits {
        push(
            &mut text,
            "edited",
            &format!("{} by {}: {}", edit.at.to_rfc3339(), edit.by, edit.why),
        );
    }
    if let Some(code) = ErrorCode::find(&row.code) {
        push(&mut text, "what to do", code.hint);
    }
    if let Some(doubt) = doubt {
        push(&mut text, "redrive", &format!("would fail again: {}\n{}", doubt.why, doubt.fix));
    }
    text.push_str(&body(letter, reading));
    text
}

fn body(letter: &DeadLetter, reading: &Reading) -> String {
    let original = || pretty(&letter.body).unwrap_or_else(|| letter.body.clone());
    match reading {
        Reading::Typed { kind, version, body } => {
            let body = pretty(body).unwrap_or_else(|| body.clone());
            format!("body, as {kind} version {version}:\n{body}")
        }
        Reading::Claimed { key, size, .. } => {
            format!("body: the object {key}, {size} bytes\nenvelope:\n{}", original())
        }
        Reading::Unknown(why) | Reading::Broken(why) => {
            format!("original, not decoded: {why}\n{}", original())
        }
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let value = value.replace('\n', "\n             ");
        text.push_str(&[&format!("{name:<12}"), " ", &value, "\n"].concat());
    }
}
