//! `fleetctl verify`'s work on a tenant's archive in memory, beside unpacking the same object with the two
//! hashes of its manifest, per codec. It verifies all there is: chain, signatures, head, every line.

use std::time::Instant;

use anyhow::{Context, ensure};
use evidence::Codec;
use evidence::verify::{Options, Verdict, verify};

use super::bare::{self, Hashes};
use super::corpus::{Archive, Corpus};
use super::{PAIRS, megabytes};
use crate::median;
use crate::report::{Figure, Report};

const GOAL: f64 = 0.9;
const UNIT: &str = "MB/s";

/// Rates of one codec.
#[derive(Default)]
struct Rates {
    both: Vec<f64>,
    all: Vec<f64>,
    ours: Vec<f64>,
}

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let corpus = Corpus::new(count);
    let blocks = corpus.blocks();
    for codec in Codec::ALL {
        let archive = corpus.archive(codec).await?;
        let mut rates = Rates::default();
        for pair in 0..=PAIRS {
            let both = bare(codec, &archive, &blocks, Hashes::Both, corpus.bytes)?;
            let ours = ours(&archive, corpus.bytes)?;
            let all = bare(codec, &archive, &blocks, Hashes::All, corpus.bytes)?;
            // The first pair warms up.
            if pair > 0 {
                rates.both.push(both);
                rates.ours.push(ours);
                rates.all.push(all);
            }
        }
        add(report, codec.extension(), &rates, count);
    }
    Ok(())
}

fn add(report: &mut Report, name: &str, rates: &Rates, count: usize) {
    let ratio = |bare: &[f64]| {
        let ratios: Vec<f64> =
            rates.ours.iter().zip(bare).map(|(ours, bare)| ours / bare).collect();
        median(&ratios)
    };
    let both = format!("bare un{name} and both hashes");
    report.add(Figure::new(&both, median(&rates.both), UNIT));
    report.add(Figure::new(format!("verify, {name}"), median(&rates.ours), UNIT));
    let figure = Figure::new(format!("verify / {both}"), ratio(&rates.both), "ratio");
    let note = format!("median of {PAIRS} pairs, {count} events");
    report.add(figure.at_least(GOAL).beside(note));
    let all = format!("verify / bare un{name} and all hashes");
    let figure = Figure::new(all, ratio(&rates.all), "ratio");
    report.add(figure.beside("each line's leaf and the trees, too, as verify needs them"));
}

fn bare(
    codec: Codec,
    archive: &Archive,
    known: &[bare::Block],
    hashes: Hashes,
    bytes: usize,
) -> anyhow::Result<f64> {
    let (packed, contents) = (&archive.files[&archive.object], &archive.contents);
    let mut plain = Vec::new();
    let start = Instant::now();
    let sums = bare::unpack(codec, packed, &contents.blocks, known, hashes, &mut plain)?;
    let rate = megabytes(bytes, start.elapsed());
    let same = sums.packed == contents.packed.sha256.0
        && sums.plain == contents.plain.sha256.0
        && sums.root.is_none_or(|root| root == contents.root.0);
    ensure!(same, "{codec:?}: unpacked to something else");
    Ok(rate)
}

fn ours(archive: &Archive, bytes: usize) -> anyhow::Result<f64> {
    let keys = [archive.key.clone()];
    let start = Instant::now();
    let found = verify(&archive.files, &keys, &Options::default(), |_| ())?;
    let rate = megabytes(bytes, start.elapsed());
    let tenant = found.tenants.first().context("a tenant")?;
    ensure!(found.verdict == Verdict::Verified, "{:?}", tenant.findings);
    ensure!(tenant.totals.lines == archive.contents.lines, "{:?}", tenant.totals);
    Ok(rate)
}
