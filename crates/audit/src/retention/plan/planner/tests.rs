//! Plans of small streams, counted by hand.

use super::*;
use crate::record::Outcome;
use crate::retention::rules::{RuleHold, RulePolicy};
use contracts::LogId;
use serde_json::json;
use uuid::Uuid;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn policy(id: u128, keep: &str, filter: Filter) -> RulePolicy {
    RulePolicy {
        id: Uuid::from_u128(id),
        version: 3,
        name: format!("policy {id}"),
        filter,
        keep: keep.parse().unwrap(),
        then: Then::ArchiveAndDelete,
        priority: 0,
        legal_minimum: None,
        legal_maximum: None,
    }
}

fn log(recorded_at: &str, n: u128, action: &str) -> Candidate {
    Candidate {
        class: RetentionClass::Days90,
        recorded_at: at(recorded_at),
        id: LogId(Uuid::from_u128(n)),
        bytes: 100,
        actor_type: "user".into(),
        actor_id: "u1".into(),
        action: action.into(),
        outcome: Outcome::Success,
        target_types: Vec::new(),
        metadata: None,
        archived: None,
    }
}

fn planner(rules: RuleSet) -> Planner {
    let tenant = "acme".parse().unwrap();
    let as_of = at("2026-03-01T00:00:00Z");
    Planner::new(&tenant, Arc::new(rules), Uuid::from_u128(1), as_of, 77).unwrap()
}

fn actions(globs: &[&str]) -> Filter {
    let actions = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Filter { actions, ..Filter::default() }
}

fn mixed() -> RuleSet {
    let mine = policy(1, "P30D", actions(&["a.*", "b.*"]));
    let longer = policy(2, "P60D", actions(&["b.longer"]));
    let mut floor = policy(3, "P1D", actions(&["b.floor"]));
    floor.legal_minimum = Some("P1Y".parse().unwrap());
    let mut contradiction = policy(4, "P1D", actions(&["b.conflict"]));
    contradiction.legal_minimum = Some("P1Y".parse().unwrap());
    let mut maximum = policy(5, "P1D", actions(&["b.conflict"]));
    maximum.legal_maximum = Some("P10D".parse().unwrap());
    let hold = RuleHold {
        id: Uuid::from_u128(9),
        matter: "case".into(),
        filter: actions(&["b.held"]),
        from: None,
        to: None,
    };
    RuleSet::new(vec![mine, longer, floor, contradiction, maximum], vec![hold])
}

#[test]
fn what_stays_is_counted_by_its_reason_and_the_rest_goes() {
    let mut planner = planner(mixed());
    let logs = [
        log("2026-01-01T10:00:00Z", 1, "a.x"),
        log("2026-01-01T10:30:00Z", 2, "b.held"),
        log("2026-01-01T10:40:00Z", 3, "b.longer"),
        log("2026-01-01T10:50:00Z", 4, "b.floor"),
        log("2026-01-01T10:55:00Z", 5, "b.conflict"),
        log("2026-01-01T10:59:59Z", 6, "a.y"),
        Candidate {
            class: RetentionClass::Year1,
            bytes: 7,
            ..log("2026-01-01T10:59:59Z", 7, "a.x")
        },
        log("2026-01-01T11:00:00Z", 8, "a.x"),
        log("2026-01-01T11:00:00Z", 9, "other"),
        log("2026-01-29T23:59:59Z", 10, "a.x"),
        log("2026-01-30T00:00:00Z", 11, "a.x"),
        // Not due: within the bound of the scan, but not within the term.
        log("2026-01-30T00:00:00.000001Z", 12, "a.x"),
    ];
    assert!(logs.iter().all(|log| planner.add(log)));
    let plan = planner.finish(true);
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../../golden/plan.json")).unwrap();
    assert_eq!(json!(plan), golden, "{:#}", json!(plan));
    assert_eq!(serde_json::from_value::<Plan>(json!(plan)).unwrap(), plan);
    let cells: u64 = plan.cells.iter().map(|cell| cell.tally.events).sum();
    let units: u64 = plan.units.iter().map(|unit| unit.tally.events).sum();
    assert_eq!((cells, units), (plan.events, plan.events));
}

#[test]
fn units_end_at_their_size_and_at_the_hour() {
    let mut planner = planner(RuleSet::new(vec![policy(1, "P1D", Filter::default())], Vec::new()));
    let third = UNIT_BYTES_MAX / 3;
    for n in 0..7_u128 {
        let minute = n * 5;
        let at = format!("2026-01-01T10:{minute:02}:00Z");
        assert!(planner.add(&Candidate { bytes: third, ..log(&at, n, "a") }));
    }
    // One that is over the limit by itself is a unit of its own.
    assert!(
        planner
            .add(&Candidate { bytes: UNIT_BYTES_MAX + 1, ..log("2026-01-01T10:40:00Z", 8, "a") })
    );
    assert!(planner.add(&log("2026-01-01T10:41:00Z", 9, "a")));
    assert!(planner.add(&log("2026-01-01T11:00:00Z", 10, "a")));
    let plan = planner.finish(true);
    let events: Vec<u64> = plan.units.iter().map(|unit| unit.tally.events).collect();
    assert_eq!(events, [3, 3, 1, 1, 1, 1]);
    assert_eq!(plan.cells.len(), 2);
    for pair in plan.units.windows(2) {
        assert!(pair[0].last < pair[1].first, "units do not overlap");
    }
}

