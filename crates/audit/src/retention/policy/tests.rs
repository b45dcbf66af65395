//! What a policy may say, and how what it may not is told.

use super::*;
use serde_json::{Map, json};

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn full() -> Value {
    json!({
        "name": "invoices",
        "filter": {
            "actions": ["invoice.*"],
            "actors": [{"type": "user", "id": "u1"}, {"type": "service"}],
            "target_types": ["invoice"],
            "outcomes": ["success", "failure"],
            "metadata": {"env": "prod", "card": true},
        },
        "keep": "P90D",
        "then": "archive_and_delete",
        "archive": {"codec": "gzip", "storage_class": "STANDARD_IA", "keep": "P7Y"},
        "schedule": {"cron": "0 3 * * *", "time_zone": "Europe/Berlin"},
        "priority": 10,
        "legal_minimum": "P1M",
        "legal_maximum": "P2Y",
        "brake": {"share_max": 0.5, "growth_max": 2.0},
        "notify": [{"type": "email", "to": "ops@example.com"}, {"type": "slack", "name": "ops"},
                   {"type": "webhook", "name": "siem"}],
        "state": "active",
        "effective_at": "2026-04-01T00:00:00+02:00",
        "version": 3,
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut body = full();
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { &mut body } else { body.pointer_mut(parent).unwrap() };
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => other[key] = value,
    }
    body
}

#[test]
fn a_policy_reads_as_it_is_written() {
    let draft = PolicyDraft::read(&full(), false, now()).unwrap();
    assert_eq!(draft.version, Some(3));
    assert_eq!(draft.effective_at.unwrap().to_rfc3339(), "2026-03-31T22:00:00+00:00");
    let written = serde_json::to_value(&draft.spec).unwrap();
    let mut expected = full();
    expected.as_object_mut().unwrap().retain(|key, _| key != "effective_at" && key != "version");
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_value::<PolicySpec>(written).unwrap(), draft.spec);
}

/// What stands in PostgreSQL and travels: an old version has to be read for ever.
#[test]
fn a_stored_policy_is_what_its_golden_file_says() {
    let draft = PolicyDraft::read(&full(), false, now()).unwrap();
    let policy = Policy {
        id: PolicyId::from_u128(1),
        version: 1,
        spec: draft.spec,
        effective_from: draft.effective_at.unwrap(),
        created_by: json!({"key_id": "k1"}),
        created_at: now(),
    };
    let golden: Value = serde_json::from_str(include_str!("../../../golden/policy.json")).unwrap();
    assert_eq!(json!(policy), golden, "{:#}", json!(policy));
    assert_eq!(serde_json::from_value::<Policy>(golden).unwrap(), policy);
}

#[test]
fn little_is_enough_and_the_rest_has_its_defaults() {
    let body = json!({"name": "all", "keep": "P1Y", "then": "archive"});
    let draft = PolicyDraft::read(&body, false, now()).unwrap();
    let spec = &draft.spec;
    assert_eq!((spec.filter.clone(), spec.priority), (Filter::default(), 0));
    assert_eq!(spec.archive, Some(ArchiveSpec::default()));
    assert_eq!((spec.schedule.clone(), spec.brake), (Schedule::default(), Brake::default()));
    assert_eq!((spec.state, draft.effective_at), (PolicyState::Active, None));
    let delete = json!({"name": "all", "keep": "P1Y", "then": "delete", "legal_minimum": null});
    assert_eq!(PolicyDraft::read(&delete, false, now()).unwrap().spec.archive, None);
    // What is a little past is now, by another clock.
    let soon = with("/effective_at", json!("2026-03-01T11:58:00Z"));
    assert_eq!(PolicyDraft::read(&soon, false, now()).unwrap().effective_at, None);
}

#[test]
fn only_a_sandbox_keeps_for_no_time() {
    let body = json!({"name": "all", "keep": "PT0S", "then": "archive"});
    assert!(PolicyDraft::read(&body, true, now()).is_ok());
    let problems = PolicyDraft::read(&body, false, now()).unwrap_err();
    assert_eq!(problems[0].pointer, "/keep");
    assert!(problems[0].detail.contains("sandbox"), "{problems:?}");
}

