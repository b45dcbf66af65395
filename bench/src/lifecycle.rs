//! The audit lifecycle: archive, cleanup, verification and retention, each beside the bare work that it
//! cannot do without.

mod bare;
mod cleanup;
mod corpus;
mod fetch;
mod memory;
mod messages;
mod noted;
mod pack;
mod policies;
mod rows;
mod scene;
mod stream;
mod verify;

use std::time::Duration;

use crate::report::Report;

/// Pairs of baseline and ours, one after the other, of which the median counts.
const PAIRS: usize = 5;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Size of the samples.
    pub scale: usize,
    /// Rows of the larger archive whose memory is compared; none: 20,000 by scale.
    pub memory_rows: Option<usize>,
}

/// Takes the figures of the groups that are wanted.
pub async fn run(
    report: &mut Report,
    sizes: Sizes,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let Sizes { scale, memory_rows } = sizes;
    if wanted("lifecycle-policies") {
        tokio::task::block_in_place(|| policies::run(report, 10_000 * scale))?;
    }
    if wanted("lifecycle-pack") {
        tokio::task::block_in_place(|| pack::run(report, 1_000 * scale))?;
    }
    if wanted("lifecycle-verify") {
        verify::run(report, 1_000 * scale).await?;
    }
    if wanted("lifecycle-messages") {
        messages::run(report, 2 * scale, (scale / 20).max(2)).await?;
    }
    if wanted("lifecycle-stream") {
        stream::run(report, 4_000 * scale).await?;
    }
    if wanted("lifecycle-cleanup") {
        // No more than fits a unit.
        cleanup::run(report, (1_000 * scale).min(400_000)).await?;
    }
    if wanted("lifecycle-memory") {
        memory::run(report, 1_000 * scale, memory_rows.unwrap_or(20_000 * scale)).await?;
    }
    if wanted("lifecycle-fetch") {
        fetch::run(report, 13_000 * scale).await?;
    }
    Ok(())
}

/// Megabytes per second.
fn megabytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1_000_000.0 / took.as_secs_f64()
}
