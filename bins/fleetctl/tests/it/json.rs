//! `--json` of every command: each line parses, and its keys are these. A program reads them: a key
//! may come, none may go.

mod lifecycle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contracts::catalogue::AUDIT_INDEX;
use database::{PostgresEffects, PostgresParking, Role};
use queue_core::effects::{Begun, EffectKey, Effects};
use queue_core::park::{ParkDesk, ParkReason, ParkStore, ParkedMessage, Place};
use queue_core::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::command::fleetctl;
use crate::dead_letters::letter;
use crate::fleet::{Fleet, TENANT, Typed};
use crate::verify::{Archive, EVENT_ID};

const RECORD: &str = "id tenant recorded_at class source event";
const KEY: &str = "key_id tenant env scopes name created_at expires_at revoked_at last_used_at";
const LETTER: &str = "id queue code reason fingerprint type tenant failures worker first_seen \
                      rejected_at parent";
const SEEN: &str = "events bytes already_done first";

/// The commands that the help names, groups resolved.
async fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let words: Vec<&str> = path.split_whitespace().chain(["--help"]).collect();
        let help = fleetctl(&[], &words).await.ok().out;
        let names = help
            .lines()
            .skip_while(|line| !line.starts_with("Commands:"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        let below: Vec<String> = names.map(|name| format!("{path} {name}").trim().into()).collect();
        // `search` searches, and has a command below it.
        if below.is_empty() || path == "search" {
            found.insert(path);
        }
        open.extend(below);
    }
    found
}

/// Types it and notes the keys of every line.
struct Table<'a> {
    fleet: &'a Fleet,
    typed: BTreeMap<String, Vec<Value>>,
}

