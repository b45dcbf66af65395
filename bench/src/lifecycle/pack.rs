//! The archive's writer beside the bare codec and the same hashes, on the same lines, per codec. One
//! thread, no store, no database.

use std::time::Instant;

use anyhow::ensure;
use evidence::Codec;

use super::bare;
use super::corpus::Corpus;
use super::{PAIRS, megabytes};
use crate::median;
use crate::report::{Figure, Report};

const GOAL: f64 = 0.9;
const UNIT: &str = "MB/s";

/// Takes the figures.
pub fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let corpus = Corpus::new(count);
    let blocks = corpus.blocks();
    for codec in Codec::ALL {
        let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bare_out, mut out) = (Vec::new(), Vec::new());
        // The first pair warms up, and shows that both do the same.
        for pair in 0..=PAIRS {
            let start = Instant::now();
            let sums = bare::pack(codec, &blocks, &mut bare_out)?;
            let bare = megabytes(corpus.bytes, start.elapsed());
            let start = Instant::now();
            let (packed, contents) = corpus.write(codec, out)?;
            let rate = megabytes(corpus.bytes, start.elapsed());
            if pair == 0 {
                let same = bare::Sums {
                    packed: contents.packed.sha256.0,
                    plain: contents.plain.sha256.0,
                    root: Some(contents.root.0),
                };
                ensure!(sums == same && packed == bare_out, "{codec:?}: not the same object");
            } else {
                theirs.push(bare);
                ours.push(rate);
                ratios.push(rate / bare);
            }
            out = packed;
        }
        let name = codec.extension();
        let share = out.len() as f64 / corpus.bytes as f64;
        let figure = Figure::new(format!("bare {name} and the hashes"), median(&theirs), UNIT);
        report.add(figure.beside(format!("packed to {share:.3} of the lines")));
        report.add(Figure::new(format!("archive's writer, {name}"), median(&ours), UNIT));
        let ratio = format!("archive's writer / bare {name} and the hashes");
        let figure = Figure::new(ratio, median(&ratios), "ratio").at_least(GOAL);
        report.add(figure.beside(format!("median of {PAIRS} pairs, {count} events")));
    }
    Ok(())
}
