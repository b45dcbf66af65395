//! `docs/QUEUES.md`: the catalogue as tables that an operator reads.

use contracts::QueueSpec;
use contracts::catalogue::{LatencyClass, QueueKind};

/// The file.
pub(super) const PATH: &str = "docs/QUEUES.md";

const HEAD: &str = "\
# Queues

Written by `cargo xtask gen` from `crates/contracts/src/catalogue.rs`; edit that file, not this one.

Receives are not failures: SQS counts every release, drain and recall as a receive. A message is
rejected after its *failures*, which are recorded when they happen. *Receives* is SQS's own redrive
count, only the net for a crash loop.
";

/// The whole page.
pub(super) fn render(queues: &[&QueueSpec]) -> String {
    let mut out = vec![HEAD.to_owned()];
    out.push(
        "\n| Queue | Key | Variable | Kind | Worker | Class |\n|---|---|---|---|---|---|\n"
            .to_owned(),
    );
    for spec in queues {
        let kind = match spec.kind {
            QueueKind::Standard => "standard",
            QueueKind::Fifo => "FIFO",
        };
        out.push(format!(
            "| `{}` | `{}` | `{}` | {kind} | `{}` | {} |\n",
            spec.name,
            spec.key,
            spec.env,
            spec.worker,
            spec.latency.as_str()
        ));
    }
    out.push(
        "\n| Key | Lease | Kept (development) | Kept (production) | Failures | Receives | \
         Dead letters to | Kept there |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned(),
    );
    for spec in queues {
        out.push(format!(
            "| `{}` | {} | {} | {} | {} | {} | `{}` | {} |\n",
            spec.key,
            span(spec.visibility_secs),
            span(spec.retention_dev_secs),
            span(spec.retention_prod_secs),
            spec.failures_max,
            spec.receives_max,
            spec.dlq,
            span(spec.dlq_retention_secs),
        ));
    }
    out.push("\n## Why\n\n".to_owned());
    for spec in queues {
        out.push(format!("- `{}`: {}\n", spec.key, spec.why));
    }
    out.push(classes());
    out.concat()
}

fn classes() -> String {
    let mut out = vec![String::from(
        "\n## Latency classes\n\n\
         | Class | Backlog per task that scaling aims at | Alarm when the oldest message is | \
         Long polls per process |\n|---|---|---|---|\n",
    )];
    for class in [LatencyClass::High, LatencyClass::Medium, LatencyClass::Low] {
        let targets = class.targets();
        out.push(format!(
            "| {} | {} | {} | {} |\n",
            class.as_str(),
            targets.backlog_per_task,
            span(targets.oldest_age_alarm_secs),
            targets.pollers_max
        ));
    }
    out.concat()
}

/// Seconds in the largest unit that divides them, e.g. `7 d`, `90 s`.
fn span(seconds: u32) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("min", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_take_the_largest_unit_that_divides_them() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(90), "90 s");
        assert_eq!(span(120), "2 min");
        assert_eq!(span(7_200), "2 h");
        assert_eq!(span(604_800), "7 d");
    }
}
