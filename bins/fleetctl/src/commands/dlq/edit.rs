//! `fleetctl dlq edit`: mends one dead letter's original. What comes out must be a message that a
//! worker of this build can read; its envelope keeps its id, so that it is the same message still. The
//! mended letter takes the old one's place (sent first, deleted after), with who changed it and why.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use contracts::catalogue::QueueKind;
use contracts::{Body, Envelope, QueueSpec};
use queue_core::dead_letter::Edit as Change;
use queue_core::send::SEND_BYTES_MAX;
use queue_core::{Clock, Outgoing, SystemClock};
use serde_json::json;

use super::carry::delete;
use super::json_text::{compact, pretty, set};
use super::letter::{Letter, Reading};
use super::select::Select;
use super::sweep::Sweep;
use crate::author::{author, words};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Queue, Settings};

/// Mends one dead letter.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl dlq edit audit-index 5f2c --why 'reason was empty'               # opens $EDITOR
  fleetctl dlq edit audit-index 5f2c --set body.reason='asked for by legal' --why INC-12
  fleetctl dlq edit audit-index 5f2c --body mended.json --why INC-12
Then `fleetctl dlq redrive audit-index --id NEW-ID --yes`, with the id that it prints.")]
pub(crate) struct Edit {
    /// Key or name of the queue
    #[arg(value_parser = super::spec)]
    queue: &'static QueueSpec,
    /// Its id, or the beginning of it
    id: String,
    /// The whole new original from this file
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    body: Option<PathBuf>,
    /// A value at a place of the original; may be given several times
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Why; kept with the letter and told to the worker
    #[arg(long, value_parser = words)]
    why: String,
    /// Who; by default the user of this terminal
    #[arg(long, value_parser = words)]
    by: Option<String>,
    /// Send it back to its queue at once
    #[arg(long)]
    redrive: bool,
}

