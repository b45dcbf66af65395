//! The rights in `terraform/archive_rights.tf` are those that the code uses: the calls of each process are
//! read from its sources, and what S3 wants for each call stands here, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Actions = BTreeSet<String>;

/// A call of the port of objects, as the sources have it, and what S3 asks of the caller. Names that S3
/// says are absent, and not forbidden, need `s3:ListBucket`, which every worker has for its probe.
const CALLS: [(&str, &[&str]); 13] = [
    ("objects.put(", &["s3:PutObject"]),
    ("objects.put_with(", &["s3:PutObject"]),
    ("objects.get(", &["s3:GetObject"]),
    ("objects.get_range(", &["s3:GetObject"]),
    ("objects.read(", &["s3:GetObject"]),
    ("objects.head(", &["s3:GetObject"]),
    ("objects.list(", &["s3:ListBucket"]),
    ("objects.list_folders(", &["s3:ListBucket"]),
    ("objects.list_uploads(", &["s3:ListBucketMultipartUploads"]),
    ("objects.abort(", &["s3:AbortMultipartUpload"]),
    ("sweep_uploads(", &["s3:ListBucketMultipartUploads", "s3:AbortMultipartUpload"]),
    // Resuming one asks for its parts; each part, and the end, is a `PutObject`.
    ("Upload::resume(", &["s3:PutObject", "s3:ListMultipartUploadParts"]),
    // Every version is looked at before any goes.
    (
        "objects.delete_all_versions(",
        &[
            "s3:ListBucketVersions",
            "s3:GetObjectVersion",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
        ],
    ),
];

/// The calls of the SDK by `crates/sinks/src/objects/s3`: a new one may need a right that nobody has.
const SDK: [&str; 15] = [
    "abort_multipart_upload",
    "complete_multipart_upload",
    "create_multipart_upload",
    "delete_object",
    "delete_objects",
    "get_object",
    "head_bucket",
    "head_object",
    "list_multipart_uploads",
    "list_object_versions",
    "list_objects_v2",
    "list_parts",
    "put_object",
    "put_object_legal_hold",
    "upload_part",
];

/// A process: its policy, where its code lies, and what the calls alone do not show.
struct Process {
    policy: &'static str,
    sources: &'static [&'static str],
    without: &'static [&'static str],
    beside: &'static [&'static str],
}

const AUDIT: &str = "crates/audit/src";

const PROCESSES: [Process; 4] = [
    Process {
        policy: "archive_worker",
        sources: &["archive", "workers/archive.rs", "workers/archive"],
        without: &["archive/reader.rs"],
        // Its probe; tags and locks go with `put_with` and `begin`.
        beside: &["s3:ListBucket", "s3:PutObjectTagging"],
    },
    Process {
        policy: "cleanup_worker",
        sources: &[
            "cleanup.rs",
            "cleanup",
            "workers/cleanup.rs",
            "workers/cleanup",
            "archive/proof.rs",
            "archive/seal.rs",
            "archive/heads.rs",
        ],
        without: &[],
        beside: &["s3:ListBucket"],
    },
    // It looks; `fleetctl audit reconcile` mends.
    Process {
        policy: "scheduler",
        sources: &["reconcile.rs", "reconcile"],
        without: &["reconcile/proved.rs", "reconcile/mend.rs"],
        beside: &[],
    },
    Process {
        policy: "ingest_api",
        sources: &["archive/reader.rs", "http"],
        without: &[],
        beside: &[],
    },
];

/// A statement of a policy.
#[derive(Debug, Default)]
struct Statement {
    sid: String,
    /// What it is made for, where it is not made in any case.
    only: String,
    actions: Actions,
    resources: String,
}

/// Policies by name. It reads what `terraform fmt` writes, one thing a line.
fn policies(text: &str) -> BTreeMap<String, Vec<Statement>> {
    let (mut policies, mut name) = (BTreeMap::<_, Vec<Statement>>::new(), String::new());
    let mut listing = false;
    for line in text.lines() {
        if line.ends_with('{') && !line.starts_with(' ') {
            let policy = line.strip_prefix("data \"aws_iam_policy_document\" \"");
            policy.unwrap_or_default().trim_end_matches("\" {").clone_into(&mut name);
        }
        let line = line.trim();
        let statements = policies.entry(name.clone()).or_default();
        if line == "statement {" || line == "dynamic \"statement\" {" {
            statements.push(Statement::default());
        }
        let Some(statement) = statements.last_mut() else { continue };
        let value = line.split_once(" = ").map_or("", |(_, value)| value.trim());
        match line.split_whitespace().next().unwrap_or_default() {
            "for_each" => value.clone_into(&mut statement.only),
            "sid" => value.trim_matches('"').clone_into(&mut statement.sid),
            "actions" => {
                statement.actions.extend(quoted(value));
                listing = value == "[";
            }
            "]" => listing = false,
            "resources" => value.clone_into(&mut statement.resources),
            _ if listing => statement.actions.extend(quoted(line)),
            _ => {}
        }
    }
    policies
}

fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned)
}

fn terraform(file: &str) -> String {
    std::fs::read_to_string(super::tree().join("terraform").join(file)).unwrap()
}