#[test]
fn what_is_wrong_is_told_where_and_how() {
    let many = |count: usize, item: Value| Value::Array(vec![item; count]);
    let table = [
        ("/name", json!(""), "/name", "1 to 100"),
        ("/name", json!("n".repeat(101)), "/name", "got 101"),
        ("/name", json!(7), "/name", "got a number"),
        ("/name", json!("a\u{0}"), "/name", "NUL"),
        ("/colour", json!("red"), "/colour", "no member of that name"),
        ("/keep", json!(null), "/keep", "got none"),
        ("/keep", json!("90 days"), "/keep", "P90D"),
        ("/keep", json!("PT1H"), "/keep", "ISO 8601"),
        ("/then", json!("drop"), "/then", "archive_and_delete"),
        ("/then", json!("delete"), "/archive", "nothing is archived"),
        ("/filter", json!([]), "/filter", "an object"),
        ("/filter/actions", many(33, json!("a")), "/filter/actions", "at most 32"),
        ("/filter/actions/0", json!("*a*b*c*d*"), "/filter/actions/0", "at most 4 *"),
        ("/filter/actions/0", json!("a".repeat(129)), "/filter/actions/0", "1 to 128"),
        ("/filter/actors/0", json!({"id": "u1"}), "/filter/actors/0/type", "got none"),
        (
            "/filter/actors/0",
            json!({"type": "u", "name": "n"}),
            "/filter/actors/0/name",
            "no member",
        ),
        ("/filter/target_types/0", json!(1), "/filter/target_types/0", "a string"),
        ("/filter/outcomes/0", json!("ok"), "/filter/outcomes/0", "success, failure"),
        ("/filter/metadata", json!({"n": 1}), "/filter/metadata/n", "quotation marks"),
        ("/filter/metadata", json!({"n": false}), "/filter/metadata/n", "expected true"),
        ("/filter/metadata", json!({"": "x"}), "/filter/metadata/", "a path"),
        ("/filter/metadata", json!({"a/b": 1}), "/filter/metadata/a~1b", "expected true"),
        ("/filter/metadata", json!({"v": "x".repeat(8_193)}), "/filter/metadata/v", "8192"),
        ("/filter/metadata", json!([]), "/filter/metadata", "an object"),
        ("/archive/codec", json!("rar"), "/archive/codec", "zstd"),
        ("/archive/storage_class", json!("GLACIER"), "/archive/storage_class", "STANDARD"),
        ("/archive/keep", json!("PT0S"), "/archive/keep", "a day at least"),
        ("/schedule", json!({"time_zone": "UTC"}), "/schedule/cron", "got none"),
        ("/schedule/cron", json!("daily"), "/schedule/cron", "five fields"),
        ("/schedule/cron", json!("0 0 3 * * *"), "/schedule/cron", "five fields"),
        ("/schedule/cron", json!("0 3 31 2 *"), "/schedule/cron", "never does"),
        ("/schedule/time_zone", json!("Mars/Olympus"), "/schedule/time_zone", "Europe/Berlin"),
        ("/priority", json!(1_001), "/priority", "-1000 to 1000"),
        ("/priority", json!(1.5), "/priority", "whole number"),
        ("/legal_minimum", json!("P3Y"), "/legal_maximum", "legal_minimum, P3Y"),
        ("/legal_maximum", json!("P1M"), "/legal_maximum", "keep, P90D"),
        ("/brake/share_max", json!(0), "/brake/share_max", "to 1"),
        ("/brake/share_max", json!(1.1), "/brake/share_max", "to 1"),
        ("/brake/growth_max", json!(0.5), "/brake/growth_max", "from 1"),
        ("/notify", many(9, json!({})), "/notify", "at most 8"),
        ("/notify/0", json!({"type": "pager"}), "/notify/0/type", "email, slack"),
        ("/notify/0", json!({"type": "email", "name": "x"}), "/notify/0/to", "got none"),
        ("/notify/0", json!({"type": "email", "to": "ops"}), "/notify/0/to", "a mailbox"),
        ("/notify/1", json!({"type": "slack", "name": "x", "to": "y"}), "/notify/1", "only"),
        (
            "/notify/1",
            json!({"type": "slack", "name": "https://hooks.example.com/T0"}),
            "/notify/1/name",
            "secret",
        ),
        ("/state", json!("deleted"), "/state", "active, disabled"),
        ("/effective_at", json!("2026-02-28T00:00:00Z"), "/effective_at", "not past"),
        ("/effective_at", json!("2056-02-28T00:00:00Z"), "/effective_at", "3660 days"),
        ("/effective_at", json!("soon"), "/effective_at", "RFC 3339"),
        ("/version", json!(0), "/version", "whole number"),
    ];
    for (path, value, pointer, word) in table {
        let problems = PolicyDraft::read(&with(path, value.clone()), false, now()).unwrap_err();
        let told = problems.iter().any(|p| p.pointer == pointer && p.detail.contains(word));
        assert!(told, "{path} {value}: {problems:?}");
    }
}

