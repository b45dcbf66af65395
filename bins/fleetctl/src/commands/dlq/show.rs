//! `fleetctl dlq show`: one dead letter whole.

use std::fmt::Write;

use clap::Args;
use contracts::{ErrorCode, QueueSpec};
use queue_core::dead_letter::OnDeadLetterQueue;
use serde_json::{Value, json};

use super::letter::Letter;
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
}

impl Show {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let letter = self.find(settings).await?;
        if self.body {
            line(letter.body());
            return Ok(());
        }
        let row = letter.row(self.queue);
        let whole = match &letter.content {
            OnDeadLetterQueue::Letter(letter) => json!(letter),
            OnDeadLetterQueue::Raw(body) => {
                json!({ "body": body, "attributes": letter.received.attributes })
            }
        };
        let value = json!({ "summary": row, "letter": whole });
        output.value(&value, || {
            let mut text = String::new();
            for (name, value) in [
                ("id", &row.id),
                ("queue", &row.queue),
                ("type", &row.kind),
                ("tenant", &row.tenant),
                ("code", &row.code),
                ("reason", &row.reason),
                ("fingerprint", &row.fingerprint),
            ] {
                push(&mut text, name, value);
            }
            details(&mut text, &whole);
            if let Some(code) = ErrorCode::find(&row.code) {
                push(&mut text, "what to do", code.hint);
            }
            text.push_str("original:\n");
            text.push_str(&pretty(letter.body()));
            text
        });
        Ok(())
    }

    async fn find(&self, settings: &Settings) -> Result<Letter, Failure> {
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let select = Select { id: vec![self.id.clone()], ..Select::default() };
        let mut sweep = Sweep::new(&*queue.dead_letters, self.queue, &select);
        let found = sweep.next(usize::MAX).await;
        if let Ok(Some(letters)) = &found {
            sweep.keep(letters);
        }
        sweep.finish().await;
        found?.and_then(|letters| letters.into_iter().next()).ok_or_else(|| {
            Failure::new(format!("no dead letter {} on {}", self.id, self.queue.dlq))
                .hint(format!("`fleetctl dlq list {}` shows the ids", self.queue.key))
        })
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let value = value.replace('\n', "\n             ");
        text.push_str(&[&format!("{name:<12}"), " ", &value, "\n"].concat());
    }
}

/// Times and attempts, where the engine recorded them.
fn details(text: &mut String, letter: &Value) {
    for (name, field) in [
        ("first seen", "first_seen"),
        ("rejected at", "rejected_at"),
        ("worker", "worker"),
        ("trace", "traceparent"),
    ] {
        push(text, name, letter[field].as_str().unwrap_or_default());
    }
    if let Some(parent) = letter["parent"].as_object() {
        push(text, "part of", &Value::Object(parent.clone()).to_string());
    }
    for (at, attempt) in letter["attempts"].as_array().into_iter().flatten().enumerate() {
        let mut said = String::new();
        for field in ["at", "code", "message"] {
            let value = attempt[field].as_str().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(said, "{value} ");
        }
        push(text, &format!("attempt {}", at + 1), said.trim());
    }
}

/// JSON indented; anything else as it is.
fn pretty(body: &str) -> String {
    serde_json::from_str::<Value>(body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| body.to_owned())
}
