//! The catalogue as Terraform variables, production figures; Terraform loads a file of this name by
//! itself.

use anyhow::Result;
use contracts::QueueSpec;
use contracts::catalogue::QueueKind;
use serde_json::{Map, Value, json};

/// The file.
pub(super) const PATH: &str = "terraform/queues.auto.tfvars.json";

/// `{"queues": {KEY: {…}}}`, keys sorted.
pub(super) fn render(queues: &[&QueueSpec]) -> Result<String> {
    let mut map = Map::new();
    for spec in queues {
        map.insert(spec.key.into(), entry(spec));
    }
    let mut text = serde_json::to_string_pretty(&json!({ "queues": Value::Object(map) }))?;
    text.push('\n');
    Ok(text)
}

fn entry(spec: &QueueSpec) -> Value {
    let targets = spec.latency.targets();
    let mut entry = json!({
        "subsystem": spec.subsystem,
        "name": spec.name,
        "fifo": spec.kind == QueueKind::Fifo,
        "variable": spec.env,
        "worker": spec.worker,
        "visibility_timeout_seconds": spec.visibility_secs,
        "message_retention_seconds": spec.retention_prod_secs,
        "max_receive_count": spec.receives_max,
        "dlq_name": spec.dlq,
        "dlq_message_retention_seconds": spec.dlq_retention_secs,
        "latency_class": spec.latency.as_str(),
        "backlog_per_task": targets.backlog_per_task,
        "oldest_age_alarm_seconds": targets.oldest_age_alarm_secs,
        "why": spec.why,
    });
    for (name, value) in spec.kind.attributes().iter().filter(|(name, _)| *name != "FifoQueue") {
        entry[snake(name)] = (*value).into();
    }
    entry
}

/// SQS's `FifoThroughputLimit` is Terraform's `fifo_throughput_limit`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::localstack;
    use super::render;
    use contracts::QueueSpec;
    use contracts::catalogue::{AUDIT_INDEX, QUEUES, QueueKind};

    /// No queue of the catalogue is one yet.
    const ORDERS: QueueSpec = QueueSpec {
        key: "orders",
        name: "orders.fifo",
        dlq: "orders-dlq.fifo",
        kind: QueueKind::Fifo,
        receives_max: QueueKind::Fifo.receives_max(),
        ..AUDIT_INDEX
    };

    #[test]
    fn a_fifo_queue_has_its_throughput_per_group() {
        let value: serde_json::Value = serde_json::from_str(&render(&[&ORDERS]).unwrap()).unwrap();
        let queue = &value["queues"]["orders"];
        assert_eq!(queue["fifo"], true);
        assert_eq!(queue["deduplication_scope"], "messageGroup");
        assert_eq!(queue["fifo_throughput_limit"], "perMessageGroupId");
        assert_eq!(queue["max_receive_count"], 1_000);
        let standard: serde_json::Value = serde_json::from_str(&render(QUEUES).unwrap()).unwrap();
        assert!(standard["queues"]["audit-index"].get("fifo_throughput_limit").is_none());
    }

    #[test]
    fn the_bootstrap_makes_it_so_too() {
        let calls = localstack::calls(&[&ORDERS]);
        assert_eq!(calls, "queue fifo orders.fifo 30 86400 orders-dlq.fifo 1209600 1000\n");
        let script = std::fs::read_to_string(crate::tree::root().join(localstack::PATH)).unwrap();
        for (name, value) in QueueKind::Fifo.attributes() {
            assert!(script.contains(&format!("\"{name}\":\"{value}\"")), "{name}");
        }
    }

    #[test]
    fn every_queue_is_there_and_outlived_by_its_dead_letters() {
        let value: serde_json::Value = serde_json::from_str(&render(QUEUES).unwrap()).unwrap();
        let queues = value["queues"].as_object().unwrap();
        assert_eq!(queues.len(), QUEUES.len());
        for queue in queues.values() {
            let retention = queue["message_retention_seconds"].as_u64().unwrap();
            assert!(queue["dlq_message_retention_seconds"].as_u64().unwrap() >= retention);
        }
    }
}
