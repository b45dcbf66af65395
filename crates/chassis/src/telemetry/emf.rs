//! CloudWatch's embedded metric format: the figures of each queue and worker as one JSON line, read from
//! the very recorder that Prometheus scrapes, for fleets whose logs go to CloudWatch anyway. It counts
//! nothing itself, and it knows no dimension but queue and worker: a series with any other label is left
//! out, so that no tenant becomes a dimension.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue_core::Clock;
use queue_core::events::{HANDLE_SECONDS, IN_FLIGHT, OLDEST_AGE_SECONDS};
use serde_json::{Map, Value, json};

use super::Telemetry;

/// Messages in a queue, in flight and delayed ones included, by `queue` and its `worker`; set by who
/// asks the broker for it.
pub const QUEUE_DEPTH: &str = "flotilla_queue_depth";
/// Messages in its dead-letter queue, likewise.
pub const DLQ_DEPTH: &str = "flotilla_dlq_depth";

/// CloudWatch's namespace.
const NAMESPACE: &str = "Flotilla";
/// Between two readings; CloudWatch's standard resolution is a minute.
const INTERVAL: Duration = Duration::from_secs(60);
/// Series of one reading, a bound on what a line may cost: pairs of queue and worker in one process.
const PAIRS_MAX: usize = 100;

/// Gauges: the recorder's name, CloudWatch's name and its unit.
const GAUGES: [(&str, &str, &str); 4] = [
    (QUEUE_DEPTH, "QueueDepth", "Count"),
    (DLQ_DEPTH, "DeadLetters", "Count"),
    (IN_FLIGHT, "InFlight", "Count"),
    (OLDEST_AGE_SECONDS, "OldestMessageAge", "Seconds"),
];
/// Mean time in the handler of those messages that were handled since the last reading.
const TIME: (&str, &str) = ("ProcessingTime", "Seconds");
/// How many those were.
const COUNT: (&str, &str) = ("MessagesHandled", "Count");

/// Whether metrics also go to stdout in CloudWatch's embedded format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricsEmf {
    /// One line per queue and worker each minute, and at the end.
    Stdout,
    /// Prometheus alone.
    #[default]
    Off,
}

/// A queue and a worker.
type Pair = (String, String);

/// Sum and count of the times in the handler.
type Handled = (f64, f64);

/// Writes the lines; cheap to clone.
#[derive(Clone)]
pub(crate) struct Emf {
    telemetry: Telemetry,
    clock: Arc<dyn Clock>,
    /// As of the last reading.
    handled: Arc<Mutex<BTreeMap<Pair, Handled>>>,
}

impl Emf {
    pub(crate) fn new(telemetry: Telemetry, clock: Arc<dyn Clock>) -> Self {
        Self { telemetry, clock, handled: Arc::default() }
    }

    /// Reading after reading; never returns.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.write().await;
        }
    }

    /// One reading to stdout. A pipe that nobody reads blocks a thread of its own and no work.
    pub(crate) async fn write(&self) {
        let lines = {
            let mut handled = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
            lines(&self.telemetry.render(), &mut handled, self.clock.now())
        };
        let write = move || {
            let mut out = std::io::stdout().lock();
            lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush())
        };
        // Output that nobody reads any more is no reason to fail.
        tokio::task::spawn_blocking(write).await.ok();
    }
}

/// The lines of a reading: `rendered` is Prometheus's text, `handled` what the last reading saw.
fn lines(rendered: &str, handled: &mut BTreeMap<Pair, Handled>, now: DateTime<Utc>) -> Vec<String> {
    let (sum, count) = (format!("{HANDLE_SECONDS}_sum"), format!("{HANDLE_SECONDS}_count"));
    let mut figures: BTreeMap<Pair, Vec<(&str, &str, f64)>> = BTreeMap::new();
    let mut times: BTreeMap<Pair, Handled> = BTreeMap::new();
    for (name, pair, value) in rendered.lines().filter_map(series) {
        if let Some((_, name, unit)) = GAUGES.iter().find(|(known, ..)| *known == name) {
            figures.entry(pair).or_default().push((*name, *unit, value));
        } else if name == sum {
            times.entry(pair).or_default().0 = value;
        } else if name == count {
            times.entry(pair).or_default().1 = value;
        }
    }
    for (pair, total) in times {
        let before = handled.insert(pair.clone(), total).unwrap_or_default();
        let (time, count) = (total.0 - before.0, total.1 - before.1);
        let figures = figures.entry(pair).or_default();
        figures.push((COUNT.0, COUNT.1, count));
        if count > 0.0 {
            figures.push((TIME.0, TIME.1, time / count));
        }
    }
    figures.into_iter().take(PAIRS_MAX).map(|(pair, figures)| line(&pair, figures, now)).collect()
}

