//! `fleetctl dlq show`: one dead letter whole: why it is here, every attempt, what a worker makes of
//! its body, also where that is an object elsewhere, and what a redrive would come to.

use clap::Args;
use contracts::{Claim, ErrorCode, QueueSpec};
use queue_core::DeadLetter;
use serde_json::json;

use super::claimed::{self, Unread};
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
  fleetctl dlq show audit-index 5f2c --body > original.json
  fleetctl dlq show audit-index 5f2c --json | jq .decoded.body              # unpacked, as its type
A body in the object store is read by CLAIM_BUCKET or CLAIM_DIR, as the workers have it.")]
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
        let body = Body::read(settings, self.queue, letter.reading(self.queue)).await;
        let doubt = doubt.or_else(|| body.unread.as_ref().and_then(|unread| unread.doubt.clone()));
        let (kind, version, typed) = match &body.reading {
            Reading::Typed { kind, version, body } => {
                let body = serde_json::from_str::<Box<serde_json::value::RawValue>>(body).ok();
                (Some(kind.as_str()), Some(*version), body)
            }
            Reading::Claimed(claimed) => (Some(claimed.0.kind.as_str()), None, None),
            Reading::Unknown(_) | Reading::Broken(_) => (None, None, None),
        };
        let value = json!({
            "summary": row, "letter": whole, "would_fail_again": doubt,
            "decoded": { "type": kind, "version": version, "body": typed, "claim": body.claim,
                "not_decoded": body.not_decoded() },
        });
        output.value(&value, || told(&row, &whole, &body, doubt.as_ref()));
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

/// A body as far as it can be read from here.
struct Body {
    reading: Reading,
    /// Where it was put, of a body in the object store.
    claim: Option<Claim>,
    /// Why it could not be read there.
    unread: Option<Unread>,
}

impl Body {
    async fn read(settings: &Settings, spec: &QueueSpec, reading: Reading) -> Self {
        let Reading::Claimed(claimed) = reading else {
            return Self { reading, claim: None, unread: None };
        };
        let claim = Some(claimed.1.claim.clone());
        match claimed::fetch(settings, &claimed.0, &claimed.1).await {
            Ok(body) => {
                let reading = Reading::of_body(spec, &claimed.0, &body);
                Self { reading, claim, unread: None }
            }
            Err(unread) => Self { reading: Reading::Claimed(claimed), claim, unread: Some(unread) },
        }
    }

    fn not_decoded(&self) -> Option<String> {
        match &self.reading {
            Reading::Typed { .. } => None,
            Reading::Claimed(_) => self.unread.as_ref().map(|unread| unread.why.clone()),
            Reading::Unknown(why) | Reading::Broken(why) => Some(why.clone()),
        }
    }
}

/// There is no such letter, or another reader has it.
pub(super) fn missing(spec: &QueueSpec, id: &str) -> Failure {
    Failure::new(format!("no dead letter {id} on {}", spec.dlq)).hint(format!(
        "`fleetctl dlq list {} --letters` shows the ids; another reader may hold it",
        spec.key
    ))
}

fn told(row: &Row, letter: &DeadLetter, body: &Body, doubt: Option<&Doubt>) -> String {
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
    text.push_str(&shown(letter, body));
    text
}

fn shown(letter: &DeadLetter, body: &Body) -> String {
    let original = || pretty(&letter.body).unwrap_or_else(|| letter.body.clone());
    let place = body
        .claim
        .as_ref()
        .map(|claim| format!("object {} of {}, {} bytes", claim.key, claim.bucket, claim.size));
    let place = |before: &str| place.as_ref().map_or_else(String::new, |p| format!("{before}{p}"));
    match &body.reading {
        Reading::Typed { kind, version, body } => {
            let body = pretty(body).unwrap_or_else(|| body.clone());
            format!("body, as {kind} version {version}{}:\n{body}", place(", from "))
        }
        Reading::Claimed(_) => {
            let why = body.not_decoded().unwrap_or_default();
            format!("body{}; not read: {why}\nenvelope:\n{}", place(": "), original())
        }
        Reading::Unknown(why) | Reading::Broken(why) => {
            format!("original{}, not decoded: {why}\n{}", place(", with "), original())
        }
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let value = value.replace('\n', "\n             ");
        text.push_str(&[&format!("{name:<12}"), " ", &value, "\n"].concat());
    }
}