/// The text of a file, or of all files of a folder.
fn source(path: &Path, without: &[&str], text: &mut String) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            source(&entry.unwrap().path(), without, text);
        }
    } else if !without.iter().any(|other| path.ends_with(other)) && path.exists() {
        // A chain of calls may be broken before its dots.
        let lines = std::fs::read_to_string(path).unwrap();
        text.extend(lines.lines().map(str::trim));
    }
}

fn used(process: &Process) -> Actions {
    let mut text = String::new();
    for place in process.sources {
        source(&super::tree().join(AUDIT).join(place), process.without, &mut text);
    }
    assert!(text.len() > 1_000, "{}: its sources are elsewhere", process.policy);
    let calls = CALLS.iter().filter(|(call, _)| text.contains(call));
    let wanted = calls.flat_map(|(_, actions)| actions.iter()).chain(process.beside);
    wanted.map(|action| (*action).to_owned()).collect()
}

fn of<'a>(policies: &'a BTreeMap<String, Vec<Statement>>, name: &str) -> &'a [Statement] {
    policies.get(name).map(Vec::as_slice).unwrap_or_default()
}

fn actions<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Actions {
    statements.into_iter().flat_map(|statement| statement.actions.clone()).collect()
}

#[test]
fn each_process_may_do_with_the_archive_what_its_code_does_and_no_more() {
    let policies = policies(&terraform("archive_rights.tf"));
    for process in PROCESSES {
        let statements = of(&policies, process.policy);
        let always = statements.iter().filter(|statement| statement.only.is_empty());
        assert_eq!(actions(always), used(&process), "{}", process.policy);
        for statement in statements {
            assert!(
                !statement.actions.iter().any(|action| action.contains('*')),
                "{}: {statement:?}",
                process.policy
            );
            let deletes = statement.actions.iter().any(|action| action.contains("Delete"));
            let only_objects = statement.resources == "[local.archive_objects]";
            assert!(!deletes || only_objects, "proofs stay: {statement:?}");
        }
    }
    let reads = actions(of(&policies, "archive_reader"));
    assert_eq!(Vec::from_iter(reads), ["kms:Decrypt", "s3:GetObject", "s3:ListBucket"]);
}

#[test]
fn what_a_lock_a_key_and_a_second_store_need_is_there_where_they_are() {
    let policies = policies(&terraform("archive_rights.tf"));
    let (lock, keys, sign, heads) =
        ("archive_object_lock", "archive_kms_keys", "archive_signing_key_arns", "heads_bucket_arn");
    let looked_at = "s3:GetObjectLegalHold s3:GetObjectRetention";
    let written = "s3:GetObjectLegalHold s3:GetObjectRetention s3:PutObjectRetention";
    let (writes, reads) = ("kms:Decrypt kms:GenerateDataKey", "kms:Decrypt");
    let (signs, copies) = ("kms:GetPublicKey kms:Sign", "s3:GetObject s3:PutObject");
    let compares = "s3:GetObject s3:ListBucket";
    for (policy, only, expected) in [
        ("archive_worker", lock, written),
        ("cleanup_worker", lock, looked_at),
        ("archive_worker", keys, writes),
        ("cleanup_worker", keys, writes),
        ("ingest_api", keys, reads),
        ("archive_reader", keys, reads),
        ("archive_worker", sign, signs),
        ("cleanup_worker", sign, signs),
        ("archive_worker", heads, copies),
        ("cleanup_worker", heads, copies),
        ("scheduler", heads, compares),
        ("archive_reader", heads, compares),
        ("scheduler", keys, reads),
        ("scheduler", sign, ""),
        ("ingest_api", sign, ""),
        ("ingest_api", lock, ""),
        ("archive_reader", sign, ""),
    ] {
        let made = of(&policies, policy).iter().filter(|made| made.only.contains(only));
        let made = Vec::from_iter(actions(made)).join(" ");
        assert_eq!(made, expected, "{policy}, {only}");
    }
}

#[test]
fn every_call_to_s3_is_one_whose_rights_were_thought_of() {
    let mut text = String::new();
    let sink = super::tree().join("crates/sinks/src/objects");
    source(&sink.join("s3"), &[], &mut text);
    source(&sink.join("s3.rs"), &[], &mut text);
    // `self.client.put_object()`, its line breaks gone.
    let called: BTreeSet<&str> = text
        .split(".client.")
        .skip(1)
        .filter_map(|rest| rest.split_once("()").map(|(call, _)| call))
        .collect();
    assert_eq!(Vec::from_iter(called), SDK);
}

#[test]
fn the_bucket_is_closed_versioned_encrypted_and_speaks_tls_alone() {
    let text = terraform("archive.tf");
    let bucket = policies(&text);
    let statement = &of(&bucket, "archive_bucket")[0];
    assert_eq!((statement.sid.as_str(), statement.only.as_str()), ("TlsOnly", ""));
    assert!(statement.actions.contains("s3:*") && statement.resources.contains("/*"));
    for line in [
        "effect    = \"Deny\"",
        "variable = \"aws:SecureTransport\"",
        "object_lock_enabled = var.archive_object_lock",
        "block_public_acls       = true",
        "block_public_policy     = true",
        "ignore_public_acls      = true",
        "restrict_public_buckets = true",
        "status = \"Enabled\"",
        "sse_algorithm     = var.archive_kms_key_arn == null ? \"AES256\" : \"aws:kms\"",
        "days_after_initiation = var.archive_upload_days",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line}");
    }
}
