//! `make demo`: a real fleet on this machine, fed with the clone's own history, searched, followed
//! live, its worker killed in the middle, a poison message explained and mended; then events that a
//! policy archives and deletes, with proof. Every step is a command that a user could type; every
//! count is checked, and a wrong one ends it with an error.

mod lifecycle;
mod poison;
mod process;
mod proof;
mod stage;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lifecycle::Sandbox;
use stage::Stage;

/// A killed worker's messages are back when their leases end (30 s), and then some.
const RECOVERY_MAX: Duration = Duration::from_secs(90);
/// Events that make a history worth importing.
const EVENTS_MIN: u64 = 50;

/// Runs the demo; `keep` leaves the fleet running.
pub(crate) fn run(root: &Path, keep: bool) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut stage = Stage::new(root)?;
    title("1  Start the fleet: queue, PostgreSQL, Redis, API, scheduler; the worker beside it");
    stage.make_signing_key()?;
    stage.start_fleet()?;
    stage.start_worker()?;
    stage.make_key()?;

    title("2  Import history through the public API, and follow it live");
    let (source, total) = source(&stage, root)?;
    let kind = Kind::of(&source);
    // What the fleet says of itself, e.g. who searched, is not counted.
    let mut tail = stage.follow(kind.field)?;
    let mut import = stage.import(&source)?;

    title("3  Kill the worker in the middle");
    let at_kill = stage.wait_for_receipts(total / 3, &mut import)?;
    stage.kill_worker()?;
    say(&format!("{at_kill} of {total} events were accepted when the worker died by SIGKILL"));
    import.expect_success("the import")?;
    let accepted = stage.receipts()?;
    ensure!(accepted as u64 == total, "{total} events were sent and {accepted} accepted");
    say(&format!("accepted without a worker: {accepted}; they wait on the queue:"));
    stage.show(&["queues"])?;
    stage.start_worker()?;
    say("worker started again; what it held comes back when its leases end (30 s)");
    let ids = stage.receipts_path();
    let took = stage.until_whole(stage::TENANT, &ids, RECOVERY_MAX)?;
    say(&format!("{} s later: accepted = stored = searchable", took.as_secs()));
    stage.show(&["reconcile", "--tenant", stage::TENANT, &ids])?;
    let live = tail.wait_for_lines(accepted, RECOVERY_MAX)?;
    ensure!(live == accepted, "{accepted} were accepted and {live} seen live");
    say(&format!("seen live by `fleetctl tail`, without a gap or a repeat: {live}"));

    title("4  Search");
    stage.show(&["search", "--action", kind.action, "--limit", "5"])?;

    title("5  A poison message: found, read, mended, sent back");
    poison_walk(&stage)?;

    let gone = lifecycle_walk(&mut stage, kind.prefix)?;
    summary(&stage, accepted, gone, begun.elapsed());
    if keep {
        stage.leave_running();
    } else {
        stage.stop()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How the events of a source are told from others.
struct Kind {
    /// An action that is among them.
    action: &'static str,
    /// What all their actions begin with.
    prefix: &'static str,
    /// A metadata field that all of them have.
    field: &'static str,
}

impl Kind {
    fn of(source: &[String]) -> Self {
        match source.first().map(String::as_str) {
            Some("git") => Self { action: "git.commit", prefix: "git.", field: "repository" },
            _ => Self { action: "package.install", prefix: "package.", field: "to" },
        }
    }
}

/// The clone's history; without one, the machine's package log.
fn source(stage: &Stage, root: &Path) -> Result<(Vec<String>, u64)> {
    let root = root.to_string_lossy().into_owned();
    let candidates = [vec!["git".to_owned(), root], vec!["packages".to_owned()]];
    for source in candidates {
        let mut words = vec!["import".to_owned()];
        words.extend(source.iter().cloned());
        words.extend(["--dry-run".to_owned(), "--json".to_owned()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Ok(counted) = stage.ask(&words) else { continue };
        let events = counted["events"].as_u64().unwrap_or(0);
        if events >= EVENTS_MIN {
            say(&format!("source: {}, {events} events", source.join(" ")));
            return Ok((source, events));
        }
    }
    anyhow::bail!("neither a git history nor a package log with {EVENTS_MIN} events is here")
}

fn poison_walk(stage: &Stage) -> Result<()> {
    let poison = poison::Poison::new(stage::TENANT)?;
    stage.send(&poison.broken)?;
    say("a message that is cut off was put on the queue; the worker rejects it with its reason:");
    let deadline = Instant::now() + RECOVERY_MAX;
    let letter = loop {
        let rows = stage.ask_lines(&["dlq", "list", "audit-index", "--letters", "--json"])?;
        if let Some(row) = rows.into_iter().next() {
            break row;
        }
        ensure!(Instant::now() < deadline, "the poison never reached the dead letters");
        process::pause();
    };
    let id = letter["id"].as_str().context("a dead letter without id")?.to_owned();
    stage.show(&["dlq", "list", "audit-index"])?;
    stage.show(&["dlq", "show", "audit-index", &id])?;
    let file = stage.write("mended.json", &poison.mended)?;
    say("mended in an editor, sent back:");
    let why = ["--why", "it was cut off", "--redrive"];
    let edit = ["dlq", "edit", "audit-index", &id, "--body", &file];
    stage.show(&[&edit as &[&str], &why].concat())?;
    let field = format!("{}={}", poison::FIELD, poison.mark);
    let search = ["search", "--metadata", &field];
    let found = stage.until(RECOVERY_MAX, || {
        let rows = stage.ask_lines(&[&search[..], &["--json"]].concat())?;
        Ok((!rows.is_empty()).then_some(rows))
    })?;
    ensure!(found.len() == 1, "the mended message is found {} times", found.len());
    stage.show(&search)?;
    let rest = stage.ask_lines(&["dlq", "list", "audit-index", "--letters", "--json"])?;
    ensure!(rest.is_empty(), "{} dead letters are left", rest.len());
    say("dead letters left: 0");
    Ok(())
}

/// A tenant's events are archived and deleted by a policy, with proof; how many.
fn lifecycle_walk(stage: &mut Stage, prefix: &str) -> Result<u64> {
    title("6  A policy: simulated, run, archived, verified, deleted");
    let sandbox = Sandbox::set_up(stage, prefix)?;
    let plan = sandbox.simulate(stage, prefix)?;
    let units = sandbox.run(stage, &plan)?;
    let gone = sandbox.events;
    say("gone from PostgreSQL and from search, each with a tombstone:");
    sandbox.expect_sets(stage, [gone, gone, 0, 0])?;

    title("7  The proof: receipt, verification, a byte flipped, an event fetched back");
    proof::receipts(stage, &sandbox, units)?;
    proof::verify(stage, &sandbox, units)?;
    proof::tamper(stage)?;
    let record = proof::fetch_back(stage, &sandbox)?;
    proof::evidence(stage, &sandbox)?;
    proof::late_message(stage, &sandbox, &record)?;
    sandbox.leave(stage);
    Ok(gone)
}

fn summary(stage: &Stage, accepted: usize, gone: u64, took: Duration) {
    title("Done: every count agrees");
    say(&format!(
        "accepted {accepted}, stored {accepted}, searchable {accepted}, seen live {accepted}"
    ));
    say(&format!(
        "archived {gone}, read back {gone}, deleted {gone} with a receipt; a flipped byte found"
    ));
    say(&format!("worker killed once, one poison message mended, in {} s", took.as_secs()));
    say("");
    say("Next:");
    say("  make demo KEEP=1      the same, left running");
    say("  make up               a fleet of your own, data in .flotilla/");
    say(
        "  make test             every guarantee, on real PostgreSQL, Redis, OpenSearch, LocalStack",
    );
    say(&format!("  the fleet's log       {}", stage.log_path()));
}

/// A step's heading.
fn title(text: &str) {
    println!("\n== {text}");
}

/// One line.
fn say(text: &str) {
    println!("   {text}");
}

/// Text of a member; empty where it is none.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The first JSON value of an output.
fn json(text: &str) -> Result<Value> {
    let line = text.lines().find(|line| line.starts_with('{') || line.starts_with('['));
    serde_json::from_str(line.context("no JSON in the answer")?).context("read the answer")
}
