//! The life cycle of a sandbox tenant's events: a policy is simulated, its run stopped by the brake, approved
//! by a second key, and watched until everything is archived, read back and deleted. Every number is asked
//! of the running fleet; one that is not as promised ends the demo.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::stage::{KEY_FILE, Stage};
use super::{EVENTS_MIN, RECOVERY_MAX, say, text};

/// Whose events come and go.
pub(super) const TENANT: &str = "sandbox";
/// The policy that they go by.
const POLICY: &str = "history";
/// Events that are sent again as the sandbox's.
const EVENTS_MAX: usize = 200;
/// A run waits for the sealer (5 s), the cleanup for the seal (10 s); then some, for a busy machine.
const RUN_MAX: Duration = Duration::from_secs(120);
/// What every run counts, in the order in which it adds up.
const COUNTS: [&str; 7] = ["planned", "archived", "verified", "deleted", "held", "gone", "failed"];

/// The tenant, its events and who may do what.
pub(super) struct Sandbox {
    /// Events that were accepted.
    pub(super) events: u64,
    /// The file of their ids.
    pub(super) ids: String,
    /// One of them, as search showed it before it went.
    pub(super) sample: Value,
    /// Writes the policy and starts its run.
    owner: String,
    /// Lets a run pass its brake.
    approver: String,
    /// The key of the commands before, which are another tenant's.
    before: String,
}

impl Sandbox {
    /// Id of the event that is looked at.
    pub(super) fn sample_id(&self) -> &str {
        text(&self.sample, "id")
    }

    /// Sets up the key that signs, a tenant that may keep for no time at all, two keys for it, and events
    /// of its own: some of those that were imported under `prefix`.
    pub(super) fn set_up(stage: &mut Stage, prefix: &str) -> Result<Self> {
        let shown = stage.type_in(&["signing", "init", "--json"])?;
        let public = shown["key"].as_str().context("no public key")?;
        stage.write(KEY_FILE, &format!("{public}\n"))?;
        say(&format!("the public key, for whoever verifies: {public}"));

        let found = stage.ask_lines(&["search", "--limit", "1000", "--json"])?;
        let ours = |log: &&Value| text(&log["event"], "action").starts_with(prefix);
        let lines =
            found.iter().filter(ours).take(EVENTS_MAX).map(|log| format!("{}\n", log["event"]));
        let lines: Vec<String> = lines.collect();
        let events = lines.len() as u64;
        ensure!(events >= EVENTS_MIN, "only {events} events of {prefix}* are found");
        let file = stage.write("sandbox.ndjson", &lines.concat())?;

        stage.show(&["tenants", "create", TENANT, "--sandbox"])?;
        let tenant = ["--tenant", TENANT];
        let logs = ["logs:read", "logs:write", "logs:import"];
        let policies = ["policies:read", "policies:write", "policies:approve"];
        let scopes = logs.into_iter().chain(policies).flat_map(|scope| ["--scope", scope]);
        let scopes: Vec<&str> = scopes.collect();
        let owner = stage.new_key(&[&tenant[..], &scopes[..]].concat())?;
        let scopes = ["--scope", "policies:read", "--scope", "policies:approve"];
        let approver = stage.new_key(&[&tenant[..], &scopes[..]].concat())?;

        let before = stage.act_as(&owner);
        let ids = stage.path("sandbox.ids");
        stage.show(&["import", "ndjson", &file, "--receipts", &ids])?;
        stage.until_whole(TENANT, &ids, RECOVERY_MAX)?;
        let sample = sample(stage, &ids)?;
        let sandbox = Self { events, ids, sample, owner, approver, before };
        sandbox.expect_sets(stage, [events, 0, events, events])?;
        Ok(sandbox)
    }

    /// The commands that follow are the other tenant's again.
    pub(super) fn leave(self, stage: &mut Stage) {
        stage.act_as(&self.before);
    }

    /// Shows accepted, deleted, stored and searchable as sets of ids, which must have these sizes; nothing
    /// is lost, there twice, or back after its deletion.
    pub(super) fn expect_sets(&self, stage: &Stage, expected: [u64; 4]) -> Result<()> {
        let words = ["reconcile", "--tenant", TENANT, &self.ids];
        stage.show(&words)?;
        let sets = stage.ask(&[&words[..], &["--json"]].concat())?;
        let found = ["accepted", "deleted", "stored", "searchable"].map(|set| sets[set].as_u64());
        ensure!(found == expected.map(Some), "{expected:?} was expected: {sets}");
        Ok(())
    }

