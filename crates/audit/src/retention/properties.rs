//! Random rules on random logs: resolution is protective, knows no order, and the compiled matcher
//! says what the plain reading says.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::Then;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use sinks::search::fields;
use uuid::Uuid;

use super::{
    ActorFilter, Facts, Fate, Filter, Matcher, RuleHold, RulePolicy, RuleSet, Term, Wanted,
};
use crate::record::Outcome;

const TERMS: [&str; 10] =
    ["PT0S", "P1D", "P28D", "P29D", "P30D", "P31D", "P1M", "P1M2D", "P12M", "P365D"];

fn term() -> impl Strategy<Value = Term> {
    select(&TERMS[..]).prop_map(|text| text.parse().unwrap())
}

fn filter() -> impl Strategy<Value = Filter> {
    let glob = select(&["*", "a", "a.*", "a.b", "*.b", "b*", "*.*"][..]).prop_map(str::to_owned);
    let actor = (select(&["user", "key"][..]), option::of(select(&["u1", "u2"][..])))
        .prop_map(|(kind, id)| ActorFilter { kind: kind.into(), id: id.map(ToOwned::to_owned) });
    let outcome = select(&[Outcome::Success, Outcome::Denied][..]);
    let wanted = prop_oneof![
        Just(Wanted::Exists),
        select(&["1", "2"][..]).prop_map(|text| Wanted::Equals(text.into())),
    ];
    let target = select(&["doc", "file"][..]).prop_map(str::to_owned);
    // Each part mostly absent: filters that match nothing show little.
    let sparse = |max: usize| 0..=max;
    (
        vec(glob, sparse(2)),
        option::weighted(0.3, actor),
        option::weighted(0.2, target),
        option::weighted(0.2, outcome),
        option::weighted(0.3, (select(&["x", "x.y"][..]), wanted)),
    )
        .prop_map(|(actions, actor, target, outcome, metadata)| Filter {
            actions,
            actors: actor.into_iter().collect(),
            target_types: target.into_iter().collect(),
            outcomes: outcome.into_iter().collect(),
            metadata: metadata.into_iter().map(|(path, want)| (path.to_owned(), want)).collect(),
        })
}

fn policy() -> impl Strategy<Value = RulePolicy> {
    let then = select(&[Then::Archive, Then::ArchiveAndDelete, Then::Delete][..]);
    let limits = (option::weighted(0.3, term()), option::weighted(0.2, term()));
    (any::<u128>(), filter(), term(), then, -1..2_i32, limits).prop_map(
        |(id, filter, keep, then, priority, (legal_minimum, legal_maximum))| RulePolicy {
            id: Uuid::from_u128(id),
            version: 1,
            name: "p".into(),
            filter,
            keep,
            then,
            priority,
            legal_minimum,
            legal_maximum,
        },
    )
}

fn start() -> DateTime<Utc> {
    "2027-12-01T00:00:00Z".parse().unwrap()
}

fn hold() -> impl Strategy<Value = RuleHold> {
    let day = || option::weighted(0.3, (0..120_i64).prop_map(|day| start() + TimeDelta::days(day)));
    (any::<u128>(), filter(), day(), day()).prop_map(|(id, filter, from, to)| RuleHold {
        id: Uuid::from_u128(id),
        matter: "m".into(),
        filter,
        from,
        to,
    })
}

#[derive(Clone, Debug)]
struct Log {
    recorded_at: DateTime<Utc>,
    actor: (&'static str, &'static str),
    action: &'static str,
    outcome: Outcome,
    targets: Vec<String>,
    metadata: fields::Metadata,
}

impl Log {
    fn facts(&self) -> Facts<'_> {
        Facts {
            recorded_at: self.recorded_at,
            actor_type: self.actor.0,
            actor_id: self.actor.1,
            action: self.action,
            outcome: self.outcome,
            target_types: &self.targets,
            metadata: Some(&self.metadata),
        }
    }
}

