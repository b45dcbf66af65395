//! What makes two dead letters one cause: the error code, the message type, and the error's text
//! without what differs from message to message. The same cause has the same fingerprint in every
//! release: golden values pin it, since operators filter, mute and compare by it.

use contracts::ErrorCode;
use sha2::{Digest, Sha256};

/// Characters of a normalised text that count; error texts say what is wrong at their beginning.
const CHARS_MAX: usize = 1_024;
/// A word of at least so many hex digits is a hash or an id, also one that happens to have no digit.
const HEX_MIN: usize = 8;
/// Stands for whatever was stripped.
const MARK: char = '#';

/// Sixteen hex digits. `own` are values of the message itself (its tenant, its ids) that may stand in
/// the text as plain words.
pub fn fingerprint(kind: &str, code: &ErrorCode, message: &str, own: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in [code.code, kind, &normalised(message, own)] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(16);
    text
}

/// The text in lower case with ids, numbers, hashes, times and `own` words as one `#` each, and a row
/// of them as one.
pub fn normalised(message: &str, own: &[&str]) -> String {
    let mut out = String::with_capacity(message.len().min(CHARS_MAX));
    let mut rest = message;
    // After a mark: separators that may turn out to stand inside a row of stripped words.
    let mut between: Option<String> = None;
    while let Some(first) = rest.chars().next() {
        let word_end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if word_end == 0 {
            let c = if first.is_whitespace() { ' ' } else { first };
            let gap = between.as_mut().unwrap_or(&mut out);
            if c != ' ' || !gap.ends_with(' ') {
                gap.push(c);
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(word_end);
        rest = after;
        let stripped = varies(word, own);
        match between.take() {
            // One more of a row: the separators inside it go, too.
            Some(gap) if stripped && joins(&gap) => {}
            Some(gap) => out.push_str(&gap),
            None => {}
        }
        if stripped {
            if !out.ends_with(MARK) {
                out.push(MARK);
            }
            between = Some(String::new());
        } else {
            out.extend(word.chars().flat_map(char::to_lowercase));
        }
        if out.len() > CHARS_MAX {
            break;
        }
    }
    out.push_str(between.as_deref().unwrap_or_default());
    out.chars().take(CHARS_MAX).collect::<String>().trim().to_owned()
}

/// Letters, digits, and what ids are written with.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

/// Whether only what numbers, times, addresses and lists are written with stands between two words.
fn joins(gap: &str) -> bool {
    gap.chars().all(|c| matches!(c, '.' | ',' | ':' | '/' | '+' | ' ' | MARK))
}

fn varies(word: &str, own: &[&str]) -> bool {
    word.chars().any(char::is_numeric)
        || (word.len() >= HEX_MIN && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
        || own.contains(&word)
}

#[cfg(test)]
mod tests {
    use contracts::errors;
    use proptest::prelude::*;

    use super::{CHARS_MAX, fingerprint, normalised};

    fn plain(text: &str) -> String {
        normalised(text, &[])
    }

    /// Values of a release that is out: a change here breaks every saved filter.
    #[test]
    fn golden_fingerprints_do_not_change() {
        for (kind, code, message, golden) in [
            (
                "INDEX",
                &errors::REJECTED_BY_STORE,
                "value too long for column 7",
                "a575251d91fab430",
            ),
            (
                "BULK_INDEX",
                &errors::MALFORMED_MESSAGE,
                "malformed BULK_INDEX body: missing field `items` at line 1 column 44",
                "3a192eda88eddefa",
            ),
            (
                "",
                &errors::NOT_JSON,
                "not an envelope: expected value at line 1 column 1",
                "bb5149c47f650ef7",
            ),
            (
                "UPDATE",
                &errors::LOG_MISSING,
                "log 01941f29-7c00-7abc-8def-001122334455 of # was not stored in 12 looks",
                "31740c4eb12821c7",
            ),
            ("INDEX", &errors::INTERNAL, "", "5a8e175394556e59"),
        ] {
            assert_eq!(fingerprint(kind, code, message, &[]), golden, "{kind} {message}");
        }
    }

    #[test]
    fn what_differs_from_message_to_message_is_stripped() {
        for (text, expected) in [
            ("row 17 of 5fea7756-0ea4-451a-a703-a558b933e274: too long", "row # of #: too long"),
            ("connect 10.0.0.1:5432 refused", "connect # refused"),
            ("connect [fe80::1]:5432 refused", "connect [#]:# refused"),
            ("late by 2026-11-21T10:00:00.123Z", "late by #"),
            ("hash deadbeefcafe differs", "hash # differs"),
            ("ids 1, 2, 3 are gone", "ids # are gone"),
            ("ids 1, 2 are gone", "ids # are gone"),
            ("Too   Long\n\tfor x", "too long for x"),
            ("x=1;y=2", "x=#;y=#"),
            ("²³ over", "# over"),
            ("facade of decade", "facade of decade"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
        assert_eq!(normalised("log of acme-inc is gone", &["acme-inc"]), "log of # is gone");
        assert_eq!(normalised("log of acme is gone", &["ac"]), "log of acme is gone");
    }

    #[test]
    fn code_type_and_words_tell_causes_apart() {
        let of = |kind, code, text| fingerprint(kind, code, text, &[]);
        let one = of("INDEX", &errors::INTERNAL, "too long");
        assert_eq!(one.len(), 16);
        assert_ne!(one, of("UPDATE", &errors::INTERNAL, "too long"));
        assert_ne!(one, of("INDEX", &errors::NOT_JSON, "too long"));
        assert_ne!(one, of("INDEX", &errors::INTERNAL, "too short"));
    }

    proptest! {
        #[test]
        fn numbers_ids_and_hashes_do_not_count(
            words in prop::collection::vec("[g-z]{1,7}", 1..6),
            (a, b) in (any::<u64>(), any::<u64>()),
            (id_a, id_b) in (any::<u128>(), any::<u128>()),
        ) {
            let text = |number: u64, id: u128| {
                let uuid = uuid::Uuid::from_u128(id);
                let hash = format!("{id:032x}");
                let parts: Vec<String> = words
                    .iter()
                    .map(|word| format!("{word} {number} {word} {uuid} {word} {hash}: "))
                    .collect();
                parts.concat()
            };
            prop_assert_eq!(plain(&text(a, id_a)), plain(&text(b, id_b)));
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,80}") {
            let once = plain(&text);
            prop_assert_eq!(plain(&once), once);
        }

        #[test]
        fn another_word_is_another_cause(
            words in prop::collection::vec("[g-z]{1,7}", 2..6), other in "[g-z]{8}", at in any::<prop::sample::Index>(),
        ) {
            let mut changed = words.clone();
            changed[at.index(words.len())] = other;
            prop_assert_ne!(plain(&words.join(" ")), plain(&changed.join(" ")));
        }

        #[test]
        fn any_text_is_bounded(text in "\\PC{0,3000}") {
            prop_assert!(plain(&text).chars().count() <= CHARS_MAX);
        }
    }
}
