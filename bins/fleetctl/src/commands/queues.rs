//! `fleetctl queues`: what waits where. Depths are SQS's own approximate counts; ages are the
//! workers', since SQS itself tells them only through CloudWatch.

use std::collections::HashMap;

use clap::Args;
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;
use queue_core::driver::Depth;
use queue_core::events::OLDEST_AGE_SECONDS;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, span};
use crate::settings::{PATIENCE, Settings};

/// Shows every queue of the catalogue.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl queues
  fleetctl queues --json --admin http://10.0.3.7:9090 | jq 'select(.dead_letters > 0)'")]
pub(crate) struct Queues {
    /// A worker's admin port, asked for ages; may be given several times
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    admin: Vec<String>,
    /// Bearer token of the admin ports, where they are not on loopback
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
}

/// One queue; counts are approximate, `None` where SQS does not know the queue.
#[derive(Serialize)]
struct Row {
    queue: &'static str,
    worker: &'static str,
    waiting: Option<u64>,
    in_flight: Option<u64>,
    delayed: Option<u64>,
    oldest_age_secs: Option<i64>,
    dead_letters: Option<u64>,
}

impl Queues {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let sqs = settings.sqs().await?;
        let ages = self.ages().await;
        let mut rows = Vec::new();
        for spec in QUEUES {
            rows.push(row(&sqs, settings, spec, &ages).await?);
        }
        let heads =
            ["QUEUE", "WAITING", "IN FLIGHT", "DELAYED", "OLDEST", "DEAD LETTERS", "WORKER"];
        output.rows(&rows, &heads, |row| {
            let count = |count: Option<u64>| count.map_or_else(|| "-".into(), |n| n.to_string());
            vec![
                row.queue.to_owned(),
                count(row.waiting),
                count(row.in_flight),
                count(row.delayed),
                row.oldest_age_secs.map_or_else(|| "-".into(), span),
                count(row.dead_letters),
                row.worker.to_owned(),
            ]
        });
        Ok(())
    }

    /// Oldest ages by queue name; a worker that does not answer tells none.
    async fn ages(&self) -> HashMap<String, i64> {
        let mut ages = HashMap::new();
        for admin in &self.admin {
            let url = format!("{}/metrics", admin.trim_end_matches('/'));
            let mut request = reqwest::Client::new().get(url).timeout(PATIENCE);
            if let Some(token) = &self.admin_token {
                request = request.bearer_auth(token);
            }
            let Ok(answer) = request.send().await else { continue };
            let text = answer.text().await.unwrap_or_default();
            for (queue, age) in text.lines().filter_map(age) {
                let known = ages.entry(queue).or_insert(age);
                *known = age.max(*known);
            }
        }
        ages
    }
}

/// A line of [`OLDEST_AGE_SECONDS`], `NAME{queue="q",worker="w"} 12.5`, as queue and whole seconds. A
/// worker with nothing in hand says zero and knows no age.
fn age(line: &str) -> Option<(String, i64)> {
    let rest = line.strip_prefix(OLDEST_AGE_SECONDS)?.strip_prefix('{')?;
    let (labels, value) = rest.split_once('}')?;
    let queue = labels.split("queue=\"").nth(1)?.split('"').next()?;
    let value: f64 =
        value.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "an age in seconds, shown to a person")]
    Some((queue.to_owned(), value as i64))
}

async fn row(
    sqs: &queue_sqs::Sqs,
    settings: &Settings,
    spec: &'static QueueSpec,
    ages: &HashMap<String, i64>,
) -> Result<Row, Failure> {
    let queue = settings.queue(sqs, spec).await;
    let depths = match queue {
        Ok(queue) => (depth(&*queue.queue).await?, depth(&*queue.dead_letters).await?),
        Err(failure) if failure.exit == crate::failure::UNAVAILABLE => return Err(failure),
        Err(_) => (None, None),
    };
    let (depth, dead) = depths;
    let empty = depth.is_some_and(|depth| depth.visible + depth.in_flight + depth.delayed == 0);
    let age = ages.get(spec.name).or_else(|| ages.get(spec.key)).copied();
    Ok(Row {
        queue: spec.key,
        worker: spec.worker,
        waiting: depth.map(|depth| depth.visible),
        in_flight: depth.map(|depth| depth.in_flight),
        delayed: depth.map(|depth| depth.delayed),
        oldest_age_secs: if empty { Some(0) } else { age },
        dead_letters: dead.map(|depth| depth.visible + depth.in_flight),
    })
}

/// `None` where there is no such queue.
async fn depth(queue: &dyn queue_core::Driver) -> Result<Option<Depth>, Failure> {
    match queue.attributes().await {
        Ok(attributes) => Ok(Some(attributes.depth)),
        Err(queue_core::DriverError::Refused(_)) => Ok(None),
        Err(error) => Err(Failure::sqs(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{OLDEST_AGE_SECONDS, age};

    #[test]
    fn ages_are_read_from_the_workers_metrics() {
        let said = |labels: &str, value| age(&format!("{OLDEST_AGE_SECONDS}{{{labels}}} {value}"));
        let index = ("audit-log-index-queue".to_owned(), 12);
        assert_eq!(said("queue=\"audit-log-index-queue\",worker=\"w\"", "12.5"), Some(index));
        assert_eq!(said("queue=\"q\"", "0.4"), Some(("q".to_owned(), 0)), "just received");
        assert_eq!(said("queue=\"q\"", "0"), None, "nothing in hand");
        assert_eq!(said("queue=\"q\"", "NaN"), None);
        assert_eq!(age(&format!("# HELP {OLDEST_AGE_SECONDS} x")), None);
    }
}
