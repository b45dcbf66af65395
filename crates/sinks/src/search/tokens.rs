//! The one analysis for both engines: words by UAX #29, lower case. OpenSearch gets the tokens
//! behind a `whitespace` analyzer, PostgreSQL as a tsvector; neither cuts, folds or stems anything
//! itself. Nothing is normalised: composed and decomposed letters are different letters.

use std::collections::{BTreeMap, HashMap};

use unicode_segmentation::UnicodeSegmentation;

/// Bytes of one token at most; a longer word is cut, in a query as in a document, so it is still
/// found by its whole. Below Lucene's 255 UTF-16 units and PostgreSQL's 2,046 bytes.
pub const TOKEN_BYTES_MAX: usize = 200;
/// Positions of a document at most; words after it are stored but not searchable. PostgreSQL
/// cannot tell positions above 16,383 apart.
pub const POSITIONS_MAX: usize = 16_000;
/// Bytes of a document's tokens at most, counted with repeats. A tsvector ends at 1 MiB, its
/// positions included.
pub const TOKENS_BYTES_MAX: usize = 512 * 1024;
/// Occurrences of one token that are kept; later ones keep their place but are not found.
/// PostgreSQL stores 255.
pub const OCCURRENCES_MAX: usize = 255;
/// What stands in a position that holds no token: between passages, and for an occurrence too
/// many. A private-use character, so no query can contain it.
const HOLE: &str = "\u{e000}";

/// The words of a text, in order, as tokens.
pub fn words(text: &str) -> Vec<String> {
    text.unicode_words().map(token).filter(|token| !token.is_empty()).collect()
}

fn token(word: &str) -> String {
    let mut token: String = word
        .chars()
        .filter(|c| !c.is_control() && !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect();
    if token.len() > TOKEN_BYTES_MAX {
        token.truncate(token.floor_char_boundary(TOKEN_BYTES_MAX));
    }
    token
}

/// The parts of a token that UAX #29 keeps together though people search for its parts:
/// `user.login` and `user_login` hold `user` and `login`. Numbers stay whole (`10.0.0.1`).
fn parts(token: &str) -> Vec<&str> {
    if !token.contains(['.', '_', ':']) || !token.chars().any(char::is_alphabetic) {
        return Vec::new();
    }
    token.split(['.', '_', ':']).filter(|part| part.chars().any(char::is_alphanumeric)).collect()
}

/// A document's tokens by position; what both engines index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenStream {
    positions: Vec<Option<String>>,
}

impl TokenStream {
    /// Analyses passages, most important first, until a limit is reached. Between passages there
    /// is a hole, so that no phrase crosses them. After all passages come the parts of compound
    /// words, each word's as a passage of its own.
    pub fn of<S: AsRef<str>>(passages: &[S]) -> Self {
        let mut builder = Builder::default();
        let mut compounds = Vec::new();
        for passage in passages {
            let tokens = words(passage.as_ref());
            compounds.extend(tokens.iter().filter(|t| !parts(t).is_empty()).cloned());
            builder.passage(tokens.iter().map(String::as_str));
        }
        compounds.sort_unstable();
        compounds.dedup();
        for compound in &compounds {
            builder.passage(parts(compound).into_iter());
        }
        Self { positions: builder.positions }
    }

    /// For an analyzer that cuts at white space and nothing else.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.positions.len() * 8);
        for position in &self.positions {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(position.as_deref().unwrap_or(HOLE));
        }
        text
    }

    /// Each token with its positions, counted from 1, ascending.
    pub fn by_token(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut tokens: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, token) in self.positions.iter().enumerate() {
            if let Some(token) = token {
                tokens.entry(token).or_default().push(at + 1);
            }
        }
        tokens
    }
}

#[derive(Default)]
struct Builder {
    positions: Vec<Option<String>>,
    occurrences: HashMap<String, usize>,
    bytes: usize,
    full: bool,
}

impl Builder {
    fn passage<'a>(&mut self, tokens: impl Iterator<Item = &'a str>) {
        let mut first = true;
        for token in tokens {
            let hole = usize::from(first && !self.positions.is_empty());
            self.full |= self.positions.len() + hole + 1 > POSITIONS_MAX
                || self.bytes + token.len() > TOKENS_BYTES_MAX;
            if self.full {
                return;
            }
            if hole == 1 {
                self.positions.push(None);
            }
            first = false;
            self.bytes += token.len();
            let seen = self.occurrences.entry(token.to_owned()).or_default();
            *seen += 1;
            self.positions.push((*seen <= OCCURRENCES_MAX).then(|| token.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        HOLE, OCCURRENCES_MAX, POSITIONS_MAX, TOKEN_BYTES_MAX, TOKENS_BYTES_MAX, TokenStream, words,
    };
    use proptest::prelude::*;

    fn stream(text: &str) -> TokenStream {
        TokenStream::of(&[text])
    }

    #[test]
    fn words_by_uax_29_in_lower_case() {
        assert_eq!(
            words("Can't STOP, won't—stop: 3.14 ÀÉ 東京 👍 a_b"),
            ["can't", "stop", "won't", "stop", "3.14", "àé", "東", "京", "a_b"]
        );
        assert_eq!(words("ada@example.com 10.0.0.1"), ["ada", "example.com", "10.0.0.1"]);
        assert!(words("-- \0 \u{e000}").is_empty());
    }

    #[test]
    fn passages_do_not_touch_and_compounds_are_found_by_part() {
        let stream = TokenStream::of(&["user.login ok", "v2.1"]);
        assert_eq!(
            stream.to_text(),
            format!("user.login ok {HOLE} v2.1 {HOLE} user login {HOLE} v2 1")
        );
        assert_eq!(stream.by_token()["login"], [7]);
        assert_eq!(stream.by_token()["ok"], [2]);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let long = "é".repeat(TOKEN_BYTES_MAX / 2);
        assert_eq!(words(&long).join(" "), long);
        assert_eq!(words(&format!("{long}é")), [long]);

        let many =
            |n: usize, word: fn(usize) -> String| (0..n).map(word).collect::<Vec<_>>().join(" ");
        let distinct = |n| many(n, |i| format!("w{i}"));
        assert_eq!(stream(&distinct(POSITIONS_MAX)).by_token().len(), POSITIONS_MAX);
        assert_eq!(stream(&distinct(POSITIONS_MAX + 1)).by_token().len(), POSITIONS_MAX);

        let at = |n: usize| stream(&"x ".repeat(n)).by_token()["x"].len();
        assert_eq!((at(OCCURRENCES_MAX), at(OCCURRENCES_MAX + 1)), (255, 255));

        let wide = |n| many(n, |i| format!("{i:a>TOKEN_BYTES_MAX$}"));
        let fit = TOKENS_BYTES_MAX / TOKEN_BYTES_MAX;
        assert_eq!(stream(&wide(fit)).by_token().len(), fit);
        assert_eq!(stream(&wide(fit + 1)).by_token().len(), fit);
    }

    proptest! {
        #[test]
        fn every_position_is_one_white_space_token(texts in prop::collection::vec(any::<String>(), 0..6)) {
            let stream = TokenStream::of(&texts);
            let text = stream.to_text();
            prop_assert_eq!(text.split_whitespace().count(), stream.positions.len());
            for (token, positions) in stream.by_token() {
                prop_assert!(!token.is_empty() && token.len() <= TOKEN_BYTES_MAX);
                prop_assert!(!token.contains(char::is_control) && token != HOLE);
                prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
