//! Commands typed against the demo's fleet: each is shown as a user would type it, with what it says.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::json;
use super::Stage;

/// Variables of a shell that name keys and stores of a real archive; the demo has its own.
pub(super) const FOREIGN: [&str; 11] = [
    "ARCHIVE_BUCKET",
    "ARCHIVE_LOCK_DAYS",
    "ARCHIVE_LOCK_MODE",
    "ARCHIVE_SIGNING_KEY",
    "ARCHIVE_SIGNING_KEY_PREVIOUS",
    "ARCHIVE_SIGNING_KMS_KEY",
    "ARCHIVE_SIGNING_KMS_KEY_PREVIOUS",
    "ARCHIVE_SSE",
    "DATABASE_URL_FILE",
    "HEADS_BUCKET",
    "HEADS_DIR",
];
/// The API key of the commands that follow.
const API_KEY: &str = "FLOTILLA_API_KEY";

/// How a command ended.
pub(in crate::demo) struct Ended {
    /// Its exit code; -1 where a signal ended it.
    pub(in crate::demo) code: i32,
    /// Its standard output.
    pub(in crate::demo) out: String,
    /// Its standard error.
    pub(in crate::demo) err: String,
}

impl Stage {
    /// Types a command and shows what it says.
    pub(in crate::demo) fn show(&self, words: &[&str]) -> Result<()> {
        type_out(words);
        say_lines(&self.ask_text(words)?);
        Ok(())
    }

    /// Types a command that must end with this exit code, and shows what it says and how it ended.
    pub(in crate::demo) fn show_ending(&self, words: &[&str], code: i32) -> Result<()> {
        type_out(words);
        let ended = self.end_of(words)?;
        say_lines(&ended.out);
        say_lines(&ended.err);
        println!("     exit code {}", ended.code);
        let (typed, is) = (words.join(" "), ended.code);
        ensure!(is == code, "fleetctl {typed}: exit code {is}, and {code} was promised");
        Ok(())
    }

    /// Types a command and shows it; its one JSON answer is for the demo.
    pub(in crate::demo) fn type_in(&self, words: &[&str]) -> Result<Value> {
        type_out(words);
        self.ask(words)
    }

    /// A command's one JSON answer.
    pub(in crate::demo) fn ask(&self, words: &[&str]) -> Result<Value> {
        json(&self.ask_text(words)?)
    }

    /// A command's answer, one JSON value per line.
    pub(in crate::demo) fn ask_lines(&self, words: &[&str]) -> Result<Vec<Value>> {
        let text = self.ask_text(words)?;
        text.lines().map(|line| serde_json::from_str(line).context("read the answer")).collect()
    }

    /// A command's answer; its failure is an error.
    pub(super) fn ask_text(&self, words: &[&str]) -> Result<String> {
        let ended = self.end_of(words)?;
        ensure!(ended.code == 0, "fleetctl {}: {}", words.join(" "), ended.err);
        Ok(ended.out)
    }

    /// How a command ends that may fail.
    pub(in crate::demo) fn end_of(&self, words: &[&str]) -> Result<Ended> {
        let output = self.fleetctl(words).output().context("run fleetctl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }

    /// The command, not yet started.
    pub(super) fn fleetctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.bins.join("fleetctl"));
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.args(words).envs(&self.variables);
        command
    }

    /// Makes an API key; its text.
    pub(in crate::demo) fn new_key(&self, words: &[&str]) -> Result<String> {
        let words = [&["keys", "create"][..], words, &["--env", "demo", "--json"][..]].concat();
        let made = self.type_in(&words)?;
        Ok(made["key"].as_str().context("no key")?.to_owned())
    }

    /// Later commands use this key; the one before it.
    pub(in crate::demo) fn act_as(&mut self, key: &str) -> String {
        println!("   $ export {API_KEY}={key}");
        self.variables.insert(API_KEY.into(), key.to_owned()).unwrap_or_default()
    }
}

/// A command as a user types it.
fn type_out(words: &[&str]) {
    let quoted = |word: &&str| {
        if word.contains(char::is_whitespace) { format!("'{word}'") } else { (*word).to_owned() }
    };
    println!("   $ fleetctl {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "));
}

fn say_lines(text: &str) {
    text.lines().for_each(|line| println!("     {line}"));
}
