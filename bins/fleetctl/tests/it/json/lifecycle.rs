//! The same of the archive's commands: rules, runs, holds, cleanups, keys, objects.

use database::{Role, sqlx};
use queue_core::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::{TestDatabase, eventually};

use super::{RECORD, Table};
use crate::archive::{archived, id};
use crate::command::fleetctl;
use crate::fleet::{PATIENCE, TENANT};
use crate::signing::{FIRST, SECOND, sealed};

const POLICY: &str = "id name version state effective_from keep then";
const RUN: &str = "id state then policy_id planned archived deleted held";
const JOB: &str = "id state filter before requester";
const HOLD: &str = "id matter reason filter placed_at";

impl Table<'_> {
    async fn says_with(
        &mut self,
        (variables, name): (&[(&str, String)], &str),
        more: &[&str],
        keys: &str,
    ) -> Value {
        let words: Vec<&str> =
            name.split(' ').chain(more.iter().copied()).chain(["--json"]).collect();
        let said = fleetctl(variables, &words).await.ok();
        self.note(name, said.lines(), keys)
    }
}

pub(super) async fn policies(table: &mut Table<'_>, log: &str) {
    let policy = json!({"name": "doors", "filter": {"actions": ["door.*"]}, "keep": "P30D",
                        "then": "archive_and_delete"});
    let file = table.fleet.file("doors.json", &policy.to_string());
    table.says("policies apply", &[&file], POLICY).await;
    table.says("policies list", &[], POLICY).await;
    table.says("policies show", &["doors"], POLICY).await;
    table.says("policies simulate", &["doors"], "plan previous").await;
    table
        .says("policies explain", &[log], "log_id fate why goes_at winner matched held_by then")
        .await;
    let run = table.says("policies run", &["doors"], RUN).await;
    let run = run["id"].as_str().unwrap().to_owned();
    table.says("policies runs", &["doors"], RUN).await;
    // As the brake leaves it; approved by somebody who had no part in it.
    let owner = table.fleet.database.connect(Role::Owner);
    let braked = "UPDATE retention_runs SET state = 'braked', failure = 'too much'";
    sqlx::query(braked).execute(owner.pool()).await.unwrap();
    let words = ["keys", "create", "--tenant", TENANT, "--all-scopes", "--json"];
    let second = table.fleet.type_in(&words).await.ok().lines().remove(0);
    let second = table.fleet.with("FLOTILLA_API_KEY", second["key"].as_str().unwrap());
    table.says_with((&second, "policies approve"), &["doors", &run], RUN).await;
    table.says("policies cancel", &["doors", &run], RUN).await;
    table.says("policies delete", &["doors"], "name version").await;
}

pub(super) async fn holds(table: &mut Table<'_>) {
    let place = ["--matter", "case", "--reason", "letter", "--actor", "user/ana"];
    let hold = table.says("holds place", &place, HOLD).await;
    table.says("holds list", &[], HOLD).await;
    let release = [hold["id"].as_str().unwrap(), "--reason", "settled"];
    table.says("holds release", &release, &format!("{HOLD} released")).await;
}

pub(super) async fn cleanups(table: &mut Table<'_>) {
    let now = SystemClock.now().to_rfc3339();
    let run = ["--before", now.as_str(), "--action", "door.*"];
    let shown = eventually(PATIENCE, "older transactions end", async || {
        let words = [&["cleanup", "run"], &run as &[&str], &["--json"]].concat();
        let said = table.fleet.type_in(&words).await.ok().lines().remove(0);
        (said["events"].as_u64() > Some(0)).then_some(said)
    })
    .await;
    table.says("cleanup run", &run, "dry_run filter before complete events confirm").await;
    let confirm = [&run as &[&str], &["--confirm", shown["confirm"].as_str().unwrap()]].concat();
    let started = table.says("cleanup run", &confirm, JOB).await;
    let id = started["id"].as_str().unwrap();
    table.says("cleanup show", &[id], JOB).await;
    table.says("cleanup cancel", &[id], JOB).await;
}

pub(super) async fn archive(table: &mut Table<'_>) {
    let (database, folder) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    archived(&database, folder.path()).await;
    let variables = [
        ("DATABASE_URL", database.url().to_owned()),
        ("ARCHIVE_DIR", folder.path().to_string_lossy().into_owned()),
    ];
    let of = ["--tenant", "acme"];
    let object = "object events packed_bytes plain_bytes class unit manifest archived_at \
                  expires_at locked_until";
    table.says_with((&variables, "archive list"), &of, object).await;
    let one = id(1).to_string();
    let record = RECORD.replace("source ", "");
    table.says_with((&variables, "archive get"), &[&one, "--tenant", "acme"], &record).await;
    table.says_with((&variables, "archive search"), &of, &record).await;
}

pub(super) async fn signing(table: &mut Table<'_>) {
    let (database, folder) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    let archive = folder.path().join("archive");
    let variables = |pem: &str| {
        [
            ("DATABASE_URL", database.url().to_owned()),
            ("ARCHIVE_DIR", archive.to_string_lossy().into_owned()),
            ("ARCHIVE_SIGNING_KEY", pem.to_owned()),
        ]
    };
    let (first, second) = (variables(FIRST), variables(SECOND));
    let file = folder.path().join("new.pem");
    table.says("signing new", &[file.to_str().unwrap()], "file").await;
    table.says_with((&first, "signing init"), &[], "key key_id").await;
    sealed(&database.connect(Role::Worker), &archive).await;
    table.says_with((&first, "signing head"), &["--tenant", "acme"], "tenant documents").await;
    let shown = "tenant chain mended removed hours findings";
    table.says_with((&first, "audit reconcile"), &["--tenant", "acme"], shown).await;
    let keys = "key key_id chains_rotated";
    table.says_with((&second, "signing rotate"), &["--reason", "yearly"], keys).await;
    table.says_with((&first, "signing show"), &[], "key_id public_key").await;
}
