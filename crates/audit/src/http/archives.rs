//! `GET /archives/search`: events that are in the archive, by time, action and actor. Only the blocks
//! that may hold them are fetched, and a page stops at a bound of its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::errors::{ARCHIVE_UNAVAILABLE, CURSOR_INVALID, INTERNAL, INVALID_QUERY};
use edge::{Principal, Problem, RequestInfo, Scope};
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::access::{self, Read};
use super::filters::Filters;
use super::{Api, cursor, problems};
use crate::archive::reader::{PAGE_LINES_MAX, Position, ReadError, Wanted};

/// Lines per page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;

/// A page of archived events.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ArchivePage {
    /// In the order of hours and ids; a revision is an item of its own behind its event.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Found>,
    /// Pass as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Blocks of the archive that were read for this page.
    blocks_read: usize,
}

/// One line, and where it stands.
#[derive(Serialize)]
struct Found {
    /// The object that holds it.
    object: String,
    /// Number of its manifest in the tenant's chain.
    manifest: u64,
    /// The line, byte for byte.
    record: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Cursor {
    of: cursor::Fingerprint,
    at: Position,
}

/// Searches the archive, oldest hour first.
#[utoipa::path(get, path = "/archives/search", tag = "archives", security(("key" = ["archives:read"])),
    params(
        ("from" = String, Query, description = "Recorded at this time or later (RFC 3339); needed"),
        ("to" = String, Query, description = "Recorded before this time (RFC 3339); needed"),
        ("action" = Option<String>, Query, description = "This action; a `*` at its end stands for any rest"),
        ("actor" = Option<String>, Query, description = "By the actor of this id"),
        ("limit" = Option<u32>, Query, description = "Lines per page, 1 to 1000; 100 by default"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses(
        (status = 200, description = "A page; it can be empty and still have a next one", body = ArchivePage),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn search(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    uri: Uri,
) -> Result<Json<ArchivePage>, Problem> {
    principal.require(Scope::ArchivesRead)?;
    let reader = api.archive.as_ref().ok_or_else(|| {
        Problem::new(ARCHIVE_UNAVAILABLE, "this API was started without an archive")
    })?;
    let filters = Filters::read(&uri, &["limit", "cursor"])?;
    let limit = filters.number("limit", (1, PAGE_LINES_MAX), PAGE_DEFAULT)?;
    let of = cursor::fingerprint(principal.tenant.as_str(), &filters.canonical);
    let after = filters.extra("cursor").map(|text| read_cursor(text, of)).transpose()?;
    let wanted = wanted(&filters)?;
    let page = reader.search(&principal.tenant, &wanted, &after.unwrap_or_default(), limit).await;
    let page = page.map_err(problem)?;
    let next_cursor = page.next.map(|at| write_cursor(&Cursor { of, at })).transpose()?;
    let mut events = Vec::with_capacity(page.lines.len());
    for line in page.lines {
        let record =
            String::from_utf8(line.bytes).ok().and_then(|text| RawValue::from_string(text).ok());
        let record =
            record.ok_or_else(|| Problem::new(INTERNAL, "an archived record is no JSON"))?;
        events.push(Found { object: line.object, manifest: line.manifest, record });
    }
    let told = json!({ "query": access::query(&filters), "results": events.len() });
    api.access.store(&Read::new("flotilla.archives.searched", &principal, &info), told).await?;
    Ok(Json(ArchivePage { events, next_cursor, blocks_read: page.blocks }))
}

fn wanted(filters: &Filters) -> Result<Wanted, Problem> {
    let wrong = |detail: &str| Problem::new(INVALID_QUERY, detail.to_owned());
    let query = &filters.query;
    let (Some(from), Some(to)) = (query.recorded_at.from, query.recorded_at.to) else {
        return Err(wrong("expected from and to: the archive is read by time"));
    };
    let wanted = Wanted { from, to, action: query.action.clone(), actor: query.actor_id.clone() };
    let alone = sinks::search::Query {
        recorded_at: query.recorded_at,
        action: query.action.clone(),
        actor_id: query.actor_id.clone(),
        ..sinks::search::Query::default()
    };
    if *query != alone {
        return Err(wrong("expected from, to, action, actor, limit and cursor only"));
    }
    Ok(wanted)
}

fn read_cursor(text: &str, of: cursor::Fingerprint) -> Result<Position, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let cursor: Option<Cursor> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match cursor {
        Some(cursor) if cursor.of == of => Ok(cursor.at),
        Some(_) => {
            let detail = "the cursor belongs to a search with other parameters";
            Err(Problem::new(CURSOR_INVALID, detail))
        }
        None => Err(Problem::new(CURSOR_INVALID, "the cursor is damaged")),
    }
}

fn write_cursor(cursor: &Cursor) -> Result<String, Problem> {
    let bytes = serde_json::to_vec(cursor);
    bytes
        .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
        .map_err(|error| Problem::new(INTERNAL, format!("the cursor cannot be written: {error}")))
}

fn problem(error: ReadError) -> Problem {
    match error {
        ReadError::Store(error) => problems::sink(error),
        ReadError::Database(error) => problems::database(error),
        ReadError::TooWide(_) => Problem::new(INVALID_QUERY, error.to_string()),
        ReadError::Damaged { .. } => {
            tracing::error!(%error, "the archive is not what was archived");
            Problem::new(INTERNAL, "an object of the archive is damaged or missing")
        }
    }
}
