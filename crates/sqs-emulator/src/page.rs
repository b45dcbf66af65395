//! The page for people: queues and messages as they stand, one HTML document without scripts and
//! without anything from elsewhere. What a message holds is text to it, never markup.

mod messages;
mod queues;

use std::fmt::{self, Write as _};

pub(crate) use messages::messages;
pub(crate) use queues::queues;

/// What browsers may do with the page: show it with its own style, nothing else.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page/style.css");

/// A text as HTML shows it, inside an element or a quoted attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (plain, special) = rest.split_at(at);
            f.write_str(plain)?;
            f.write_str(match special.as_bytes().first() {
                Some(b'&') => "&amp;",
                Some(b'<') => "&lt;",
                Some(b'>') => "&gt;",
                Some(b'"') => "&quot;",
                _ => "&#39;",
            })?;
            rest = special.get(1..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

/// A text as a value in a URL's query.
struct InQuery<'a>(&'a str);

impl fmt::Display for InQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// A span of time for people: the largest unit that has a whole one.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        match ms.unsigned_abs() {
            0..1_000 => write!(f, "{ms} ms"),
            1_000..120_000 => write!(f, "{} s", ms / 1_000),
            120_000..7_200_000 => write!(f, "{} min", ms / 60_000),
            7_200_000..172_800_000 => write!(f, "{} h", ms / 3_600_000),
            _ => write!(f, "{} d", ms / 86_400_000),
        }
    }
}

/// A whole document around a body that is HTML already.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        Text(title)
    )
}

/// A page that only says what is wrong.
pub(crate) fn problem(text: &str) -> String {
    document("Not found", &format!("<p><a href=\"/\">All queues</a></p>\n<p>{}</p>\n", Text(text)))
}

/// Rows of a name and a value.
fn table<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> fmt::Result {
    out.push_str("<table class=\"pairs\">");
    for (name, value) in pairs {
        write!(out, "<tr><th>{}</th><td>{}</td></tr>", Text(name), Text(value))?;
    }
    out.push_str("</table>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        let evil = r#"<script>alert("x" & 'y')</script>"#;
        assert_eq!(
            Text(evil).to_string(),
            "&lt;script&gt;alert(&quot;x&quot; &amp; &#39;y&#39;)&lt;/script&gt;"
        );
        assert_eq!(Text("plain ☃").to_string(), "plain ☃");
        assert_eq!(InQuery("a b&c=\"☃").to_string(), "a%20b%26c%3D%22%E2%98%83");
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in
            [(0, "0 ms"), (999, "999 ms"), (61_000, "61 s"), (180_000, "3 min"), (-5_000, "-5 s")]
        {
            assert_eq!(Span(ms).to_string(), text);
        }
    }
}
