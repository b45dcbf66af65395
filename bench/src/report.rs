//! The table and the JSON lines: every figure has a unit, a goal, its lost and duplicated counts, and a
//! verdict that the code computes. It never rounds a miss into a hit: where anything is lost or
//! duplicated no goal holds.

use std::io::Write;

use serde::Serialize;

use crate::books::Books;

/// One figure.
#[derive(Clone, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<String>,
    holds: Option<bool>,
    books: Option<Books>,
    beside: String,
    #[serde(skip)]
    met: Option<bool>,
}

impl Figure {
    /// A figure without a goal, without books.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal: None,
            holds: None,
            books: None,
            beside: String::new(),
            met: None,
        }
    }

    /// It should be at least this.
    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        (self.goal, self.met) = (Some(format!(">= {bound}")), Some(self.value >= bound));
        self
    }

    /// It should be less than this.
    #[must_use]
    pub fn below(mut self, bound: f64) -> Self {
        (self.goal, self.met) = (Some(format!("< {bound}")), Some(self.value < bound));
        self
    }

    /// It should be this or less.
    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        (self.goal, self.met) = (Some(format!("<= {bound}")), Some(self.value <= bound));
        self
    }

    /// What was lost and duplicated while it was taken.
    #[must_use]
    pub fn books(mut self, books: Books) -> Self {
        self.books = Some(books);
        self
    }

    /// The baseline's absolute number, and how it was taken.
    #[must_use]
    pub fn beside(mut self, text: impl Into<String>) -> Self {
        self.beside = text.into();
        self
    }
}

/// The figures of one run, in the order in which they were taken.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints it at once, so that a long run shows how far it is.
    pub fn add(&mut self, mut figure: Figure) {
        let clean = figure.books.is_none_or(Books::balance);
        figure.holds = figure.met.map(|met| met && clean);
        eprintln!("  {}", line(&figure));
        self.figures.push(figure);
    }

    /// The table on standard output, the JSON lines where `out` says.
    pub fn finish(&self, out: Option<&std::path::Path>) -> anyhow::Result<()> {
        println!("{}\n", crate::machine::describe());
        println!("| figure | value | unit | goal | holds | lost | twice | beside it |");
        println!("|---|---:|---|---|---|---:|---:|---|");
        for figure in &self.figures {
            println!("| {} |", line(figure));
        }
        let judged: Vec<bool> = self.figures.iter().filter_map(|figure| figure.holds).collect();
        let held = judged.iter().filter(|holds| **holds).count();
        println!("\n{held} of {} goals hold.", judged.len());
        if let Some(path) = out {
            let mut file = std::fs::File::create(path)?;
            for figure in &self.figures {
                writeln!(file, "{}", serde_json::to_string(figure)?)?;
            }
        }
        Ok(())
    }
}

fn line(figure: &Figure) -> String {
    let holds = match figure.holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "",
    };
    let goal = figure.goal.as_deref().unwrap_or("");
    let (lost, twice) = figure.books.map_or_else(Default::default, Books::columns);
    let Figure { name, unit, beside, .. } = figure;
    let value = shown(figure.value);
    format!("{name} | {value} | {unit} | {goal} | {holds} | {lost} | {twice} | {beside}")
}

/// Three digits behind the point where they say something, cut and not rounded up to a goal.
fn shown(value: f64) -> String {
    match value {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
