//! What holds for every event: canonicalising twice changes nothing, values survive, bytes are
//! ASCII, and the record carries the event's bytes untouched.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{EventLimits, Invalid, Origin, Rules, Stamp, record_bytes, validate_text};

fn rules() -> Rules {
    Rules::at("2026-03-01T12:00:00Z".parse().unwrap(), EventLimits::default(), false)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Quarters, since serde_json's reader of this comparison rounds longer ones.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(key(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("a key has characters, none of them NUL", |key| {
        !key.is_empty() && !key.contains('\0') && key.chars().count() <= super::KEY_CHARS_MAX
    })
}

fn text(max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 1..max)
        .prop_map(|chars| chars.into_iter().collect())
}

prop_compose! {
    fn event()(
        kind in text(64),
        id in text(256),
        action in text(128),
        metadata in prop::collection::hash_map(key(), any_json(), 0..6),
        pretty in any::<bool>(),
    ) -> (Value, String) {
        let metadata: Map<String, Value> = metadata.into_iter().collect();
        let value = serde_json::json!({
            "actor": {"type": kind, "id": id}, "action": action, "metadata": metadata,
        });
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        (value, text)
    }
}

proptest! {
    #[test]
    fn canonicalising_keeps_values_is_ascii_and_idempotent((value, text) in event()) {
        let once = validate_text(&text, &rules()).unwrap();
        prop_assert!(once.as_str().bytes().all(|b| (0x20..0x7f).contains(&b)));
        prop_assert_eq!(&serde_json::from_str::<Value>(once.as_str()).unwrap(), &value);
        let twice = validate_text(once.as_str(), &rules()).unwrap();
        prop_assert_eq!(&once, &twice);

        let stamp = Stamp {
            id: contracts::LogId(uuid::Uuid::nil()),
            tenant: "acme".parse().unwrap(),
            recorded_at: "2026-03-01T12:00:00.000001Z".parse().unwrap(),
            class: contracts::RetentionClass::Days90,
        };
        let origin = Origin {
            key_id: "k".into(), ip: None, user_agent: Some("\u{e9}".into()),
        };
        let record = record_bytes(&stamp, &origin, &once).unwrap();
        prop_assert!(record.get().is_ascii());
        let tail = [",\"event\":", once.as_str(), "}"].concat();
        prop_assert!(record.get().ends_with(&tail));
        prop_assert_eq!(
            &serde_json::from_str::<Value>(record.get()).unwrap()["event"], &value
        );
    }

    /// Numbers are text to us: no digit is lost, whatever their size.
    #[test]
    fn numbers_stay_verbatim(number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?") {
        let text = format!(
            r#"{{"actor":{{"type":"t","id":"i"}},"action":"a","metadata":{{"n":{number}}}}}"#
        );
        let valid = validate_text(&text, &rules()).unwrap();
        prop_assert_eq!(valid.as_str(), text);
    }

    /// Whatever arrives: an answer, never a panic, and what is taken reads back.
    #[test]
    fn any_text_gets_an_answer(text in "[\\[\\]{}\",:0-9a-z\\\\u ]{0,64}|.{0,64}") {
        match validate_text(&text, &rules()) {
            Ok(valid) => prop_assert!(serde_json::from_str::<Value>(valid.as_str()).is_ok()),
            Err(Invalid::Fields(errors)) => {
                prop_assert!((1..=super::ERRORS_MAX).contains(&errors.len()));
            }
            Err(Invalid::Json(_) | Invalid::TooLarge { .. }) => {}
        }
    }
}
