//! Tokens as PostgreSQL's text forms of `tsvector` and `tsquery`. Quoted, so that the server reads
//! them as they are; nothing passes through a text search configuration.

use std::fmt::Write as _;

use contracts::Tenant;

use crate::search::query::Word;
use crate::search::tokens::TokenStream;

/// Before a tenant's name, which makes it a lexeme that no text can contain.
const TENANT: char = '\u{e001}';

/// A document's tokens with positions, and its tenant.
pub(super) fn tsvector(tenant: &Tenant, tokens: &TokenStream) -> String {
    let mut vector = quoted(&format!("{TENANT}{tenant}"));
    for (token, positions) in tokens.by_token() {
        vector.push(' ');
        vector.push_str(&quoted(token));
        for (nth, position) in positions.iter().enumerate() {
            let before = if nth == 0 { ':' } else { ',' };
            // Writing into a String cannot fail.
            let _ = write!(vector, "{before}{position}");
        }
    }
    vector
}

/// The words of a query that must all be there, in the tenant's documents; `None` without words.
pub(super) fn tsquery(tenant: &Tenant, words: &[Word]) -> Option<String> {
    if words.is_empty() {
        return None;
    }
    let all = words.iter().map(|word| match word {
        Word::Token(token) => quoted(token),
        Word::Prefix(prefix) => quoted(prefix) + ":*",
        Word::Phrase(tokens) => {
            let tokens: Vec<String> = tokens.iter().map(|token| quoted(token)).collect();
            format!("({})", tokens.join(" <-> "))
        }
    });
    let tenant = quoted(&format!("{TENANT}{tenant}"));
    Some(std::iter::once(tenant).chain(all).collect::<Vec<_>>().join(" & "))
}

fn quoted(token: &str) -> String {
    let mut quoted = String::with_capacity(token.len() + 2);
    quoted.push('\'');
    for c in token.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::{tsquery, tsvector};
    use crate::search::query::Query;
    use crate::search::tokens::TokenStream;

    #[test]
    fn quotes_what_the_server_would_read() {
        let tenant = "acme".parse().unwrap();
        let tokens = TokenStream::of(&["can't stop, can't"]);
        assert_eq!(tsvector(&tenant, &tokens), "'\u{e001}acme' 'can''t':1,3 'stop':2");
        let words = Query::parse_q(r#"can't "stop it" a*"#).unwrap();
        assert_eq!(
            tsquery(&tenant, &words).unwrap(),
            "'\u{e001}acme' & 'can''t' & ('stop' <-> 'it') & 'a':*"
        );
        assert_eq!(tsquery(&tenant, &[]), None);
    }
}
