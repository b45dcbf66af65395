//! A million events judged by a thousand policies, beside the same events judged by one: what a plan
//! pays per event for the rules, without any database.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use audit::record::Outcome;
use audit::retention::{
    ActorFilter, Facts, Fate, Filter, Matcher, RulePolicy, RuleSet, Term, Wanted,
};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::Then;
use serde_json::value::RawValue;
use sinks::search::fields::{self, Metadata};
use uuid::Uuid;

use super::PAIRS;
use crate::report::{Figure, Report};
use crate::{machine, median};

/// A tenant may have no more.
const POLICIES: u32 = audit::retention::POLICIES_MAX as u32;
const GOAL: f64 = 3.0;
/// Parts of a product, each with its actions.
const AREAS: u32 = 40;
const VERBS: [&str; 5] = ["created", "updated", "deleted", "viewed", "exported"];
/// Events whose verdict is compared with the plain reading of the rules.
const COMPARED: usize = 500;

/// What events are made of.
struct Pool {
    actions: Vec<String>,
    actors: Vec<String>,
    targets: Vec<Vec<String>>,
    metadata: Vec<Metadata>,
    from: DateTime<Utc>,
}

impl Pool {
    fn new() -> anyhow::Result<Self> {
        let verbs = |area| VERBS.iter().map(move |verb| format!("area{area}.thing.{verb}"));
        let metadata = (0..16).map(|n| {
            let text = format!(r#"{{"env":"e{}","card":{},"team":{{"id":"t{n}"}}}}"#, n % 4, n % 3);
            anyhow::Ok(fields::metadata(&RawValue::from_string(text)?))
        });
        Ok(Self {
            actions: (0..AREAS).flat_map(verbs).collect(),
            actors: (0..500).map(|n| format!("u-{n}")).collect(),
            targets: (0..10).map(|n| vec![format!("kind{n}")]).collect(),
            metadata: metadata.collect::<anyhow::Result<_>>()?,
            from: machine::now() - TimeDelta::days(400),
        })
    }

    /// The n-th event.
    fn facts(&self, n: usize) -> Facts<'_> {
        // Neighbours differ in everything.
        let mixed = n.wrapping_mul(0x9E37_79B9) >> 7;
        Facts {
            recorded_at: self.from + TimeDelta::seconds((n % 30_000_000) as i64),
            actor_type: if mixed % 5 == 0 { "service" } else { "user" },
            actor_id: &self.actors[mixed % self.actors.len()],
            action: &self.actions[mixed % self.actions.len()],
            outcome: if mixed % 11 == 0 { Outcome::Denied } else { Outcome::Success },
            target_types: &self.targets[mixed % self.targets.len()],
            metadata: Some(&self.metadata[mixed % self.metadata.len()]),
        }
    }
}

/// The n-th policy. Of ten, eight go by the action alone, one is for every event, and one asks for an
/// actor, an outcome, a target's type or metadata besides.
fn policy(n: u32) -> RulePolicy {
    let (area, verb) = (n % AREAS, VERBS[(n / AREAS) as usize % VERBS.len()]);
    let mut filter = Filter::default();
    match n % 10 {
        0 => {}
        1 => {
            filter.actions = vec![format!("area{}.*", n / 10 % AREAS)];
            asking(&mut filter, n / 10);
        }
        2..=5 => filter.actions = vec![format!("area{area}.*")],
        6 | 7 => filter.actions = vec![format!("area{area}.thing.{verb}")],
        8 => filter.actions = vec![format!("*.{verb}")],
        _ => filter.actions = vec![format!("area{area}.*.viewed"), format!("*{area}.*.deleted")],
    }
    RulePolicy {
        id: Uuid::from_u128(u128::from(n) + 1),
        version: 1,
        name: format!("policy {n}"),
        filter,
        keep: if n % 3 == 0 { months(n % 24 + 1) } else { Term::of_days(n % 300 + 30) },
        then: [Then::Archive, Then::ArchiveAndDelete, Then::Delete][n as usize % 3],
        priority: (n % 4).cast_signed(),
        legal_minimum: (n % 7 == 0).then(|| Term::of_days(n % 60 + 1)),
        legal_maximum: (n % 50 == 0).then(|| Term::of_days(2_000)),
    }
}

