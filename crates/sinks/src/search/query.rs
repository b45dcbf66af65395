//! What can be asked, already parsed: every part must match. `q` is AND of words, `"phrases"` and
//! `prefix*`; filters are equality and existence. It knows no engine.

use chrono::{DateTime, Utc};

use super::tokens;

/// Bytes of `q` at most.
pub const Q_BYTES_MAX: usize = 1_024;
/// Words, phrases and prefixes in `q` at most.
pub const Q_WORDS_MAX: usize = 32;

/// Half-open: `from` is inside, `to` is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Inclusive.
    pub from: Option<DateTime<Utc>>,
    /// Exclusive.
    pub to: Option<DateTime<Utc>>,
}

/// One part of `q`, as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// This token, anywhere.
    Token(String),
    /// These tokens, next to each other in this order; two or more.
    Phrase(Vec<String>),
    /// A token that starts with this.
    Prefix(String),
}

/// A condition on the event's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataFilter {
    /// The value at the path is this one, or the array there holds it. Numbers compare by how
    /// they were written: `1.0` is not `1`.
    Equals {
        /// Object keys joined by dots: `request.headers.host`.
        path: String,
        /// The value as text: a string's characters, a number as written, `true`, `false`.
        value: String,
    },
    /// Something other than `null` is at the path or below it.
    Exists {
        /// Object keys joined by dots.
        path: String,
    },
}

/// A search; the default finds everything of the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// From [`Query::parse_q`].
    pub words: Vec<Word>,
    /// Exactly this actor id.
    pub actor_id: Option<String>,
    /// Exactly this actor type.
    pub actor_type: Option<String>,
    /// Exactly this action.
    pub action: Option<String>,
    /// A target with this id; with `target_type`, the same target has both.
    pub target_id: Option<String>,
    /// A target of this type.
    pub target_type: Option<String>,
    /// `success`, `failure`, `denied` or `unknown`.
    pub outcome: Option<String>,
    /// By the server's time.
    pub recorded_at: TimeRange,
    /// By the client's time; a log without one is not inside any range.
    pub occurred_at: TimeRange,
    /// Every one of these.
    pub tags: Vec<String>,
    /// Every one of these.
    pub metadata: Vec<MetadataFilter>,
}

/// Why `q` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A quotation mark without its second.
    #[error("the quotation mark at character {0} is not closed; write \"two words\"")]
    UnclosedQuote(usize),
    /// Nothing that could be a word.
    #[error("{0:?} holds no letter or digit to search for; write a word, \"a phrase\" or prefix*")]
    NoWord(String),
    /// Over [`Q_BYTES_MAX`].
    #[error("q is {0} bytes; at most {Q_BYTES_MAX}")]
    TooLong(usize),
    /// Over [`Q_WORDS_MAX`].
    #[error("q has {0} words; at most {Q_WORDS_MAX}")]
    TooManyWords(usize),
}

impl Query {
    /// Reads `q`. Empty or blank text is no condition; punctuation alone between words is skipped.
    ///
    /// A word that the analysis cuts into several tokens (`ada@example.com`) is a phrase of them.
    /// In `a-b*` the last token is a prefix and the ones before it must occur.
    pub fn parse_q(q: &str) -> Result<Vec<Word>, QueryError> {
        if q.len() > Q_BYTES_MAX {
            return Err(QueryError::TooLong(q.len()));
        }
        let mut words = Vec::new();
        let mut rest = q;
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                break;
            }
            if let Some(quoted) = rest.strip_prefix('"') {
                let at = q.len() - rest.len();
                let end = quoted
                    .find('"')
                    .ok_or_else(|| QueryError::UnclosedQuote(q[..at].chars().count() + 1))?;
                push_phrase(&mut words, &quoted[..end]);
                rest = &quoted[end + 1..];
            } else {
                let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
                push_word(&mut words, &rest[..end]);
                rest = &rest[end..];
            }
        }
        if words.is_empty() && !q.trim().is_empty() {
            return Err(QueryError::NoWord(q.chars().take(80).collect()));
        }
        if words.len() > Q_WORDS_MAX {
            return Err(QueryError::TooManyWords(words.len()));
        }
        Ok(words)
    }
}

fn push_word(words: &mut Vec<Word>, text: &str) {
    let Some(stem) = text.strip_suffix('*') else { return push_phrase(words, text) };
    let mut tokens = tokens::words(stem);
    if let Some(prefix) = tokens.pop() {
        words.extend(tokens.into_iter().map(Word::Token));
        words.push(Word::Prefix(prefix));
    }
}

fn push_phrase(words: &mut Vec<Word>, text: &str) {
    let mut tokens = tokens::words(text);
    match tokens.len() {
        0 => {}
        1 => words.extend(tokens.pop().map(Word::Token)),
        _ => words.push(Word::Phrase(tokens)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Q_BYTES_MAX, Q_WORDS_MAX, Query, QueryError, Word};
    use proptest::prelude::*;

    fn token(text: &str) -> Word {
        Word::Token(text.into())
    }

    #[test]
    fn words_phrases_and_prefixes() {
        assert_eq!(
            Query::parse_q(r#" Login "failed  Twice" ada@example.com adm* - "" "#).unwrap(),
            [
                token("login"),
                Word::Phrase(vec!["failed".into(), "twice".into()]),
                Word::Phrase(vec!["ada".into(), "example.com".into()]),
                Word::Prefix("adm".into()),
            ]
        );
        assert_eq!(Query::parse_q("eu-west*").unwrap(), [token("eu"), Word::Prefix("west".into())]);
        assert_eq!(Query::parse_q(" \t").unwrap(), []);
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Query::parse_q("é \"b"), Err(QueryError::UnclosedQuote(3)));
        assert!(matches!(Query::parse_q("*"), Err(QueryError::NoWord(_))));
        assert!(matches!(Query::parse_q("-- \"\""), Err(QueryError::NoWord(_))));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        assert!(Query::parse_q(&"a".repeat(Q_BYTES_MAX)).is_ok());
        assert!(matches!(
            Query::parse_q(&"a".repeat(Q_BYTES_MAX + 1)),
            Err(QueryError::TooLong(1_025))
        ));
        assert_eq!(Query::parse_q(&"a ".repeat(Q_WORDS_MAX)).unwrap().len(), Q_WORDS_MAX);
        assert!(matches!(
            Query::parse_q(&"a ".repeat(Q_WORDS_MAX + 1)),
            Err(QueryError::TooManyWords(33))
        ));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_yields_an_empty_token(q in any::<String>()) {
            if let Ok(words) = Query::parse_q(&q) {
                for word in words {
                    match word {
                        Word::Token(t) | Word::Prefix(t) => prop_assert!(!t.is_empty()),
                        Word::Phrase(ts) => prop_assert!(ts.len() > 1),
                    }
                }
            }
        }
    }
}
