//! Compose's share of the catalogue: one variable per queue and one service per worker whose binary
//! exists. How a service is built, waits and is stopped is written by hand in the file's anchors.

use contracts::QueueSpec;

/// The file.
pub(super) const PATH: &str = "docker-compose.yml";

/// The queues' variables, as LocalStack names the URLs.
pub(super) fn queue_urls(queues: &[&QueueSpec]) -> String {
    let mut out = Vec::new();
    for spec in queues {
        out.push(format!("  {}: http://localstack:4566/000000000000/{}\n", spec.env, spec.name));
    }
    out.concat()
}

/// One service per worker, in the catalogue's order.
pub(super) fn workers(queues: &[&QueueSpec], binaries: &[String]) -> String {
    let mut out = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for spec in queues {
        let exists = binaries.iter().any(|binary| binary == spec.worker);
        if !exists || done.contains(&spec.worker) {
            continue;
        }
        done.push(spec.worker);
        out.push(format!(
            "  {worker}:\n    <<: *service\n    command: [\"/app/{worker}\"]\n",
            worker = spec.worker
        ));
    }
    out.concat()
}

#[cfg(test)]
mod tests {
    use super::workers;
    use contracts::catalogue::QUEUES;

    #[test]
    fn a_service_appears_once_and_only_with_its_binary() {
        let text = workers(QUEUES, &["index-worker".into(), "ingest-api".into()]);
        assert_eq!(text.matches("  index-worker:\n").count(), 1);
        assert!(!text.contains("archive-worker"), "it has no binary: {text}");
        let text = workers(QUEUES, &["archive-worker".into()]);
        assert!(text.starts_with("  archive-worker:\n"));
    }
}