impl Edit {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        if self.queue.kind == QueueKind::Fifo && !self.redrive {
            let what = "a mended letter would go behind the others of its group";
            return Err(Failure::usage(what).hint("add --redrive: it is sent back at once"));
        }
        let sqs = settings.sqs().await?;
        let queue = settings.queue(&sqs, self.queue).await?;
        let letter = self.read(&queue, &self.id).await?;
        let letter = letter.ok_or_else(|| super::show::missing(self.queue, &self.id))?;
        // An editor may be open for hours: the letter is on its queue meanwhile, and met again.
        let mended = self.mended(settings, &letter)?;
        let changed = self.checked(&letter, &mended)?;
        let by = author(self.by.as_ref(), settings);
        let deleted = self.replace(&queue, &letter, self.outgoing(&letter, changed, by)?).await?;
        let envelope = letter.identity();
        let value = json!({ "edited": letter.received.message_id, "redriven": self.redrive,
            "envelope": envelope, "old_deleted": deleted });
        output.value(&value, || {
            let to = if self.redrive { self.queue.name } else { self.queue.dlq };
            let old = if deleted { "" } else { "; the old one is there still: purge it" };
            format!("mended, to {to}; its envelope keeps the id {envelope}{old}")
        });
        Ok(())
    }

    /// The letter, given back.
    async fn read(&self, queue: &Queue, id: &str) -> Result<Option<Letter>, Failure> {
        let select = Select { id: vec![id.to_owned()], ..Select::default() };
        let mut sweep = Sweep::open(&*queue.dead_letters, self.queue, &select).await?;
        let found = sweep.next(1).await;
        if let Ok(Some(letters)) = &found {
            sweep.keep(letters);
        }
        sweep.finish().await;
        Ok(found?.and_then(|letters| letters.into_iter().next()))
    }

    /// Sends the new letter, then deletes the old one, if it is still the one that was read; whether
    /// it was deleted.
    async fn replace(&self, queue: &Queue, old: &Letter, new: Outgoing) -> Result<bool, Failure> {
        let dead = &*queue.dead_letters;
        let select = Select { id: vec![old.received.message_id.clone()], ..Select::default() };
        let mut sweep = Sweep::open(dead, self.queue, &select).await?;
        let outcome = async {
            let held = sweep.next(1).await?.and_then(|mut letters| letters.pop());
            let meanwhile = "it was changed or sent back by somebody else meanwhile";
            let held = held.ok_or_else(|| Failure::new(meanwhile))?;
            if held.received.body != old.received.body {
                sweep.keep([&held]);
                return Err(Failure::new(meanwhile));
            }
            let target = if self.redrive { &queue.queue } else { &queue.dead_letters };
            let sent = target.send(&[new]).await.map_err(|error| Failure::sqs(&error));
            let taken = sent.and_then(|results| match results.into_iter().next() {
                Some(Err(error)) => Err(Failure::new(format!("not taken: {error}"))),
                _ => Ok(()),
            });
            if taken.is_err() {
                sweep.keep([&held]);
            }
            taken?;
            Ok(delete(dead, std::slice::from_ref(&held.received.receipt)).await == 1)
        };
        let outcome = outcome.await;
        sweep.finish().await;
        outcome
    }

    /// The new original, as it was typed.
    fn mended(&self, settings: &Settings, letter: &Letter) -> Result<String, Failure> {
        if let Some(path) = &self.body {
            return from_file(path);
        }
        if self.set.is_empty() {
            return in_editor(settings, &editable(letter.body()));
        }
        let mut text = editable(letter.body());
        for change in &self.set {
            let pair = change.split_once('=');
            let (path, value) = pair.ok_or_else(|| Failure::usage("--set takes PATH=VALUE"))?;
            text = set(&text, path.trim(), value).map_err(Failure::usage)?;
        }
        Ok(text)
    }

    /// The new original on one line, if it may take the old one's place.
    fn checked(&self, letter: &Letter, mended: &str) -> Result<String, Failure> {
        let text = compact(mended).ok_or_else(|| {
            let error = serde_json::from_str::<serde::de::IgnoredAny>(mended).err();
            Failure::new(format!("not JSON: {}", error.map(|e| e.to_string()).unwrap_or_default()))
        })?;
        if text == compact(&editable(letter.body())).unwrap_or_default() {
            return Err(Failure::new("nothing was changed"));
        }
        let explained = letter.explained(self.queue);
        let (id, sent) = (&explained.message_id, explained.first_seen);
        match Reading::of(self.queue, &text, id, sent) {
            Reading::Typed { .. } | Reading::Claimed(_) => {}
            Reading::Unknown(why) | Reading::Broken(why) => {
                return Err(Failure::new(format!("not a message of {}: {why}", self.queue.name))
                    .hint("nothing was changed; `fleetctl dlq show` shows the letter"));
            }
        }
        let before = letter.header().map(|header| header.id);
        let after = Envelope::from_json(&text).ok().map(|envelope| envelope.header.id);
        match before {
            Some(before) if after != Some(before) => Err(Failure::new(format!(
                "the envelope's id stays {before}: effects are counted by it"
            ))),
            _ => Ok(contracts::json::escaped(&text)),
        }
    }

    fn outgoing(&self, letter: &Letter, body: String, by: String) -> Result<Outgoing, Failure> {
        let mut explained = letter.explained(self.queue);
        explained.body = body;
        let change = Change { at: SystemClock.now(), by, why: self.why.clone() };
        explained.edits.push(change);
        let json = explained.to_json().map_err(Failure::new)?;
        let mended =
            Letter::read(queue_core::Received { body: json.clone(), ..letter.received.clone() });
        if self.redrive {
            let outgoing = mended.outgoing(self.queue);
            let size = outgoing.size();
            if size > SEND_BYTES_MAX {
                let what = format!("{size} bytes, and a message has {SEND_BYTES_MAX} at most");
                return Err(Failure::new(what));
            }
            return Ok(outgoing);
        }
        let group = letter.received.group.clone();
        let attributes = vec![("flotilla-code".to_owned(), explained.code)];
        let outgoing = Outgoing { body: json, attributes, group, ..Outgoing::default() };
        if outgoing.size() > SEND_BYTES_MAX {
            return Err(Failure::new("too large to be kept with its reasons")
                .hint("add --redrive: it is sent back at once"));
        }
        Ok(outgoing)
    }
}

/// The original as a person can read it: a compressed body stands as JSON, and is sent so.
fn editable(body: &str) -> String {
    let Ok(Envelope { header, body: Body::Gzip(gzipped) }) = Envelope::from_json(body) else {
        return body.to_owned();
    };
    let plain = gzipped.unpack().ok().map(|body| Envelope { header, body: Body::Inline(body) });
    let plain = plain.and_then(|envelope| envelope.to_json().ok());
    plain.unwrap_or_else(|| body.to_owned())
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let named = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
    if size == 0 || size > SEND_BYTES_MAX as u64 {
        return Err(named(format!("a message has 1 to {SEND_BYTES_MAX} bytes, this has {size}")));
    }
    std::fs::read_to_string(path).map_err(|error| named(error.to_string()))
}

/// The text as the person's editor leaves it.
fn in_editor(settings: &Settings, text: &str) -> Result<String, Failure> {
    let editor = settings.variable("VISUAL").or_else(|| settings.variable("EDITOR"));
    let editor = editor.ok_or_else(|| {
        Failure::usage("no $EDITOR is set").hint("--set PATH=VALUE or --body FILE need none")
    })?;
    if !std::io::stdin().is_terminal() && settings.variable("VISUAL").is_none() {
        return Err(Failure::usage("nobody is at a terminal")
            .hint("--set PATH=VALUE or --body FILE need none"));
    }
    // Readable by this user alone: it may hold anybody's data.
    let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
    file.write_all(pretty(text).unwrap_or_else(|| text.to_owned()).as_bytes())?;
    file.flush()?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = std::process::Command::new(program).args(words).arg(file.path()).status();
    let status = status.map_err(|error| Failure::usage(format!("{editor}: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("{editor} ended with {status}: nothing was changed")));
    }
    from_file(file.path())
}
