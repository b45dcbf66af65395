//! The API's description (OpenAPI 3.1) and the page that shows it: written once at first use, from
//! the handlers' own annotations. The page is plain HTML made here, without scripts.

#![expect(dead_code, reason = "the types describe what travels; only their schemas are used")]

mod render;
pub(super) mod retention;

use std::sync::LazyLock;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

/// An event: who did what to which things, and how it ended.
#[derive(ToSchema)]
#[schema(example = json!({
    "actor": {"type": "user", "id": "u-17", "name": "Ada"},
    "action": "invoice.paid",
    "targets": [{"type": "invoice", "id": "i-9"}],
    "context": {"ip": "203.0.113.7"},
    "outcome": "success",
    "metadata": {"amount": 12.50}
}))]
pub(super) struct Event {
    /// Who did it.
    actor: Party,
    /// What was done, 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    action: String,
    /// To what.
    #[schema(max_items = 32)]
    targets: Option<Vec<Party>>,
    /// How it reached you.
    context: Option<Context>,
    /// How it ended; absent means unknown.
    outcome: Option<Outcome>,
    /// When it happened, RFC 3339: from 400 days back to 5 minutes ahead (any time since 1970 with
    /// the scope logs:import).
    #[schema(format = DateTime)]
    occurred_at: Option<String>,
    /// Anything else: at most 16 levels and 1,000 keys and array elements.
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
}

/// An actor or a target.
#[derive(ToSchema)]
pub(super) struct Party {
    /// Kind of thing, e.g. `user`.
    #[schema(min_length = 1, max_length = 64)]
    r#type: String,
    /// Its id in your system.
    #[schema(min_length = 1, max_length = 256)]
    id: String,
    /// A name for people.
    #[schema(min_length = 1, max_length = 256)]
    name: Option<String>,
}

/// The circumstances of an event.
#[derive(ToSchema)]
pub(super) struct Context {
    /// An IPv4 or IPv6 address.
    ip: Option<String>,
    /// The actor's user agent.
    #[schema(max_length = 1024)]
    user_agent: Option<String>,
    /// A session in your system.
    #[schema(max_length = 256)]
    session: Option<String>,
    /// A request in your system.
    #[schema(max_length = 256)]
    request_id: Option<String>,
}

/// How an event ended.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It was done.
    Success,
    /// It was tried and did not work.
    Failure,
    /// It was not allowed.
    Denied,
    /// You cannot tell.
    Unknown,
}

/// Where a log came from, as the server saw it.
#[derive(ToSchema)]
pub(super) struct Source {
    /// Public part of the API key.
    key_id: String,
    /// Address of the client.
    ip: Option<String>,
    /// Its user agent.
    user_agent: Option<String>,
}

/// A stored log. What was sent is never edited.
#[derive(ToSchema)]
pub(super) struct Log {
    /// The log's id, a UUIDv7.
    id: uuid::Uuid,
    /// Whose it is.
    tenant: String,
    /// When the server took it, UTC, microseconds.
    recorded_at: String,
    /// How long it is kept: 7d, 30d, 90d, 1y, 7y or custom.
    class: String,
    /// Where it came from.
    source: Source,
    /// What was sent, number for number.
    event: Event,
    /// How many changes were appended.
    revision: i64,
    /// The newest tags.
    tags: Vec<String>,
    /// The newest annotation.
    annotation: Option<String>,
}

/// A stored log with its newest 200 revisions, newest first.
#[derive(ToSchema)]
pub(super) struct LogWithRevisions {
    /// The log.
    #[schema(inline)]
    #[serde(flatten)]
    log: Log,
    /// What was appended.
    revisions: Vec<super::read::Revision>,
}

/// A problem document (RFC 9457).
pub(crate) type ProblemDocument = edge::problem::Document<'static>;

/// What to search for; every part must match.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterParams {
    /// Words that must all occur, "phrases" in quotation marks, prefix*.
    q: Option<String>,
    /// Exactly this actor id.
    actor: Option<String>,
    /// Exactly this actor type.
    actor_type: Option<String>,
    /// Exactly this action.
    action: Option<String>,
    /// A target with this id.
    target: Option<String>,
    /// A target of this type; with `target`, the same target has both.
    target_type: Option<String>,
    /// success, failure, denied or unknown.
    outcome: Option<String>,
    /// Taken by the server at or after, RFC 3339.
    from: Option<String>,
    /// Taken by the server before, RFC 3339.
    to: Option<String>,
    /// Happened at or after, by the client's clock.
    occurred_from: Option<String>,
    /// Happened before, by the client's clock.
    occurred_to: Option<String>,
    /// A tag that it has; repeat for more, at most 16.
    tag: Option<String>,
    /// Write `metadata.request.host=example.org`: the value at that path; at most 16 with `exists`.
    #[param(rename = "metadata.PATH")]
    metadata: Option<String>,
    /// A metadata path that holds something.
    exists: Option<String>,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Logs at most, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

/// How to export.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportParams {
    /// ndjson or csv.
    format: Option<String>,
    /// Where an earlier export broke off, with the same filters.
    cursor: Option<String>,
}

/// What to follow.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiveParams {
    /// Cursor of the last frame received; absent: from now on.
    after: Option<String>,
    /// From `POST /logs/live/ticket`, in place of the key.
    ticket: Option<String>,
    /// Exactly this actor id.
    actor: Option<String>,
    /// Exactly this actor type.
    actor_type: Option<String>,
    /// Exactly this action.
    action: Option<String>,
    /// A target with this id.
    target: Option<String>,
    /// A target of this type.
    target_type: Option<String>,
    /// success, failure, denied or unknown.
    outcome: Option<String>,
    /// The value at a metadata path.
    #[param(rename = "metadata.PATH")]
    metadata: Option<String>,
    /// A metadata path that holds something.
    exists: Option<String>,
}

struct KeyScheme;

impl Modify for KeyScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("flt_{env}_{key id}_{secret}".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flotilla",
        description = "Audit logs: send, search, export, follow live. Every refusal is a problem document (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        super::write::one,
        super::write::bulk,
        super::search::list,
        super::archives::search,
        super::export::export,
        super::read::one,
        super::change::annotate,
        super::change::erase,
        super::cleanup::cleanup,
        super::cleanup::one,
        super::cleanup::cancel,
        crate::live::connect,
        super::ticket::issue,
        super::policies::list,
        super::policies::create,
        super::policies::one,
        super::policies::change,
        super::policies::delete,
        super::policies::versions,
        super::retention::simulate,
        super::retention::explain,
        super::runs::list,
        super::runs::start,
        super::runs::one,
        super::runs::approve,
        super::runs::cancel,
        super::holds::list,
        super::holds::place,
        super::holds::release,
        super::meta::healthz,
        super::meta::openapi,
        super::meta::docs,
    ),
    components(schemas(Event, Log, LogWithRevisions, ProblemDocument)),
    modifiers(&KeyScheme),
    tags(
        (name = "logs", description = "Logs"),
        (name = "live", description = "The live tail"),
        (name = "retention", description = "Retention policies and legal holds"),
        (name = "meta", description = "About this server, without a key"),
    )
)]
struct Description;

static JSON: LazyLock<String> =
    LazyLock::new(|| Description::openapi().to_json().unwrap_or_default());
static PAGE: LazyLock<String> =
    LazyLock::new(|| render::page(&serde_json::from_str(&JSON).unwrap_or_default()));

/// The description as JSON.
pub fn json() -> &'static str {
    &JSON
}

/// The page.
pub(super) fn page() -> &'static str {
    &PAGE
}