#[test]
fn a_full_plan_covers_the_oldest_and_says_so() {
    let mut planner = planner(RuleSet::new(vec![policy(1, "P1D", Filter::default())], Vec::new()));
    let start = at("2020-01-01T00:00:00Z");
    let mut taken = 0;
    for n in 0..u128::try_from(UNITS_MAX).unwrap() + 10 {
        let hour = start + TimeDelta::hours(i64::try_from(n).unwrap());
        let log = Candidate { recorded_at: hour, ..log("2020-01-01T00:00:00Z", n, "a") };
        if !planner.add(&log) {
            break;
        }
        taken += 1;
    }
    let plan = planner.finish(false);
    assert_eq!((taken, plan.units.len()), (UNITS_MAX, UNITS_MAX));
    assert!(!plan.complete);
    let last = start + TimeDelta::hours(i64::try_from(UNITS_MAX).unwrap() - 1);
    assert_eq!(plan.covers_until, Some(last));
}

#[test]
fn actions_are_named_up_to_a_number_and_added_up_beyond() {
    let mut planner = planner(RuleSet::new(vec![policy(1, "P1D", Filter::default())], Vec::new()));
    let count = ACTIONS_COUNTED_MAX + 5;
    for n in 0..count {
        assert!(planner.add(&log("2026-01-01T10:00:00Z", n as u128, &format!("a{n}"))));
    }
    assert!(planner.add(&log("2026-01-01T10:00:00Z", count as u128, "a7")));
    let plan = planner.finish(true);
    assert_eq!(plan.by_action.len(), ACTIONS_SHOWN);
    assert_eq!((plan.by_action[0].action.as_str(), plan.by_action[0].tally.events), ("a7", 2));
    let named: u64 = plan.by_action.iter().map(|action| action.tally.events).sum();
    assert_eq!(named + plan.other_actions.events, plan.events);
}

#[test]
fn what_is_archived_is_not_archived_again() {
    let mut only = policy(1, "P1D", Filter::default());
    let archived =
        Candidate { archived: Some(Uuid::from_u128(50)), ..log("2026-01-01T10:00:00Z", 1, "a") };
    let planned = |policy: &RulePolicy| {
        let mut planner = planner(RuleSet::new(vec![policy.clone()], Vec::new()));
        assert!(planner.add(&archived));
        let plan = planner.finish(true);
        (plan.events, plan.staying.already_archived)
    };
    assert_eq!(planned(&only), (1, 0), "it is still to be deleted");
    only.then = Then::Archive;
    assert_eq!(planned(&only), (0, 1));
}

#[test]
fn what_is_archived_already_goes_by_its_object() {
    let rules = RuleSet::new(vec![policy(1, "P1D", Filter::default())], Vec::new());
    let mut planner = planner(rules);
    let by =
        |unit: u128, log: Candidate| Candidate { archived: Some(Uuid::from_u128(unit)), ..log };
    for log in [
        by(50, log("2026-01-01T10:00:00Z", 1, "a")),
        log("2026-01-01T10:10:00Z", 2, "a"),
        by(51, log("2026-01-01T10:20:00Z", 3, "a")),
        by(50, log("2026-01-01T10:30:00Z", 4, "a")),
        by(52, log("2026-01-01T11:00:00Z", 5, "a")),
    ] {
        assert!(planner.add(&log));
    }
    let plan = planner.finish(true);
    let again: Vec<_> =
        plan.again.iter().map(|again| (again.unit_id.as_u128(), again.tally.events)).collect();
    assert_eq!(again, [(50, 2), (51, 1), (52, 1)]);
    assert_eq!(plan.units.iter().map(|unit| unit.tally.events).sum::<u64>(), 1);
    assert_eq!(plan.cells.iter().map(|cell| cell.tally.events).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(plan.events, 5);
}

#[test]
fn what_a_run_is_at_is_left_out() {
    let rules = RuleSet::new(vec![policy(1, "P1D", Filter::default())], Vec::new());
    let key = |time: &str, id: u128| (at(time), Uuid::from_u128(id));
    let range = |class, first, last| KeyRange { class, first, last };
    let class = RetentionClass::Days90;
    // They overlap, and one is of another class.
    let ranges = vec![
        range(class, key("2026-01-01T10:00:02Z", 2), key("2026-01-01T10:00:05Z", 5)),
        range(class, key("2026-01-01T10:00:03Z", 3), key("2026-01-01T10:00:04Z", 4)),
        range(class, key("2026-01-01T10:00:08Z", 8), key("2026-01-01T10:00:08Z", 8)),
        range(
            RetentionClass::Days7,
            key("2026-01-01T10:00:00Z", 0),
            key("2026-01-01T11:00:00Z", 9),
        ),
    ];
    let mut planner = planner(rules).leaving_out(ranges);
    for n in 1..=9 {
        assert!(planner.add(&log(&format!("2026-01-01T10:00:0{n}Z"), n, "a")));
    }
    let plan = planner.finish(true);
    assert_eq!((plan.events, plan.staying.in_progress), (4, 5));
}
