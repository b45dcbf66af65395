//! One event out of the archive, found by its id: the index in PostgreSQL, one block by range, unpacked and
//! checked. The same objects lie in a directory and in LocalStack's S3.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use audit::archive::Reader;
use audit::lifecycle::Unit;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use contracts::audit::lifecycle::Then;
use evidence::Codec;
use local_services::LocalStack;
use sinks::objects::{ObjectKey, ObjectOptions, S3, SharedObjects, write_whole};
use uuid::Uuid;

use super::scene::{Scene, Started};
use crate::books::Books;
use crate::report::{Figure, Report};
use crate::{samples, work_off};

/// Hours that the archive is of.
const HOURS: usize = 4;
/// Letters and digits in each event that no codec can save much of: so a gigabyte is stored of some two.
const NOISE: usize = 1_000;
/// Events that are looked for, one after the other.
const LOOKED_FOR: usize = 200;
/// Of them, these warm up connections and caches.
const WARMING: usize = 10;
const GOAL_MILLIS: f64 = 50.0;
const BUCKET: &str = "bench-archive";

/// Takes the figures.
pub async fn run(report: &mut Report, count: usize) -> anyhow::Result<()> {
    let scene = Scene::start(HOURS).await?;
    let make = |n, at| samples::noisy_log(n, at, NOISE);
    scene.fill(count, count.div_ceil(HOURS), make).await?;
    let run = archive(&scene).await?;
    let units = scene.units(&run).await?;
    let stored = stored(&scene, &units)?;
    let wanted = wanted(&scene, count).await?;
    look(report, &scene, Arc::clone(&scene.objects), ("files", &stored), &wanted).await?;

    let localstack = LocalStack::start(&scene.folder().join("localstack")).await?;
    let bucket = bucket(&localstack).await?;
    for unit in &units {
        let name = unit.object.as_ref().context("an object")?;
        eprintln!("  to LocalStack: {name}");
        let (key, bytes): (ObjectKey, _) =
            (name.parse()?, std::fs::read(scene.archive().join(name))?);
        write_whole(&bucket, &key, bytes, &ObjectOptions::default()).await?;
    }
    look(report, &scene, bucket, ("LocalStack", &stored), &wanted).await?;
    localstack.stop().await?;
    scene.end().await
}

/// How large the archive is.
fn stored(scene: &Scene, units: &[Unit]) -> anyhow::Result<String> {
    let mut bytes = 0;
    for name in units.iter().filter_map(|unit| unit.object.as_ref()) {
        bytes += scene.archive().join(name).metadata().with_context(|| name.clone())?.len();
    }
    let megabytes = bytes as f64 / 1_000_000.0;
    Ok(format!("{megabytes:.1} MB in {} objects", units.len()))
}

/// Archives every row by the real worker, unit by unit.
async fn archive(scene: &Scene) -> anyhow::Result<Started> {
    let run = scene.run(Then::Archive, Codec::Zstd).await?;
    for (at, message) in scene.archive_messages(&run)?.into_iter().enumerate() {
        eprintln!("  archiving unit {} of {}", at + 1, run.units.len());
        let worker = Arc::new(scene.archive_worker());
        work_off::run(&scene.server, worker, vec![message.body]).await?;
    }
    let counters = scene.state(&run).await?.counters;
    ensure!(counters.verified == counters.planned, "{counters:?}");
    Ok(run)
}

/// Events from all over the table, with their records.
async fn wanted(scene: &Scene, count: usize) -> anyhow::Result<Vec<(Uuid, Vec<u8>)>> {
    let step = i64::try_from((count / LOOKED_FOR).max(1))?;
    let rows = sqlx::query_as(
        "SELECT id, record FROM logs JOIN
                (SELECT id, row_number() OVER (ORDER BY recorded_at, id) AS n
                   FROM logs WHERE tenant = 'bench') numbered USING (id)
          WHERE n % $1 = 0 ORDER BY hashtext(id::text) LIMIT $2",
    )
    .bind(step)
    .bind(i64::try_from(LOOKED_FOR)?)
    .fetch_all(scene.owner.pool())
    .await?;
    Ok(rows)
}

async fn look(
    report: &mut Report,
    scene: &Scene,
    objects: SharedObjects,
    (store, stored): (&str, &str),
    wanted: &[(Uuid, Vec<u8>)],
) -> anyhow::Result<()> {
    let (reader, tenant) = (Reader::new(&scene.worker, objects), samples::tenant());
    let (mut millis, mut found) = (Vec::new(), Vec::new());
    for (at, (id, record)) in wanted.iter().cycle().take(WARMING + wanted.len()).enumerate() {
        let start = Instant::now();
        let lines = reader.find(&tenant, *id).await?;
        let took = start.elapsed().as_secs_f64() * 1_000.0;
        if at >= WARMING {
            millis.push(took);
            // What is there and not what was stored is as good as lost.
            let same = lines.iter().filter(|line| line.bytes == *record);
            found.extend(same.map(|line| line.id.as_u128()));
        }
    }
    millis.sort_by(f64::total_cmp);
    let ids: Vec<u128> = wanted.iter().map(|(id, _)| id.as_u128()).collect();
    let books = Books::compare(&ids, &found);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let at = (millis.len() as f64 * share) as usize;
        let name = format!("one event out of the archive, {store}: {name}");
        let figure = Figure::new(name, millis.get(at).copied().unwrap_or(f64::NAN), "ms");
        report.add(figure.below(GOAL_MILLIS).books(books).beside(stored));
    }
    Ok(())
}

/// A new bucket.
async fn bucket(localstack: &LocalStack) -> anyhow::Result<SharedObjects> {
    // It takes any signature.
    let credential = "Credential=test/20260101/us-east-1/s3/aws4_request";
    let authorization = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=00");
    let url = format!("{}/{BUCKET}", localstack.url());
    let made = reqwest::Client::new().put(url).header("authorization", authorization);
    made.send().await?.error_for_status()?;
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
        .endpoint_url(localstack.url())
        .load()
        .await;
    Ok(Arc::new(S3::new(&shared, BUCKET)))
}