fn log() -> impl Strategy<Value = Log> {
    let metadata = select(&["{}", r#"{"x":1}"#, r#"{"x":{"y":2}}"#, r#"{"x":null}"#][..]);
    let targets = vec(select(&["doc", "file"][..]).prop_map(str::to_owned), 0..2);
    // Ends of months of a leap year among them.
    (
        0..120 * 24_i64,
        select(&[("user", "u1"), ("user", "u2"), ("key", "u1")][..]),
        select(&["a", "a.b", "a.c", "b.b", "c"][..]),
        select(&[Outcome::Success, Outcome::Denied][..]),
        targets,
        metadata,
    )
        .prop_map(|(hours, actor, action, outcome, targets, metadata)| Log {
            recorded_at: start() + TimeDelta::hours(hours),
            actor,
            action,
            outcome,
            targets,
            metadata: fields::metadata(&RawValue::from_string(metadata.into()).unwrap()),
        })
}

proptest! {
    #[test]
    fn the_matcher_says_what_the_plain_reading_says(
        policies in vec(policy(), 0..12), holds in vec(hold(), 0..3), logs in vec(log(), 1..12),
    ) {
        let rules = Arc::new(RuleSet::new(policies, holds));
        let mut matcher = Matcher::new(Arc::clone(&rules));
        for log in &logs {
            let (plain, fast) = (rules.explain(&log.facts()), matcher.decide(&log.facts()));
            prop_assert_eq!(
                (plain.fate, plain.winner, plain.goes_at), (fast.fate, fast.winner, fast.goes_at)
            );
            prop_assert_eq!(!plain.held_by.is_empty(), matcher.is_held(&log.facts()));
        }
    }

    #[test]
    fn the_order_of_the_rules_is_nothing(
        policies in vec(policy(), 0..8), holds in vec(hold(), 0..4), log in log(), turn in 0..8_usize,
    ) {
        let rules = RuleSet::new(policies.clone(), holds.clone());
        let (mut turned, mut back) = (policies, holds);
        let by = turn.min(turned.len());
        turned.rotate_left(by);
        back.reverse();
        let turned = RuleSet::new(turned, back);
        prop_assert_eq!(rules.explain(&log.facts()), turned.explain(&log.facts()));
        prop_assert_eq!(rules.fingerprint(), turned.fingerprint());
    }

    #[test]
    fn resolution_protects(
        policies in vec(policy(), 1..8), holds in vec(hold(), 0..2), new in policy(), hold in hold(),
        log in log(),
    ) {
        let facts = log.facts();
        let before = RuleSet::new(policies.clone(), holds.clone()).explain(&facts);
        // A log goes after each legal minimum that matches, at its policy's term or later, unheld.
        if before.fate == Fate::Goes {
            let goes_at = before.goes_at.unwrap();
            prop_assert!(before.held_by.is_empty() && before.matched[0].keep_until <= goes_at);
            prop_assert!(before.matched.iter().all(|m| m.not_before.is_none_or(|at| at <= goes_at)));
        }
        // One more hold lets nothing go.
        let held = RuleSet::new(policies.clone(), [holds.clone(), vec![hold.clone()]].concat());
        let held = held.explain(&facts);
        if hold.holds(&facts) {
            prop_assert_eq!(held.fate, Fate::Held);
        } else {
            prop_assert_eq!(&held, &before);
        }
        // One more policy, whatever it says, lets nothing go before the floor that was there; its own
        // minimum is a floor too.
        let floors = [before.floor.map(|floor| floor.at),
            new.legal_minimum.filter(|_| new.filter.matches(&facts)).map(|t| t.after(log.recorded_at))];
        let more = RuleSet::new([policies, vec![new]].concat(), holds).explain(&facts);
        if more.fate == Fate::Goes {
            let goes_at = more.goes_at.unwrap();
            prop_assert!(floors.iter().flatten().all(|floor| *floor <= goes_at));
        }
        prop_assert!(more.fate != Fate::Goes || before.fate != Fate::Held);
        prop_assert!(more.fate != Fate::Goes || before.fate != Fate::Conflict);
    }
}

#[test]
fn a_rule_set_reads_as_it_is_written_and_its_name_is_fixed() {
    let rule = |id: u128| RulePolicy {
        id: Uuid::from_u128(id),
        version: 2,
        name: "p".into(),
        filter: Filter { actions: vec!["a.*".into()], ..Filter::default() },
        keep: "P90D".parse().unwrap(),
        then: Then::Archive,
        priority: 0,
        legal_minimum: None,
        legal_maximum: None,
    };
    let rules = RuleSet::new(vec![rule(2), rule(1)], Vec::new());
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(serde_json::from_str::<RuleSet>(&text).unwrap(), rules);
    // sha256sum of {"holds":[],"policies":[["00000000-0000-0000-0000-000000000001",2],["…02",2]]}.
    let expected = "61caf7ae121e259dcc73cc2ada1c1dc6c0d44c11c691be67901075dcc53f3159";
    assert_eq!(rules.fingerprint(), expected);
}
