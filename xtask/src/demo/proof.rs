//! The demo's proof: the receipt of a deletion, an archive that verifies with the public key alone, a copy with
//! one byte flipped that does not, one event fetched back, and its message that comes too late.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use contracts::catalogue::AUDIT_INDEX;
use serde_json::Value;
use serde_json::value::RawValue;

use super::lifecycle::{Sandbox, TENANT};
use super::poison::index_message;
use super::stage::{KEY_FILE, Stage};
use super::{RECOVERY_MAX, say, text};

/// The sealer looks every 5 s; then some, for a busy machine.
const SEAL_MAX: Duration = Duration::from_secs(60);

/// Waits until the receipts are signed and in the archive, and shows them.
pub(super) fn receipts(stage: &Stage, sandbox: &Sandbox, units: u64) -> Result<()> {
    let chain = Path::new(&stage.archive_path()).join("proof").join(TENANT).join("chain");
    let files = stage.until(SEAL_MAX, || {
        let mut files = Vec::new();
        for entry in fs::read_dir(&chain).with_context(|| format!("read {}", chain.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("-receipt.note") {
                files.push(path);
            }
        }
        files.sort();
        Ok((files.len() as u64 == units).then_some(files))
    })?;
    let mut deleted = 0;
    for file in files {
        println!("   $ head -n 1 {}", file.display());
        let note = fs::read_to_string(&file)?;
        let receipt: Value = serde_json::from_str(note.lines().next().context("an empty note")?)?;
        for line in told(&receipt) {
            println!("     {line}");
        }
        ensure!(receipt["held"] == 0 && receipt["already_gone"] == 0, "{receipt}");
        deleted += receipt["deleted"].as_u64().context("a receipt without a count")?;
    }
    let events = sandbox.events;
    ensure!(deleted == events, "the receipts say {deleted} of {events} events");
    Ok(())
}

/// What a receipt says, in words.
fn told(receipt: &Value) -> [String; 6] {
    let (manifest, ids, holds) = (&receipt["manifest"], &receipt["ids"], &receipt["holds"]);
    let basis = &receipt["basis"];
    [
        format!(
            "receipt, document {} of the chain, signed by {}",
            receipt["sequence"],
            text(receipt, "key_id")
        ),
        format!(
            "deleted {}, already gone {}, held {}; by {} {} version {}, started by {}",
            receipt["deleted"],
            receipt["already_gone"],
            receipt["held"],
            text(basis, "kind"),
            text(basis, "id"),
            basis["version"],
            text(receipt, "requester")
        ),
        format!(
            "they are in the object of manifest {} ({}…)",
            manifest["sequence"],
            text(manifest, "sha256").get(..16).unwrap_or_default()
        ),
        format!("their ids: {}, Merkle root {}", text(ids, "object"), text(ids, "root")),
        format!("legal holds in force: {}, looked at {}", holds["in_force"], text(holds, "at")),
        format!(
            "gone at {}, counted to none in search at {}",
            text(receipt, "deleted_at"),
            text(receipt, "search_empty_at")
        ),
    ]
}

/// Signs a head over the whole chain and verifies the archive by its files and the public key alone.
pub(super) fn verify(stage: &Stage, sandbox: &Sandbox, units: u64) -> Result<()> {
    // The key's record, and a manifest and a receipt per unit.
    let documents = 1 + 2 * units;
    let head = ["signing", "head", "--tenant", TENANT];
    stage.until(SEAL_MAX, || {
        let signed = stage.ask(&[&head[..], &["--json"]].concat())?;
        Ok((signed["documents"] == documents).then_some(()))
    })?;
    stage.show(&head)?;
    let (archive, key) = (stage.archive_path(), stage.path(KEY_FILE));
    let words = ["verify", &archive, "--key", &key];
    stage.show_ending(&words, 0)?;
    let report = stage.ask(&[&words[..], &["--json"]].concat())?;
    let tenant = &report["tenants"][0];
    let found = [
        &tenant["proven"]["documents"],
        &tenant["complete_to"],
        &tenant["documents"]["manifests"],
        &tenant["documents"]["receipts"],
        &tenant["totals"]["objects"],
        &tenant["totals"]["lines"],
    ];
    let expected = [documents, documents, units, units, units, sandbox.events];
    ensure!(found.map(Value::as_u64) == expected.map(Some), "{expected:?} was expected: {report}");
    ensure!(report["verdict"] == "verified", "{report}");
    Ok(())
}

/// Flips one byte of one object in a copy of the archive: it must be found, and named.
pub(super) fn tamper(stage: &Stage) -> Result<()> {
    let (archive, copy, key) = (stage.archive_path(), stage.path("copy"), stage.path(KEY_FILE));
    println!("   $ cp -R {archive} {copy}");
    let copied = Command::new("cp").args(["-R", &archive, &copy]).status().context("run cp")?;
    ensure!(copied.success(), "cp -R {archive} {copy}: {copied}");
    let list = ["archive", "list", "--tenant", TENANT];
    stage.show(&list)?;
    let objects = stage.ask_lines(&[&list[..], &["--json"]].concat())?;
    let object = objects.first().context("the archive lists no object")?;
    let name = text(object, "object");
    let file = Path::new(&copy).join(name);
    let mut bytes = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    // Behind the salts, in what is packed.
    let place = bytes.len() / 4 * 3;
    let byte = bytes.get_mut(place).context("an empty object")?;
    let before = *byte;
    *byte ^= 0xff;
    say(&format!("in the copy, byte {place} of {name}: {before:#04x} becomes {byte:#04x}"));
    fs::write(&file, &bytes)?;
    let words = ["verify", &copy, "--key", &key];
    stage.show_ending(&words, 1)?;
    let report = json_of(stage, &words)?;
    let findings = report["tenants"][0]["findings"].as_array().cloned().unwrap_or_default();
    let named = findings.iter().any(|finding| text(finding, "file") == name);
    ensure!(named && findings.len() == 1, "{name} alone should be named: {report}");
    Ok(())
}

/// What a verification that fails reports.
fn json_of(stage: &Stage, words: &[&str]) -> Result<Value> {
    super::json(&stage.end_of(&[words, &["--json"]].concat())?.out)
}

/// Fetches one event out of the archive; its record, byte for byte as it was accepted.
pub(super) fn fetch_back(stage: &Stage, sandbox: &Sandbox) -> Result<String> {
    let words = ["archive", "get", sandbox.sample_id(), "--tenant", TENANT];
    stage.show(&words)?;
    let record = stage.end_of(&words)?.out.trim_end().to_owned();
    let (there, before) = (serde_json::from_str::<Value>(&record)?, &sandbox.sample);
    for part in ["id", "tenant", "recorded_at", "event"] {
        let (found, was) = (&there[part], &before[part]);
        ensure!(found == was, "{part} of the archived event is {found} and was {was}");
    }
    say("it is the event that search showed before the deletion");
    Ok(record)
}

/// Exports the proof of that event's deletion, and verifies it by itself.
pub(super) fn evidence(stage: &Stage, sandbox: &Sandbox) -> Result<()> {
    let (archive, case, key) = (stage.archive_path(), stage.path("case"), stage.path(KEY_FILE));
    let id = sandbox.sample_id();
    stage.show(&["evidence", id, "--tenant", TENANT, "--from", &archive, "--to", &case])?;
    stage.show_ending(&["verify", &case, "--key", &key], 0)
}

/// The event's message comes once more, as after a redrive: its tombstone keeps it out.
pub(super) fn late_message(stage: &Stage, sandbox: &Sandbox, record: &str) -> Result<()> {
    let at: DateTime<Utc> = text(&sandbox.sample, "recorded_at").parse()?;
    let record = RawValue::from_string(record.to_owned())?;
    stage.send(&index_message(TENANT, at, record)?)?;
    say("the event's message comes once more, late:");
    stage.until(RECOVERY_MAX, || {
        let rows = stage.ask_lines(&["queues", "--json"])?;
        let row = rows.into_iter().find(|row| row["queue"] == AUDIT_INDEX.key);
        let row = row.context("`fleetctl queues` does not list the index queue")?;
        ensure!(row["dead_letters"] == 0, "it became a dead letter: {row}");
        let waits = ["waiting", "in_flight", "delayed"].iter().any(|count| row[count] != 0);
        Ok((!waits).then_some(()))
    })?;
    sandbox.expect_sets(stage, [sandbox.events, sandbox.events, 0, 0])
}