    /// Writes the policy, explains it by one event, and simulates it; the plan.
    pub(super) fn simulate(&self, stage: &Stage, prefix: &str) -> Result<Value> {
        let policy = json!({
            "name": POLICY,
            "filter": { "actions": [format!("{prefix}*")] },
            "keep": "PT0S",
            "then": "archive_and_delete",
            "archive": { "codec": "zstd", "storage_class": "STANDARD" },
            "schedule": { "cron": "0 3 * * *", "time_zone": "Europe/Berlin" },
        });
        let file = stage.write("policy.json", &format!("{policy:#}\n"))?;
        say(&format!("{file}: {policy}"));
        stage.show(&["policies", "apply", &file])?;
        stage.show(&["policies", "explain", self.sample_id()])?;
        stage.show(&["policies", "simulate", POLICY])?;
        let simulated = stage.ask(&["policies", "simulate", POLICY, "--json"])?;
        let plan = &simulated["plan"];
        let goes = plan["events"].as_u64();
        ensure!(goes == Some(self.events), "{} events are to go: {plan}", self.events);
        Ok(plan.clone())
    }

    /// Starts the run, approves it as somebody else, watches it to its end; its units.
    pub(super) fn run(&self, stage: &mut Stage, plan: &Value) -> Result<u64> {
        let started = stage.type_in(&["policies", "run", POLICY, "--json"])?;
        let id = started["id"].as_str().context("a run without an id")?.to_owned();
        let braked = watch(stage, &id, "braked")?;
        say(&format!("the brake stops it: {}", text(&braked, "reason")));
        say("who wrote the policy cannot approve its run:");
        let approve = ["policies", "approve", POLICY, &id];
        stage.show_ending(&approve, 1)?;
        stage.act_as(&self.approver);
        stage.show(&approve)?;
        stage.act_as(&self.owner);
        let done = watch(stage, &id, "done")?;
        stage.show(&["policies", "run", POLICY, &id])?;
        self.check(&done, plan)?;
        done["units"]["all"].as_u64().context("a run without units")
    }

    /// The run did what the simulation said, all of it, and nothing else.
    fn check(&self, run: &Value, plan: &Value) -> Result<()> {
        let found = COUNTS.map(|count| run[count]["events"].as_u64());
        let all = self.events;
        let expected = [all, all, all, all, 0, 0, 0].map(Some);
        ensure!(found == expected, "{COUNTS:?} are {found:?} and should be {expected:?}");
        ensure!(run["adds_up"] == true, "the run does not add up: {run}");
        for part in ["events", "bytes", "by_action"] {
            let (ran, simulated) = (&run["plan"][part], &plan[part]);
            ensure!(ran == simulated, "{part}: the run planned {ran}, simulated was {simulated}");
        }
        Ok(())
    }
}

/// The event of the file's first id, as search shows it.
fn sample(stage: &Stage, ids: &str) -> Result<Value> {
    let ids = fs::read_to_string(ids)?;
    let first = ids.lines().next().context("nothing was accepted")?;
    let found = stage.ask_lines(&["search", "--limit", "1000", "--json"])?;
    found.into_iter().find(|log| text(log, "id") == first).context("the first event is not found")
}

/// Waits until the run stands there, and says each step that it takes.
fn watch(stage: &Stage, id: &str, wanted: &str) -> Result<Value> {
    let last = RefCell::new(String::new());
    stage.until(RUN_MAX, || {
        let run = stage.ask(&["policies", "run", POLICY, id, "--json"])?;
        let at = text(&run, "state");
        let told = |what: &str| format!("{what} {}", run[what]["events"]);
        let counts = ["planned", "archived", "verified", "deleted"].map(told).join(", ");
        let now = format!("{at}: {counts}");
        if *last.borrow() != now {
            say(&now);
            last.replace(now);
        }
        if at == wanted {
            return Ok(Some(run));
        }
        let passed = ["failed", "cancelled", "done"].contains(&at);
        if passed {
            bail!("the run is {at} and should be {wanted}: {}", text(&run, "reason"));
        }
        Ok(None)
    })
}
