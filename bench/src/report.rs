//! The table and the JSON lines: every figure has a unit, a goal and a verdict that the code computes.
//! It never rounds a miss into a hit.

use std::io::Write;

use serde::Serialize;

/// What a figure should be.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At least this much.
    AtLeast(f64),
    /// Less than this much.
    Below(f64),
    /// Only reported.
    None,
}

/// One figure.
#[derive(Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<String>,
    holds: Option<bool>,
    #[serde(skip)]
    note: String,
}

/// The figures of one run, in the order in which they were taken.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints it at once, so that a long run shows how far it is.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, goal: Goal, note: impl Into<String>) {
        let (goal, holds) = match goal {
            Goal::AtLeast(bound) => (Some(format!(">= {bound}")), Some(value >= bound)),
            Goal::Below(bound) => (Some(format!("< {bound}")), Some(value < bound)),
            Goal::None => (None, None),
        };
        let figure = Figure { name: name.into(), value, unit, goal, holds, note: note.into() };
        eprintln!("  {}", line(&figure));
        self.figures.push(figure);
    }

    /// The table on standard output, the JSON lines where `out` says.
    pub fn finish(&self, out: Option<&std::path::Path>) -> anyhow::Result<()> {
        println!("| figure | value | unit | goal | holds | beside it |");
        println!("|---|---:|---|---|---|---|");
        for figure in &self.figures {
            println!("| {} |", line(figure));
        }
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
    let value = if figure.value >= 1_000.0 {
        format!("{:.0}", figure.value)
    } else {
        format!("{:.3}", figure.value)
    };
    format!("{} | {value} | {} | {goal} | {holds} | {}", figure.name, figure.unit, figure.note)
}
