//! Query parameters to a search: `q`, equality filters, times, metadata. The same for searching,
//! exporting and following; an unknown parameter is refused, since a filter that is silently
//! ignored shows too much.

use std::collections::BTreeMap;

use axum::extract::Query as Pairs;
use chrono::{DateTime, Utc};
use contracts::errors::INVALID_QUERY;
use edge::Problem;
use http::Uri;
use sinks::search::{MetadataFilter, Query};

/// Characters of a parameter's value at most.
pub(crate) const VALUE_CHARS_MAX: usize = 1_024;
/// Tags, and metadata conditions, at most.
pub(crate) const CONDITIONS_MAX: usize = 16;

const SINGLE: [&str; 11] = [
    "q",
    "actor",
    "actor_type",
    "action",
    "target",
    "target_type",
    "outcome",
    "from",
    "to",
    "occurred_from",
    "occurred_to",
];

/// The parameters of one request.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// What to search for.
    pub(crate) query: Query,
    /// Every filter in a fixed order, for the cursor's fingerprint.
    pub(crate) canonical: String,
    /// The parameters as audit entries tell them, but for the cursor.
    pub(super) asked: serde_json::Map<String, serde_json::Value>,
    extras: BTreeMap<String, String>,
}

impl Filters {
    /// Reads a request's parameters; `extras` names those that are no filters.
    pub(crate) fn read(uri: &Uri, extras: &[&str]) -> Result<Self, Problem> {
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| wrong(format!("the query string cannot be read: {error}")))?;
        let mut filters = Self::default();
        let mut single: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in pairs {
            check_text(&name, &value)?;
            if name != "cursor" {
                super::access::add(&mut filters.asked, &name, &value);
            }
            if let Some(path) = name.strip_prefix("metadata.") {
                let path = path.to_owned();
                filters.query.metadata.push(MetadataFilter::Equals { path, value });
            } else if name == "exists" {
                let path = value.strip_prefix("metadata.").unwrap_or(&value).to_owned();
                filters.query.metadata.push(MetadataFilter::Exists { path });
            } else if name == "tag" {
                filters.query.tags.push(value);
            } else if SINGLE.contains(&name.as_str()) || extras.contains(&name.as_str()) {
                if single.insert(name.clone(), value).is_some() {
                    return Err(wrong(format!("expected {name} once, got it twice")));
                }
            } else {
                return Err(unknown(&name, extras));
            }
        }
        if filters.query.metadata.len().max(filters.query.tags.len()) > CONDITIONS_MAX {
            return Err(wrong(format!(
                "expected at most {CONDITIONS_MAX} tags or metadata filters"
            )));
        }
        filters.fill(&mut single)?;
        filters.extras = single;
        Ok(filters)
    }

    fn fill(&mut self, single: &mut BTreeMap<String, String>) -> Result<(), Problem> {
        let mut take = |name: &str| {
            let value = single.remove(name);
            if let Some(value) = &value {
                self.canonical.extend([name, "=", value, "\n"]);
            }
            value
        };
        let query = &mut self.query;
        if let Some(q) = take("q") {
            query.words = Query::parse_q(&q).map_err(|error| wrong(format!("q: {error}")))?;
        }
        query.actor_id = take("actor");
        query.actor_type = take("actor_type");
        query.action = take("action");
        query.target_id = take("target");
        query.target_type = take("target_type");
        query.outcome = take("outcome");
        query.recorded_at.from = time("from", take("from"))?;
        query.recorded_at.to = time("to", take("to"))?;
        query.occurred_at.from = time("occurred_from", take("occurred_from"))?;
        query.occurred_at.to = time("occurred_to", take("occurred_to"))?;
        if let Some(outcome) = &query.outcome
            && !["success", "failure", "denied", "unknown"].contains(&outcome.as_str())
        {
            return Err(wrong("expected outcome to be success, failure, denied or unknown"));
        }
        let mut many: Vec<String> = query.tags.iter().map(|tag| format!("tag={tag}\n")).collect();
        many.extend(query.metadata.iter().map(|filter| format!("{filter:?}\n")));
        many.sort();
        self.canonical.extend(many);
        Ok(())
    }

    /// A parameter that is no filter.
    pub(crate) fn extra(&self, name: &str) -> Option<&str> {
        self.extras.get(name).map(String::as_str)
    }

    /// A whole number between `min` and `max`, or `default`.
    pub(crate) fn number(
        &self,
        name: &str,
        (min, max): (usize, usize),
        default: usize,
    ) -> Result<usize, Problem> {
        let Some(text) = self.extra(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| wrong(format!("expected {name} to be {min} to {max}, got {text:?}")))
    }
}

