//! From a body's bytes to pieces of raw JSON: media type, UTF-8, JSON array or NDJSON, counts.
//! It never looks into an event.

use contracts::errors::{BODY_TOO_LARGE, INVALID_JSON, INVALID_QUERY, UNSUPPORTED_MEDIA_TYPE};
use edge::Problem;
use http::{HeaderMap, header};
use serde_json::value::RawValue;

use super::problems;
use crate::event::{Elements, Invalid, elements};
use crate::ingest::Piece;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Lines,
}

/// The body's media type, where it is one of `taken`.
pub(super) fn media(headers: &HeaderMap, taken: &[Media]) -> Result<Media, Problem> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let media = match kind.trim() {
        "application/json" => Some(Media::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Media::Lines),
        _ => None,
    };
    let charset = parameters.split(';').find_map(|part| part.trim().strip_prefix("charset="));
    let utf8 = charset.is_none_or(|name| name.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    media.filter(|media| utf8 && taken.contains(media)).ok_or_else(|| {
        let expected = if taken.contains(&Media::Lines) {
            "application/json or application/x-ndjson, in UTF-8"
        } else {
            "application/json, in UTF-8"
        };
        let got = if text.is_empty() { "none".to_owned() } else { format!("{text:.80}") };
        Problem::new(
            UNSUPPORTED_MEDIA_TYPE,
            format!("expected the content type {expected}; got {got}"),
        )
    })
}

/// The body as text.
pub(super) fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(INVALID_JSON, format!("expected UTF-8; byte {at} of the body is not"))
    })
}

/// A whole JSON text.
pub(super) fn json(text: &str) -> Result<&RawValue, Problem> {
    serde_json::from_str(text)
        .map_err(|error| Problem::new(INVALID_JSON, format!("not valid JSON: {error}")))
}

/// The elements of a JSON array of 1 to `max`.
pub(super) fn array(text: &str, max: usize) -> Result<Vec<Piece<'_>>, Problem> {
    let raw = json(text)?;
    match elements(raw, max) {
        Elements::NoArray => {
            Err(problems::one_field("", format!("expected an array of 1 to {max} events")))
        }
        Elements::TooMany(count) => Err(too_many(count, max)),
        Elements::All(all) if all.is_empty() => Err(none(max)),
        Elements::All(all) => Ok(all.into_iter().map(Ok).collect()),
    }
}

/// The lines of an NDJSON text of 1 to `max`; blank ones do not count.
pub(super) fn lines(text: &str, max: usize) -> Result<Vec<Piece<'_>>, Problem> {
    let blank = |line: &str| line.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r'));
    let filled = || text.split('\n').filter(|line| !blank(line));
    match filled().count() {
        0 => Err(none(max)),
        count if count > max => Err(too_many(count, max)),
        _ => Ok(filled().map(line).collect()),
    }
}

fn line(text: &str) -> Piece<'_> {
    serde_json::from_str(text).map_err(|error| Invalid::Json(error.to_string()))
}

fn none(max: usize) -> Problem {
    problems::one_field("", format!("expected 1 to {max} events, got none"))
}

fn too_many(count: usize, max: usize) -> Problem {
    Problem::new(BODY_TOO_LARGE, format!("{count} events; the limit is {max} per request"))
}

/// The value of an `Idempotency-Key` header: 1 to 255 visible ASCII characters.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let valid = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if valid {
        return Ok(Some(text));
    }
    Err(Problem::new(
        INVALID_QUERY,
        "expected an Idempotency-Key of 1 to 255 visible ASCII characters without spaces",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn media_types() {
        let of = |text: &str, taken: &[Media]| {
            media(&with("content-type", text), taken).map_err(|problem| problem.code.status)
        };
        let both = [Media::Json, Media::Lines];
        assert_eq!(of("application/json", &both), Ok(Media::Json));
        assert_eq!(of("Application/JSON; Charset=\"UTF-8\"", &both), Ok(Media::Json));
        assert_eq!(of("application/x-ndjson", &both), Ok(Media::Lines));
        assert_eq!(of("application/x-ndjson", &[Media::Json]), Err(415));
        assert_eq!(of("application/json; charset=latin1", &both), Err(415));
        assert_eq!(of("text/plain", &both), Err(415));
        assert_eq!(media(&HeaderMap::new(), &both).unwrap_err().code.status, 415);
    }

    #[test]
    fn lines_are_pieces_of_their_own() {
        let pieces = lines("{\"a\":1}\r\n\n {bad}\n7", 3).unwrap();
        assert_eq!(pieces.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(lines("1\n2\n3\n4", 3).unwrap_err().code.status, 413);
        assert_eq!(lines("\n \r\n", 3).unwrap_err().code.status, 422);
    }

    #[test]
    fn arrays_have_one_to_so_many_elements() {
        assert_eq!(array("[1,2,3]", 3).unwrap().len(), 3);
        assert_eq!(array("[1,2,3,4]", 3).unwrap_err().code.status, 413);
        assert_eq!(array("[]", 3).unwrap_err().code.status, 422);
        assert_eq!(array("{}", 3).unwrap_err().code.status, 422);
        assert_eq!(array("[1,", 3).unwrap_err().code.status, 400);
        assert_eq!(
            text(b"ab\xff").unwrap_err().detail,
            "expected UTF-8; byte 2 of the body is not"
        );
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        let of =
            |text: &str| idempotency_key(&with("idempotency-key", text)).map(|key| key.is_some());
        assert!(of("a").unwrap() && of(&"k".repeat(255)).unwrap());
        assert!(of("").is_err() && of("a b").is_err() && of(&"k".repeat(256)).is_err());
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    }
}
