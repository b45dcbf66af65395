//! What is taken and what is refused, example by example; each limit just below and just above.

use chrono::{DateTime, TimeDelta, Utc};

use super::{EventLimits, FieldError, Invalid, Rules, Validated, validate_text};

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn check(text: &str) -> Result<Validated, Invalid> {
    validate_text(text, &Rules::at(now(), EventLimits::default(), false))
}

fn with(members: &str) -> String {
    format!(r#"{{"actor":{{"type":"user","id":"u1"}},"action":"doc.read"{members}}}"#)
}

fn metadata(value: &str) -> String {
    with(&format!(r#","metadata":{value}"#))
}

#[track_caller]
fn refused(text: &str, pointer: &str, word: &str) {
    let Err(Invalid::Fields(errors)) = check(text) else {
        panic!("taken or refused otherwise: {:?} for {text:.200}", check(text));
    };
    let hit = |error: &FieldError| error.pointer == pointer && error.detail.contains(word);
    assert!(errors.iter().any(hit), "no error at {pointer:?} with {word:?} in {errors:?}");
}

#[track_caller]
fn taken(text: &str) -> String {
    match check(text) {
        Ok(valid) => valid.as_str().to_owned(),
        Err(error) => panic!("refused: {error:?} for {text:.200}"),
    }
}

#[test]
fn the_smallest_event_is_taken_as_it_is() {
    let text = with("");
    assert_eq!(taken(&text), text);
}

#[test]
fn canonical_form_is_minified_ascii_and_keeps_numbers_and_order() {
    let sent = "{ \"metadata\" : { \"z\":1.0, \"a\" : [ 1E5 , -0.0, 12345678901234567890.10 ],\
                \"\\u0065\" : \"\\/\u{e9}\\ud83d\\ude00\\u0000\u{7f}\" },\n\
                \"action\":\"x\",\t\"actor\":{\"id\":\"1\",\"type\":\"t\",\"name\":null} }";
    assert_eq!(
        taken(sent),
        r#"{"metadata":{"z":1.0,"a":[1E5,-0.0,12345678901234567890.10],"e":"/\u00e9\ud83d\ude00\u0000\u007f"},"action":"x","actor":{"id":"1","type":"t","name":null}}"#
    );
}

#[test]
fn syntax_errors_tell_where() {
    for text in ["", "{", "{\"a\":}", "nul", "{} {}", "\u{feff}{}", "{'a':1}", "[1,]", "\"\u{1}\""]
    {
        assert!(matches!(check(text), Err(Invalid::Json(_))), "{text}");
    }
    let Err(Invalid::Json(detail)) = check("{\n  \"a\": ,\n}") else { panic!("taken") };
    assert!(detail.contains("line 2 column"), "{detail}");
}

#[test]
fn missing_unknown_and_wrong_fields_are_named() {
    refused("{}", "/actor", "expected an object, got nothing");
    refused("{}", "/action", "expected a string of 1 to 128 characters, got nothing");
    refused("[]", "", "expected an object, got an array");
    refused("7", "", "got a number");
    refused(r#"{"actor":{"type":"u"},"action":"a"}"#, "/actor/id", "got nothing");
    refused(r#"{"actor":"bob","action":"a"}"#, "/actor", "got a string");
    refused(r#"{"actor":{"type":"u","id":7},"action":"a"}"#, "/actor/id", "got a number");
    refused(r#"{"actor":{"type":"u","id":null},"action":"a"}"#, "/actor/id", "got null");
    refused(&with(r#","user":"bob""#), "/user", "expected one of actor, action, targets");
    refused(&with(r#","outcome":"ok""#), "/outcome", "success, failure, denied, unknown");
    refused(&with(r#","outcome":true"#), "/outcome", "got a boolean");
    refused(&with(r#","context":{"ip":"1.2.3"}"#), "/context/ip", "IPv4 or IPv6");
    refused(&with(r#","context":{"ips":"1.2.3.4"}"#), "/context/ips", "ip, user_agent");
    refused(&with(r#","metadata":[]"#), "/metadata", "expected an object, got an array");
    refused(&with(r#","targets":[{"type":"d","id":"1"},{"id":"2"}]"#), "/targets/1/type", "got");
    refused(&with(r#","targets":{}"#), "/targets", "array of at most 32");
    refused(&with(r#","a/b~c":1"#), "/a~1b~0c", "expected one of");
}

#[test]
fn all_that_is_optional_is_taken() {
    taken(&with(
        r#","targets":[],"context":{"ip":"::1","user_agent":"x","session":"s","request_id":"r"},
        "outcome":"denied","occurred_at":"2026-03-01T13:00:00+01:00","metadata":{}"#,
    ));
    taken(&with(
        r#","targets":null,"context":null,"outcome":null,"occurred_at":null,"metadata":null"#,
    ));
}

#[test]
fn text_lengths_are_counted_in_characters() {
    for (field, max) in [("type", 64), ("id", 256), ("name", 256)] {
        let of = |length: usize| {
            let value = "é".repeat(length);
            let rest = ["type", "id"].into_iter().filter(|name| *name != field);
            let rest: Vec<String> = rest.map(|name| format!(r#","{name}":"x""#)).collect();
            let rest = rest.concat();
            format!(r#"{{"actor":{{"{field}":"{value}"{rest}}},"action":"a"}}"#)
        };
        taken(&of(max));
        refused(&of(max + 1), &format!("/actor/{field}"), "characters");
        refused(&of(0), &format!("/actor/{field}"), "characters");
    }
    let action = |length: usize| {
        format!(r#"{{"actor":{{"type":"u","id":"1"}},"action":"{}"}}"#, "a".repeat(length))
    };
    taken(&action(128));
    refused(&action(129), "/action", "1 to 128 characters, got 129");
}

#[test]
fn targets_stop_at_thirty_two() {
    let of = |count: usize| {
        with(&format!(r#","targets":[{}]"#, vec![r#"{"type":"d","id":"1"}"#; count].join(",")))
    };
    taken(&of(32));
    refused(&of(33), "/targets", "at most 32 targets");
}

#[test]
fn occurred_at_has_a_window_and_imports_widen_it() {
    let at = |time: DateTime<Utc>| with(&format!(r#","occurred_at":"{}""#, time.to_rfc3339()));
    taken(&at(now() + TimeDelta::minutes(5)));
    refused(
        &at(now() + TimeDelta::minutes(5) + TimeDelta::microseconds(1)),
        "/occurred_at",
        "ahead",
    );
    taken(&at(now() - TimeDelta::days(400)));
    let old = at(now() - TimeDelta::days(400) - TimeDelta::microseconds(1));
    refused(&old, "/occurred_at", "logs:import");
    let import = Rules::at(now(), EventLimits::default(), true);
    assert!(validate_text(&old, &import).is_ok());
    assert!(validate_text(&at(DateTime::UNIX_EPOCH), &import).is_ok());
    assert!(validate_text(&with(r#","occurred_at":"1969-12-31T23:59:59Z""#), &import).is_err());
    let ahead = at(now() + TimeDelta::minutes(6));
    assert!(validate_text(&ahead, &import).is_err(), "an import brings no future");
    refused(&with(r#","occurred_at":"yesterday""#), "/occurred_at", "RFC 3339");
    refused(&with(r#","occurred_at":"2026-03-01T12:00:00""#), "/occurred_at", "RFC 3339");
    refused(&with(r#","occurred_at":1772366400"#), "/occurred_at", "got a number");
}

#[test]
fn duplicate_keys_are_refused_however_they_are_escaped() {
    refused(&with(r#","action":"b""#), "/action", "twice");
    refused(r#"{"actor":{"type":"u","id":"1","id":"2"},"action":"a"}"#, "/actor/id", "twice");
    refused(&metadata(r#"{"a":1,"b":{"c":1,"\u0063":2}}"#), "/metadata/b/c", "twice");
    taken(&metadata(r#"{"a":1,"A":2,"b":{"a":1}}"#));
}

#[test]
fn lone_surrogates_are_refused_in_values_and_keys() {
    for lone in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\ud800", r"\udc00\ud800", r"\ud800\n"] {
        refused(&metadata(&format!(r#"{{"a":["{lone}"]}}"#)), "/metadata/a/0", "lone surrogate");
        refused(&metadata(&format!(r#"{{"{lone}":1}}"#)), "/metadata", "lone surrogate");
    }
    let name = r#"{"actor":{"type":"u","id":"1","name":"\ud83d"},"action":"a"}"#;
    refused(name, "/actor/name", "lone surrogate");
}

#[test]
fn nul_is_kept_in_metadata_values_and_refused_elsewhere() {
    taken(&metadata(r#"{"a":"x\u0000y"}"#));
    refused(&metadata(r#"{"a\u0000":1}"#), "/metadata", "NUL");
    refused(r#"{"actor":{"type":"u","id":"1\u0000"},"action":"a"}"#, "/actor/id", "NUL");
    refused(r#"{"actor":{"type":"u","id":"1"},"action":"a\u0000"}"#, "/action", "NUL");
    refused(&with(r#","targets":[{"type":"d","id":"\u0000"}]"#), "/targets/0/id", "NUL");
    refused(&with(r#","context":{"session":"\u0000"}"#), "/context/session", "NUL");
}

#[test]
fn metadata_depth_stops_at_sixteen() {
    let of = |levels: usize| {
        let inner = levels - 1;
        metadata(&format!("{}{}1{}{}", r#"{"a":"#, "[".repeat(inner), "]".repeat(inner), "}"))
    };
    taken(&of(16));
    let pointer = format!("/metadata/a{}", "/0".repeat(15));
    refused(&of(17), &pointer, "at most 16 levels");
    refused(&of(100_000), &pointer, "at most 16 levels");
}

#[test]
fn metadata_fields_are_counted_over_all_levels() {
    let of = |count: usize| {
        let half = count - 501;
        let list = vec!["0"; half].join(",");
        let keys: Vec<String> = (0..500).map(|n| format!(r#""k{n}":{n}"#)).collect();
        metadata(&format!(r#"{{{},"list":[{list}]}}"#, keys.join(",")))
    };
    taken(&of(1_000));
    refused(&of(1_001), "/metadata/list", "at most 1000 keys");
    let key = |length: usize| metadata(&format!(r#"{{"{}":1}}"#, "k".repeat(length)));
    taken(&key(256));
    refused(&key(257), "/metadata", "keys of 1 to 256");
    refused(&key(0), "/metadata", "keys of 1 to 256");
}

#[test]
fn size_is_counted_as_it_is_stored() {
    let limit = EventLimits::default().event_bytes;
    let base = metadata(r#"{"a":""}"#).len();
    let of =
        |filler: &str, count: usize| metadata(&format!(r#"{{"a":"{}"}}"#, filler.repeat(count)));
    assert_eq!(taken(&of("x", limit - base)).len(), limit);
    assert_eq!(check(&of("x", limit - base + 1)), Err(Invalid::TooLarge { limit }));
    // Two bytes as sent, six as stored.
    taken(&of("é", (limit - base) / 6));
    assert_eq!(check(&of("é", (limit - base) / 6 + 1)), Err(Invalid::TooLarge { limit }));
    // White space is not stored.
    taken(&format!("{}{}", " ".repeat(2 * limit), with("")));
}

#[test]
fn a_hostile_event_is_told_so_many_errors_and_no_more() {
    let many: Vec<String> = (0..30).map(|n| format!(r#""x{n}":1"#)).collect();
    let Err(Invalid::Fields(errors)) = check(&format!("{{{}}}", many.join(","))) else {
        panic!("taken")
    };
    assert_eq!(errors.len(), super::ERRORS_MAX);
}