/// A parameter cannot be understood.
pub(crate) fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(INVALID_QUERY, detail)
}

fn check_text(name: &str, value: &str) -> Result<(), Problem> {
    let name: String = name.chars().take(80).collect();
    if value.contains('\0') || name.contains('\0') {
        return Err(wrong(format!("{name}: expected no NUL character")));
    }
    if value.chars().count() > VALUE_CHARS_MAX {
        return Err(wrong(format!("{name}: expected at most {VALUE_CHARS_MAX} characters")));
    }
    if value.is_empty() && name != "q" {
        return Err(wrong(format!("{name}: expected a value")));
    }
    Ok(())
}

fn unknown(name: &str, extras: &[&str]) -> Problem {
    let known = [&SINGLE[..], &["tag", "metadata.PATH", "exists"], extras].concat().join(", ");
    wrong(format!("{:?} is no parameter of this route; expected one of {known}", shown(name)))
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn time(name: &str, text: Option<String>) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let at = DateTime::parse_from_rfc3339(&text).map_err(|_| {
        let got = shown(&text);
        wrong(format!(
            "expected {name} as RFC 3339 writes it, e.g. 2026-01-31T12:00:00Z; got {got:?}"
        ))
    })?;
    Ok(Some(at.with_timezone(&Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Filters, String> {
        let uri = format!("/logs?{query}").parse().unwrap();
        Filters::read(&uri, &["limit", "cursor"]).map_err(|problem| problem.detail)
    }

    #[test]
    fn every_filter_is_read() {
        let filters = of("q=hello+%22two+words%22&actor=u%201&actor_type=user&action=a&target=t\
            &target_type=d&outcome=denied&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00%2B01:00\
            &tag=x&tag=y&metadata.request.host=h&exists=metadata.error&limit=7")
        .unwrap();
        let query = &filters.query;
        assert_eq!(query.words.len(), 2);
        assert_eq!(query.actor_id.as_deref(), Some("u 1"));
        assert_eq!(query.tags, ["x", "y"]);
        assert_eq!(query.recorded_at.to.unwrap().to_rfc3339(), "2026-01-01T23:00:00+00:00");
        assert_eq!(
            query.metadata,
            [
                MetadataFilter::Equals { path: "request.host".into(), value: "h".into() },
                MetadataFilter::Exists { path: "error".into() },
            ]
        );
        assert_eq!(filters.number("limit", (1, 10), 5).unwrap(), 7);
        assert_eq!(of("").unwrap().number("limit", (1, 10), 5).unwrap(), 5);
        assert!(of("limit=11").unwrap().number("limit", (1, 10), 5).is_err());
        assert!(of("limit=x").unwrap().number("limit", (1, 10), 5).is_err());
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for (query, word) in [
            ("user=bob", "no parameter of this route"),
            ("actor=a&actor=b", "twice"),
            ("actor=", "expected a value"),
            ("from=yesterday", "RFC 3339"),
            ("outcome=ok", "success, failure"),
            ("q=%22open", "not closed"),
            ("actor=%00", "NUL"),
            (&format!("actor={}", "x".repeat(VALUE_CHARS_MAX + 1)), "at most 1024"),
            (&"tag=x&".repeat(CONDITIONS_MAX + 1), "at most 16"),
        ] {
            let detail = of(query).unwrap_err();
            assert!(detail.contains(word), "{query}: {detail}");
        }
        assert!(of(&format!("actor={}", "x".repeat(VALUE_CHARS_MAX))).is_ok());
        assert!(of(&"tag=x&".repeat(CONDITIONS_MAX)).is_ok());
    }

    #[test]
    fn the_canonical_form_ignores_order_and_extras_but_no_filter() {
        let canonical = |query: &str| of(query).unwrap().canonical;
        assert_eq!(
            canonical("actor=a&tag=x&tag=y&limit=1"),
            canonical("tag=y&limit=2&tag=x&actor=a")
        );
        assert_ne!(canonical("actor=a"), canonical("target=a"));
        assert_ne!(canonical("metadata.a=b"), canonical("metadata.b=a"));
        assert_ne!(canonical("q=a"), canonical("q=b"));
    }
}
