//! `GET /logs/export`: a whole search as NDJSON or CSV, streamed page by page. Nothing is held open
//! between pages but the connection; what was streamed carries cursors, so a broken export goes on
//! where it stopped. It breaks off (no final chunk) rather than end early without saying so.

mod csv_rows;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use contracts::errors::OVERLOADED;
use edge::{Principal, Problem, RequestInfo, Scope};
use futures_util::stream;
use http::{HeaderValue, Uri, header};
use serde_json::{Value, json};
use sinks::search::SortKey;
use tokio::sync::OwnedSemaphorePermit;

use super::access::{self, Read};
use super::cursor::{self, Fingerprint};
use super::filters::{Filters, wrong};
use super::{Api, page, problems};
use crate::model::StoredLog;

/// An export, in an entry: stored before the first byte, with the query ..
const STARTED: &str = "flotilla.logs.export_started";
/// .. and before the last, with how much it was; or later, where it broke off.
const ENDED: &str = "flotilla.logs.exported";

/// Logs per page of the stream: bounds what one export holds in memory.
const EXPORT_PAGE: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

/// Exports a search, newest first.
#[utoipa::path(get, path = "/logs/export", tag = "logs", security(("key" = ["logs:export"])),
    params(super::openapi::FilterParams, super::openapi::ExportParams),
    responses(
        (status = 200, description = "NDJSON: one log per line, a line {\"_cursor\":…} after every page, {\"_end\":{\"count\":…}} as the last. CSV: one row per log, its last column is the cursor to resume after it.",
            content((String = "application/x-ndjson"), (String = "text/csv"))),
        (status = "default", description = "A problem", body = super::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(super) async fn export(
    State(api): State<Arc<Api>>,
    principal: Principal,
    info: RequestInfo,
    uri: Uri,
) -> Result<Response, Problem> {
    principal.require(Scope::LogsExport)?;
    let filters = Filters::read(&uri, &["format", "cursor"])?;
    let format = match filters.extra("format") {
        None | Some("ndjson") => Format::Ndjson,
        Some("csv") => Format::Csv,
        Some(other) => return Err(wrong(format!("expected format ndjson or csv, got {other:?}"))),
    };
    let fingerprint = cursor::fingerprint(principal.tenant.as_str(), &filters.canonical);
    let after =
        filters.extra("cursor").map(|text| cursor::decode(text, fingerprint)).transpose()?;
    let permit = Arc::clone(&api.exports)
        .try_acquire_owned()
        .map_err(|_| Problem::new(OVERLOADED, "too many exports are under way").retry_after(10))?;
    let read = Read::new(STARTED, &principal, &info);
    let begun = json!({ "query": access::query(&filters), "resumed": after.is_some() });
    api.access.store(&read, begun).await?;
    let mut export = Export {
        api,
        principal,
        end: Some(read.then(ENDED)),
        filters,
        fingerprint,
        format,
        next: Next::Page(after),
        count: 0,
        bytes: 0,
        ready: VecDeque::new(),
        _permit: permit,
    };
    if format == Format::Csv {
        export.push(csv_rows::heading()?);
    }
    // The first page before the answer, so that what is wrong at the start has a status.
    export.fetch().await?;
    let (media, name) = match format {
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"logs.ndjson\""),
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"logs.csv\""),
    };
    let body = Body::from_stream(stream::try_unfold(export, Export::step));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body).into_response())
}

enum Next {
    /// The page after this key, from the start when `None`.
    Page(Option<SortKey>),
    /// Everything was read.
    End,
}

struct Export {
    api: Arc<Api>,
    principal: Principal,
    /// The audit entry of its end, until it is told.
    end: Option<Read>,
    filters: Filters,
    fingerprint: Fingerprint,
    format: Format,
    next: Next,
    /// Logs, and bytes with what is around them, that were made ready for the client.
    count: u64,
    bytes: u64,
    ready: VecDeque<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    /// The next chunk of the body.
    async fn step(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some((chunk, self)));
            }
            if matches!(self.next, Next::End) {
                return Ok(None);
            }
            self.fetch().await.map_err(|problem| {
                tracing::warn!(detail = %problem.detail, "an export broke off");
                io::Error::other(problem.detail)
            })?;
        }
    }

    async fn fetch(&mut self) -> Result<(), Problem> {
        let Next::Page(after) = self.next else { return Ok(()) };
        let tenant = &self.principal.tenant;
        let found = self
            .api
            .search
            .search(tenant, &self.filters.query, EXPORT_PAGE, after)
            .await
            .map_err(problems::sink)?;
        let (logs, next) = page::hydrate(&self.api, tenant, &found).await?;
        self.count += u64::try_from(logs.len()).unwrap_or(u64::MAX);
        self.next = next.map_or(Next::End, |key| Next::Page(Some(key)));
        let chunk = match self.format {
            Format::Ndjson => self.lines(&logs, next)?,
            Format::Csv => csv_rows::rows(&logs, self.fingerprint)?,
        };
        self.push(chunk);
        if matches!(self.next, Next::End)
            && let Some(read) = &self.end
        {
            // Before the last chunk: an export is whole only with its entry.
            self.api.access.store(read, self.told(true)).await?;
            self.end = None;
        }
        Ok(())
    }

    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.ready.push_back(chunk);
        }
    }

    fn told(&self, complete: bool) -> Value {
        json!({ "query": access::query(&self.filters), "results": self.count, "bytes": self.bytes,
                "complete": complete })
    }

    fn lines(&self, logs: &[StoredLog], next: Option<SortKey>) -> Result<Bytes, Problem> {
        let mut out = String::new();
        for log in logs {
            out.push_str(page::shown(log, "")?.get());
            out.push('\n');
        }
        match next {
            // Base64 needs no escapes.
            Some(key) => {
                let cursor = cursor::encode(key, self.fingerprint);
                out.extend(["{\"_cursor\":\"", &cursor, "\"}\n"]);
            }
            None => out.extend(["{\"_end\":{\"count\":", &self.count.to_string(), "}}\n"]),
        }
        Ok(Bytes::from(out))
    }
}

impl Drop for Export {
    /// It broke off, or the client went.
    fn drop(&mut self) {
        if let Some(read) = self.end.take() {
            self.api.access.later(&read, self.told(false));
        }
    }
}