fn months(count: u32) -> Term {
    format!("P{count}M").parse().expect("a term")
}

fn asking(filter: &mut Filter, n: u32) {
    match n % 4 {
        0 => {
            let actor = ActorFilter { kind: "user".into(), id: Some(format!("u-{}", n % 500)) };
            filter.actors = vec![actor];
        }
        1 => filter.outcomes = vec![Outcome::Denied],
        2 => filter.target_types = vec![format!("kind{}", n % 10)],
        _ => {
            let wanted = Wanted::Equals(format!("e{}", n % 4));
            filter.metadata = [("env".to_owned(), wanted)].into();
        }
    }
}

/// Takes the figures.
pub fn run(report: &mut Report, events: usize) -> anyhow::Result<()> {
    let pool = Pool::new()?;
    let all = RuleSet::new((0..POLICIES).map(policy).collect(), Vec::new());
    // One for every event, without legal bounds: the least work there is.
    let one = RuleSet::new(vec![policy(10)], Vec::new());
    compare(&all, &pool)?;
    let every = RuleSet::new((0..POLICIES).map(asking_all).collect(), Vec::new());
    let (mut ones, mut alls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (single, many) = (judge(&one, &pool, events)?, judge(&all, &pool, events)?);
        ones.push(single);
        alls.push(many);
        ratios.push(many / single);
    }
    let name = |policies: &str| format!("{events} events judged by {policies}");
    report.add(Figure::new(name("1 policy"), median(&ones), "s"));
    report.add(Figure::new(name(&format!("{POLICIES} policies")), median(&alls), "s"));
    let figure = Figure::new(format!("{POLICIES} policies / 1 policy"), median(&ratios), "times");
    let note = format!(
        "median of {PAIRS} pairs; 8 of 10 ask for an action, 1 for nothing, 1 for more than an action"
    );
    report.add(figure.at_most(GOAL).beside(note));
    // So many take as long as they must.
    let few = events / 100;
    let worst = judge(&every, &pool, few)? / judge(&one, &pool, few)?;
    let name = format!("{POLICIES} policies that all ask for an actor of every event / 1 policy");
    report.add(Figure::new(name, worst, "times").beside(format!("{few} events, once")));
    Ok(())
}

/// The worst that a tenant may do: nothing is known before the event is seen.
fn asking_all(n: u32) -> RulePolicy {
    let actor = ActorFilter { kind: "user".into(), id: Some(format!("u-{}", n % 500)) };
    RulePolicy { filter: Filter { actors: vec![actor], ..Filter::default() }, ..policy(n) }
}

/// Seconds that the events take, with the matcher's own making.
fn judge(rules: &RuleSet, pool: &Pool, events: usize) -> anyhow::Result<f64> {
    let rules = Arc::new(rules.clone());
    let start = Instant::now();
    let mut matcher = Matcher::new(rules);
    let judged = (0..events).filter(|n| matcher.decide(&pool.facts(*n)).fate != Fate::Kept).count();
    let took = start.elapsed().as_secs_f64();
    ensure!(judged > 0, "no policy matched anything");
    Ok(took)
}

/// The fast reading says what the plain one says.
fn compare(rules: &RuleSet, pool: &Pool) -> anyhow::Result<()> {
    let mut matcher = Matcher::new(Arc::new(rules.clone()));
    for n in 0..COMPARED {
        let facts = pool.facts(n * 7_919);
        let (fast, plain) = (matcher.decide(&facts), rules.explain(&facts));
        let same =
            (fast.fate, fast.winner, fast.goes_at) == (plain.fate, plain.winner, plain.goes_at);
        ensure!(same, "event {n}: {fast:?}, but {}", plain.why);
    }
    Ok(())
}
