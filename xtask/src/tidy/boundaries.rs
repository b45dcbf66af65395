//! Which crate may name which third party or which part of ours. `deny.toml` holds the dependency
//! edges; this holds what an edge cannot say, such as a module.

use super::File;

/// One wall: what may be named only under the listed folders.
struct Wall {
    /// The text of a path or attribute, as code has it.
    names: &'static [&'static str],
    /// Folders that may.
    only: &'static [&'static str],
    why: &'static str,
}

const WALLS: [Wall; 6] = [
    Wall {
        names: &["aws_sdk_sqs", "aws-sdk-sqs"],
        only: &["crates/queue-sqs/", "bench/"],
        why: "only the SQS driver names the SDK",
    },
    Wall {
        names: &["opensearch::"],
        only: &["crates/sinks/", "bench/", "crates/testkit/", "crates/local-services/"],
        why: "only the search sink names its client",
    },
    Wall {
        names: &["redis::"],
        only: &["crates/sinks/", "bench/", "crates/testkit/", "crates/local-services/"],
        why: "only the feed sink names its client",
    },
    Wall {
        names: &["lettre::"],
        only: &["crates/sinks/"],
        why: "only the notify sink names the mail client",
    },
    Wall {
        names: &["backoff::"],
        only: &["crates/queue-core/"],
        why: "interval arithmetic is in one module of the engine",
    },
    Wall {
        names: &["env::var(", "env::var_os(", "env::vars("],
        only: &["crates/chassis/", "xtask/", "crates/testkit/", "crates/local-services/", "bench/"],
        why: "only the chassis reads the environment",
    },
];

/// What `queue-core` must not name: it carries any message over any broker.
const NOT_IN_ENGINE: [&str; 4] = ["contracts::audit", "aws_", "sqlx", "AUDIT_"];

/// Every finding, as `path:line: what`.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        // Tests may look behind a wall; the checker itself lists what it looks for.
        let is_test = file.path.contains("/tests/") || file.path.starts_with("tests/");
        if is_test || file.path.starts_with("xtask/src/tidy/") {
            continue;
        }
        for (at, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            findings.extend(wall(&file.path, code).map(|what| at_line(file, at, what)));
            findings.extend(engine(&file.path, code).map(|what| at_line(file, at, &what)));
        }
    }
    findings
}

fn at_line(file: &File, at: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, at + 1)
}

fn wall(path: &str, code: &str) -> Option<&'static str> {
    WALLS
        .iter()
        .find(|wall| {
            !wall.only.iter().any(|folder| path.starts_with(folder))
                && wall.names.iter().any(|name| names(code, name))
        })
        .map(|wall| wall.why)
}

fn engine(path: &str, code: &str) -> Option<String> {
    if !path.starts_with("crates/queue-core/src/") {
        return None;
    }
    let name = NOT_IN_ENGINE.iter().find(|name| names(code, name))?;
    Some(format!("the engine names {name}: it knows no message and no broker"))
}

/// Whether `code` holds `name` at the start of a word: `flotilla_redis::` is not `redis::`.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.')
            || before == Some(':') && name.starts_with("env::")
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::File;

    fn count(path: &str, text: &str) -> usize {
        check(&[File::of(path, text)]).len()
    }

    #[test]
    fn third_parties_are_named_only_behind_their_wall() {
        let redis = "use redis::AsyncCommands;\n";
        assert_eq!(count("crates/audit/src/live.rs", redis), 1);
        assert_eq!(count("crates/sinks/src/pubsub.rs", redis), 0);
        assert_eq!(count("crates/audit/src/live.rs", "use sinks::redis::x;\n"), 0);
        assert_eq!(count("crates/audit/src/live.rs", "// redis::x\n"), 0);
        assert_eq!(count("bins/fleet/src/main.rs", "use aws_sdk_sqs::Client;\n"), 1);
    }

    #[test]
    fn the_engine_knows_no_message_and_no_broker() {
        let message = "use contracts::audit::IndexMessage;\n";
        assert_eq!(count("crates/queue-core/src/engine.rs", message), 1);
        assert_eq!(count("crates/audit/src/workers/index.rs", message), 0);
    }

    #[test]
    fn only_the_chassis_reads_the_environment() {
        assert_eq!(count("crates/sinks/src/x.rs", "let a = std::env::var(\"A\");\n"), 1);
        assert_eq!(count("crates/chassis/src/x.rs", "let a = std::env::var(\"A\");\n"), 0);
    }
}
