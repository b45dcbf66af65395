//! Memory of the archive worker's process over the number of rows that it archives. The rows are of one
//! hour, in units of the usual size; how many units are in hand at once is a setting, so that the two
//! sizes are compared with one at a time.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use contracts::audit::lifecycle::Then;
use contracts::catalogue::AUDIT_ARCHIVE;
use evidence::Codec;

use super::corpus::{KEY, PRIVATE_KEY};
use super::scene::{Scene, Started};
use crate::process::Process;
use crate::report::{Figure, Report};
use crate::{samples, sqs};

/// Memory that twenty times the rows may cost, at most.
const GOAL: f64 = 1.25;
/// A run that takes longer has stopped.
const LIMIT: Duration = Duration::from_secs(3_600);
/// Between two looks at a run, and between two words about it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Takes the figures.
pub async fn run(report: &mut Report, few: usize, many: usize) -> anyhow::Result<()> {
    let scene = Scene::start(1).await?;
    let mut highest = [0.0; 2];
    for (rows, highest) in [few, many].into_iter().zip(&mut highest) {
        scene.empty().await?;
        let bytes = scene.fill(rows, rows, samples::new_log).await?;
        let (memory, units) = archived(&scene, Some(1)).await?;
        let name = format!("memory, archive-worker, {rows} rows");
        let note = format!("highest; {} MB in {units} units, one at a time", bytes / 1_000_000);
        report.add(Figure::new(name, memory, "MB").beside(note));
        *highest = memory;
    }
    let name = format!("memory, archive-worker, {many} rows / {few} rows");
    report.add(Figure::new(name, highest[1] / highest[0], "ratio").at_most(GOAL));
    let (memory, units) = archived(&scene, None).await?;
    let name = format!("memory, archive-worker, {many} rows, as many units at once as by default");
    report.add(Figure::new(name, memory, "MB").beside(format!("highest; {units} units")));
    scene.end().await
}

/// Archives all rows in a process of its own, which leaves them; its highest memory, and the units.
async fn archived(scene: &Scene, at_once: Option<usize>) -> anyhow::Result<(f64, usize)> {
    let client = scene.server.client();
    let queue = format!("archive-{}", uuid::Uuid::new_v4().simple());
    let (url, _) = sqs::create(&client, &queue).await?;
    let run = scene.run(Then::ArchiveAndDelete, Codec::Zstd).await?;
    let bodies = scene.archive_messages(&run)?.into_iter().map(|message| message.body).collect();
    sqs::fill(&client, &url, bodies).await?;
    let mut worker = start(scene, url, at_once)?;
    verified(scene, &run, &mut worker).await?;
    let (_, highest) = worker.memory()?;
    worker.stop().await?;
    Ok((highest, run.units.len()))
}

fn start(scene: &Scene, queue: String, at_once: Option<usize>) -> anyhow::Result<Process> {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END PRIVATE KEY-----\n");
    let mut environment = vec![
        ("DATABASE_URL", scene.url()),
        ("AWS_ENDPOINT_URL", scene.server.endpoint.clone()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        (AUDIT_ARCHIVE.env, queue),
        ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("ARCHIVE_DIR", scene.archive().to_string_lossy().into_owned()),
        ("ARCHIVE_SPOOL_DIR", scene.folder().to_string_lossy().into_owned()),
        ("ARCHIVE_SIGNING_KEY_NAME", KEY.0.to_owned()),
        ("ARCHIVE_SIGNING_KEY", pem),
    ];
    environment.extend(at_once.map(|units| ("WORKER_CONCURRENCY", units.to_string())));
    Process::start("archive-worker", scene.folder(), &environment, &[])
}

/// Until every event of the run is in an object that was read back.
async fn verified(scene: &Scene, run: &Started, worker: &mut Process) -> anyhow::Result<()> {
    let (start, mut told) = (Instant::now(), Instant::now());
    while start.elapsed() < LIMIT {
        let state = scene.state(run).await?;
        let (planned, verified) = (state.counters.planned, state.counters.verified);
        ensure!(state.units.failed == 0, "a unit has failed: {}", worker.output());
        if verified == planned {
            return Ok(());
        }
        worker.lives()?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("  {} of {} events are archived", verified.events, planned.events);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("not archived within {LIMIT:?}: {}", worker.output())
}