/// `{_aws: …, queue, worker, FIGURE…}`.
fn line((queue, worker): &Pair, mut figures: Vec<(&str, &str, f64)>, now: DateTime<Utc>) -> String {
    figures.sort_by_key(|(name, ..)| *name);
    let metrics: Vec<Value> =
        figures.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.timestamp_millis(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["queue", "worker"]],
                "Metrics": metrics,
            }],
        }),
    );
    line.insert("queue".to_owned(), json!(queue));
    line.insert("worker".to_owned(), json!(worker));
    line.extend(figures.into_iter().map(|(name, _, value)| (name.to_owned(), json!(value))));
    Value::Object(line).to_string()
}

/// `name{queue="q",worker="w"} 1.5`; `None` for every other line, also one with a further label.
fn series(line: &str) -> Option<(&str, Pair, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let value: f64 = value.trim().parse().ok().filter(|value: &f64| value.is_finite())?;
    let (mut queue, mut worker) = (None, None);
    // Names of queues and workers hold neither commas nor quotes.
    for label in labels.split(',') {
        let (key, text) = label.split_once("=\"")?;
        let text = text.strip_suffix('"')?.to_owned();
        match key {
            "queue" => queue = Some(text),
            "worker" => worker = Some(text),
            _ => return None,
        }
    }
    Some((name, (queue?, worker?), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    /// What a process records, by the recorder itself.
    fn rendered(record: impl FnOnce()) -> String {
        let recorder = PrometheusBuilder::new().set_buckets(&[0.1, 1.0]).unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, record);
        handle.render()
    }

    fn record() {
        let labels = [("queue", "audit-log-index-queue"), ("worker", "index-worker")];
        metrics::gauge!(IN_FLIGHT, &labels).set(3.0);
        metrics::gauge!(OLDEST_AGE_SECONDS, &labels).set(12.5);
        metrics::gauge!(QUEUE_DEPTH, &labels).set(40.0);
        metrics::gauge!(DLQ_DEPTH, &labels).set(2.0);
        let time = metrics::histogram!(HANDLE_SECONDS, &labels);
        time.record(0.25);
        time.record(0.75);
        // Not ours to show.
        metrics::gauge!(IN_FLIGHT, "queue" => "q", "worker" => "w", "tenant" => "acme").set(1.0);
        metrics::gauge!(IN_FLIGHT, "queue" => "idle", "worker" => "w").set(f64::NAN);
        metrics::counter!("flotilla_other_total", &labels).increment(7);
    }

    fn at() -> DateTime<Utc> {
        DateTime::from_timestamp(1_735_689_600, 123_000_000).unwrap()
    }

    #[test]
    fn a_reading_is_one_line_per_queue_and_worker() {
        let lines = lines(&rendered(record), &mut BTreeMap::new(), at());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains('\n') && !lines[0].contains("tenant"));
        let shown: Value = serde_json::from_str(&lines[0]).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
    }

    #[test]
    fn time_and_number_are_those_since_the_last_reading() {
        let (text, mut handled) = (rendered(record), BTreeMap::new());
        let mut read = |text: &str| -> Value {
            serde_json::from_str(&lines(text, &mut handled, at())[0]).unwrap()
        };
        assert_eq!(read(&text)["MessagesHandled"], 2.0);
        let idle = read(&text);
        assert_eq!((&idle["MessagesHandled"], idle.get("ProcessingTime")), (&json!(0.0), None));
        let labels = [("queue", "audit-log-index-queue"), ("worker", "index-worker")];
        let more = rendered(|| {
            record();
            metrics::histogram!(HANDLE_SECONDS, &labels).record(4.0);
        });
        let busy = read(&more);
        assert_eq!((&busy["MessagesHandled"], &busy["ProcessingTime"]), (&json!(1.0), &json!(4.0)));
    }

    #[test]
    fn every_figure_named_in_a_line_is_in_it_and_has_a_unit_of_cloudwatch() {
        for line in lines(&rendered(record), &mut BTreeMap::new(), at()) {
            let line: Value = serde_json::from_str(&line).unwrap();
            let about = &line["_aws"]["CloudWatchMetrics"][0];
            for metric in about["Metrics"].as_array().unwrap() {
                assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
                assert!(["Count", "Seconds"].contains(&metric["Unit"].as_str().unwrap()));
            }
            for dimension in about["Dimensions"][0].as_array().unwrap() {
                assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}");
            }
        }
    }
}
