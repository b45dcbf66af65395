//! The report: one table, as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use crate::books::Books;
use crate::faults::{Fault, Tally};
use crate::fleet::Victim;
use crate::load::Notes;

/// What a run came to.
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) raged: Duration,
    pub(crate) settled: Duration,
    pub(crate) tally: &'a Tally,
    pub(crate) books: &'a Books,
}

impl Report<'_> {
    pub(crate) fn text(&self, notes: &Notes) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            writeln!(text, "| {name} | {value} |").ok();
        };
        row("what", "how much".into());
        row("---", "---:".into());
        row("seed", self.seed.to_string());
        row("the storm raged", format!("{:.0} s", self.raged.as_secs_f64()));
        for victim in Victim::ALL {
            let told = Fault::ALL
                .map(|fault| format!("{} {}", fault.name(), self.tally.of(victim, fault)));
            row(victim.name(), told.join(", "));
        }
        row("requests without an answer", count(notes, |status| status == 0));
        row("requests refused (503, 207, 409)", count(notes, |status| status > 202));
        row("events accepted", notes.accepted.len().to_string());
        row(
            "of those stored, byte for byte",
            (notes.accepted.len() - self.books.lost(notes).len()).to_string(),
        );
        row("stored in all, with those whose answer was lost", self.books.stored.len().to_string());
        row(
            "of those, nobody was told: sent without a key",
            self.books.in_doubt(notes).to_string(),
        );
        row("indexed in OpenSearch", self.books.indexed.len().to_string());
        row("found through the API", self.books.found.len().to_string());
        row(
            "poisoned messages / explained as dead letters",
            format!("{} / {}", notes.poison.len(), self.books.explained.len()),
        );
        row("other dead letters", self.books.unexplained.len().to_string());
        row("**lost**", format!("**{}**", self.books.lost(notes).len()));
        row("**doubled**", format!("**{}**", self.books.doubled));
        row("caught up after", format!("{:.0} s", self.settled.as_secs_f64()));
        text
    }
}

fn count(notes: &Notes, of: impl Fn(u16) -> bool) -> String {
    notes.answers.iter().filter(|(status, _)| of(**status)).map(|(_, n)| n).sum::<u64>().to_string()
}