#[test]
fn several_problems_are_told_at_once_and_not_too_many() {
    for body in [json!(null), json!("policy"), json!([])] {
        assert_eq!(PolicyDraft::read(&body, false, now()).unwrap_err()[0].pointer, "", "{body}");
    }
    let several = json!({"keep": "x", "then": "x", "priority": "x"});
    assert_eq!(PolicyDraft::read(&several, false, now()).unwrap_err().len(), 4);
    let members: Map<String, Value> = (0..50).map(|n| (format!("m{n}"), json!(1))).collect();
    let problems = PolicyDraft::read(&Value::Object(members), false, now()).unwrap_err();
    assert_eq!(problems.len(), crate::event::ERRORS_MAX);
}

#[test]
fn limits_hold_just_inside() {
    for (path, value) in [
        ("/name", json!("é".repeat(NAME_CHARS_MAX))),
        ("/filter/actions", Value::Array(vec![json!("a"); 32])),
        ("/filter/actions/0", json!("*".repeat(4))),
        ("/filter/actions/0", json!("a".repeat(128))),
        ("/filter/metadata", json!({"v": "x".repeat(8_192)})),
        ("/schedule/cron", json!("0 3 29 2 *")),
        ("/priority", json!(-1_000)),
        ("/brake", json!({"share_max": 1, "growth_max": 1})),
        ("/legal_maximum", json!("P92D")),
        ("/effective_at", json!("2036-03-01T00:00:00Z")),
    ] {
        let read = PolicyDraft::read(&with(path, value.clone()), false, now());
        assert!(read.is_ok(), "{path} {value}: {read:?}");
    }
}

#[test]
fn a_schedule_is_of_its_zone() {
    let schedule = Schedule { cron: "0 3 * * *".into(), time_zone: "Europe/Berlin".into() };
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    assert_eq!(schedule.next(at("2026-01-01T12:00:00Z")), Some(at("2026-01-02T02:00:00Z")));
    assert_eq!(schedule.next(at("2026-07-01T12:00:00Z")), Some(at("2026-07-02T01:00:00Z")));
    // Times are whole minutes, wherever one looks from.
    for (after, next) in [
        ("2026-01-01T01:59:59.999999Z", "2026-01-01T02:00:00Z"),
        ("2026-01-01T02:00:00.000001Z", "2026-01-02T02:00:00Z"),
    ] {
        assert_eq!(schedule.next(at(after)), Some(at(next)), "{after}");
    }
    let never = Schedule { cron: "0 3 31 2 *".into(), ..schedule };
    assert_eq!(never.next(at("2026-01-01T12:00:00Z")), None);
}

#[test]
fn contradictions_of_two_policies_are_seen_where_filters_tell() {
    let policy = |filter: Value, min: Option<&str>, max: Option<&str>| {
        let body = json!({"name": "p", "keep": "P1D", "then": "archive", "filter": filter,
                          "legal_minimum": min, "legal_maximum": max});
        Policy {
            id: PolicyId::nil(),
            version: 1,
            spec: PolicyDraft::read(&body, false, now()).unwrap().spec,
            effective_from: now(),
            created_by: json!({}),
            created_at: now(),
        }
    };
    let max = policy(json!({"actions": ["user.*"]}), None, Some("P1Y"));
    for (filter, min, forbids) in [
        (json!({}), "P7Y", true),
        (json!({}), "P1Y", false),
        (json!({"actions": ["user.created"]}), "P7Y", true),
        (json!({"actions": ["invoice.*"]}), "P7Y", false),
        (json!({"actions": ["*.created"]}), "P7Y", false),
        (json!({"metadata": {"a": "b"}}), "P7Y", true),
    ] {
        let minimum = policy(filter.clone(), Some(min), None);
        assert_eq!(max.forbids(&minimum), forbids, "{filter} {min}");
        assert!(!minimum.forbids(&max));
    }
}