impl Table<'_> {
    /// `name` and `more` are typed; every line must have the keys.
    async fn says(&mut self, name: &str, more: &[&str], keys: &str) -> Value {
        let words: Vec<&str> =
            name.split(' ').chain(more.iter().copied()).chain(["--json"]).collect();
        let said = self.fleet.type_in(&words).await.ok();
        self.note(name, said.lines(), keys)
    }

    fn note(&mut self, name: &str, lines: Vec<Value>, keys: &str) -> Value {
        assert!(!lines.is_empty(), "{name} says nothing");
        for line in &lines {
            let line = line.as_object().unwrap_or_else(|| panic!("{name}: {line} is no object"));
            let missing: Vec<&str> =
                keys.split_whitespace().filter(|key| !line.contains_key(*key)).collect();
            assert!(missing.is_empty(), "{name}: {missing:?} is not in {line:?}");
        }
        let first = lines[0].clone();
        self.typed.insert(name.to_owned(), lines);
        first
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_says_json_with_the_keys_that_programs_know() {
    let fleet = Fleet::start().await;
    let id = fleet.post("door.opened").await;
    fleet.found("door.opened", 1).await;
    let dead = fleet.sqs.queue(AUDIT_INDEX.dlq);
    let letters = [letter(1, "message-malformed", TENANT), letter(2, "message-loop", TENANT)];
    assert!(dead.send(&letters).await.unwrap().iter().all(Result::is_ok));
    let mut table = Table { fleet: &fleet, typed: BTreeMap::new() };

    table.says("doctor", &[], "what ok found hint").await;
    table.says("migrate", &[], "schema applied partitions_made").await;
    table.says("healthcheck", &["--admin", &fleet.admin], "url healthy").await;
    table.says("tenants create", &["umbrella"], "id default_class sandbox state created_at").await;
    table.says("tenants list", &[], "id default_class sandbox state created_at").await;
    let create = ["--tenant", "umbrella", "--all-scopes"];
    let made = table.says("keys create", &create, "key key_id tenant scopes expires_at").await;
    table.says("keys list", &[], KEY).await;
    table.says("keys revoke", &[made["key_id"].as_str().unwrap()], KEY).await;
    table.says("search", &["opened"], &format!("{RECORD} revision tags")).await;
    table.says("search rebuild", &["--yes"], "partition logs rejected now dropped").await;
    let ids = fleet.file("ids", &id);
    let sets = "accepted deleted stored searchable not_stored stored_twice not_searchable \
                found_twice back examples";
    table.says("reconcile", &["--tenant", TENANT, &ids], sets).await;
    let depths = "queue worker waiting in_flight delayed oldest_age_secs dead_letters";
    table.says("queues", &[], depths).await;
    verify(&mut table).await;
    dlq(&mut table).await;
    parked(&mut table).await;
    effects(&mut table).await;
    imports(&mut table).await;
    tail(&mut table).await;
    lifecycle::policies(&mut table, &id).await;
    lifecycle::holds(&mut table).await;
    lifecycle::cleanups(&mut table).await;
    lifecycle::archive(&mut table).await;
    lifecycle::signing(&mut table).await;

    let typed: BTreeSet<String> = table.typed.into_keys().collect();
    // A script for a shell is no JSON.
    let told = commands().await.into_iter().filter(|name| name != "completions").collect();
    assert_eq!(typed, told, "each command of the help stands in this table");
}

async fn verify(table: &mut Table<'_>) {
    let archive = Archive::write().await;
    let words = [archive.path(), "--key", &archive.key];
    let report = table.says("verify", &words, "verdict tenants").await;
    let tenant = report["tenants"][0].as_object().unwrap();
    let keys = "tenant verdict complete_to proven documents heads totals findings more_findings";
    assert!(keys.split(' ').all(|key| tenant.contains_key(key)), "{tenant:?}");
    let to = table.fleet.folder.path().join("case");
    let words =
        [EVENT_ID, "--tenant", "acme", "--from", archive.path(), "--to", to.to_str().unwrap()];
    table.says("evidence", &words, "id folder files").await;
}

async fn dlq(table: &mut Table<'_>) {
    let group = "queue key count first_seen last_rejected tenants sample";
    table.says("dlq list", &["audit-index"], group).await;
    let one = ["audit-index", "--letters", "--code", "message-loop"];
    let row = table.says("dlq list", &one, LETTER).await;
    let id = row["id"].as_str().unwrap();
    let shown = "summary letter decoded would_fail_again";
    table.says("dlq show", &["audit-index", id], shown).await;
    let edit = ["audit-index", id, "--set", "hops=1", "--why", "a try"];
    table.says("dlq edit", &edit, "edited redriven envelope old_deleted").await;
    let preview = "would_send would_skip would_fail_again at_rate takes_secs doubts";
    table.says("dlq redrive", &["audit-index", "--code", "message-loop"], preview).await;
    let sent = "sent not_deleted skipped came_back failed failures interrupted";
    table.says("dlq redrive", &["audit-index", "--code", "nothing-like-it", "--yes"], sent).await;
    table.says("dlq redrive", &["audit-index", "--code", "message-loop", "--yes"], sent).await;
    table.says("dlq purge", &["audit-index", "--all"], "would_delete").await;
    let file = table.fleet.folder.path().join("gone.ndjson");
    let words = ["audit-index", "--all", "--export", file.to_str().unwrap(), "--yes"];
    table.says("dlq purge", &words, "deleted not_deleted export").await;
}

async fn parked(table: &mut Table<'_>) {
    let store = PostgresParking::new(&table.fleet.database.connect(Role::Worker));
    let message = |number: u8| ParkedMessage {
        group: "order-17".into(),
        message_id: format!("m-{number}"),
        tenant: Some(TENANT.into()),
        kind: Some("ORDER".into()),
        body: "{}".into(),
        attributes: Vec::new(),
        first_seen: SystemClock.now(),
    };
    let reason = ParkReason { code: "message-malformed".into(), message: "no customer".into() };
    let first = store.park("orders.fifo", &message(0), None, Place::Rejected, &reason).await;
    assert!(first.unwrap());
    for number in 1..=2 {
        store.admit("orders.fifo", &message(number), None).await.unwrap();
    }
    let group = ["orders.fifo", "order-17"];
    let listed = "queue group code message parked_at releasing waiting rejected";
    table.says("parked list", &[], listed).await;
    let line = "id state group message_id tenant type body attributes first_seen";
    table.says("parked show", &group, line).await;
    let shown = store.line("orders.fifo", "order-17", 10).await.unwrap();
    let last = shown.last().unwrap().id.to_string();
    let skip = ["orders.fifo", &last, "--reason", "cancelled", "--yes"];
    table.says("parked skip", &skip, "skipped").await;
    let yes = [&group[..], &["--yes"]].concat();
    for decision in ["parked release", "parked replay"] {
        table.says(decision, &yes, "queue group messages").await;
    }
}

async fn effects(table: &mut Table<'_>) {
    let ledger = PostgresEffects::new(&table.fleet.database.connect(Role::Worker));
    let key = EffectKey::named("orders.mail", TENANT.parse().unwrap(), "order-17");
    let begun = ledger.begin(&key, "worker 1", Duration::from_secs(30)).await.unwrap();
    let Begun::Fresh(entry) = begun else { panic!("{begun:?}") };
    ledger.extend(&entry, Duration::ZERO).await.unwrap();
    let open = "effect scope tenant key standing begun_by since held_secs outcome expires_at epoch";
    let row = table.says("effects list", &[], open).await;
    let name = row["effect"].as_str().unwrap();
    table.says("effects show", &[name], "effect decisions").await;
    let settle = [name, "--done", "--reason", "the customer has it", "--yes"];
    table.says("effects settle", &settle, "effect standing by").await;
}

async fn imports(table: &mut Table<'_>) {
    let fleet = table.fleet;
    let event = json!({ "actor": { "type": "user", "id": "ana" }, "action": "door.closed" });
    let events = fleet.file("events.ndjson", &format!("{event}\n"));
    table.says("import ndjson", &[&events, "--dry-run"], SEEN).await;
    table.says("import ndjson", &[&events], "events accepted rejected skipped reasons").await;
    let record = json!({ "eventTime": "2026-11-01T10:00:00Z", "eventName": "PutObject",
                         "eventSource": "s3.amazonaws.com" });
    let trail = fleet.file("trail.json", &json!({ "Records": [record] }).to_string());
    table.says("import cloudtrail", &[&trail, "--dry-run"], SEEN).await;
    let log = fleet.file("dpkg.log", "2026-11-21 11:30:05 install redis:amd64 <none> 5:7.0\n");
    table.says("import packages", &[&log, "--dry-run"], SEEN).await;
    let tree = fleet.folder.path().join("tree");
    let tree = tree.to_str().unwrap();
    for words in [
        vec!["init", "--quiet", tree],
        vec!["-C", tree, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet"],
    ] {
        let mut git = std::process::Command::new("git");
        git.args(&words);
        if words[0] == "-C" {
            git.args(["--allow-empty", "--message", "first"]);
        }
        assert!(git.status().unwrap().success(), "git {words:?}");
    }
    table.says("import git", &[tree, "--dry-run"], SEEN).await;
}

async fn tail(table: &mut Table<'_>) {
    let words = ["tail", "--json", "--count", "1"];
    let mut tail = Typed::start(&table.fleet.variables, &words);
    let line = loop {
        // It says nothing of when it begins to follow.
        table.fleet.post("door.opened").await;
        let soon = std::time::Duration::from_millis(200);
        if let Ok(line) = tokio::time::timeout(soon, tail.line()).await {
            break line.unwrap();
        }
    };
    assert_eq!(tail.ended().await, Some(0));
    table.note("tail", vec![serde_json::from_str(&line).unwrap()], RECORD);
}
