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
    json!({
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
    })
}

#[cfg(test)]
mod tests {
    use super::render;
    use contracts::catalogue::QUEUES;

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
