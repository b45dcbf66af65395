//! The audit subsystem's routes: one file per group, each handler short, every refusal a problem
//! document. The tenant comes from the key alone; what is shown comes from PostgreSQL, so an erased
//! log never shows, whatever the search engine still holds.

mod access;
mod archives;
mod change;
mod cleanup;
pub mod cursor;
mod export;
pub(crate) mod filters;
mod holds;
mod meta;
pub mod openapi;
mod page;
mod parse;
mod policies;
pub(crate) mod problems;
mod read;
mod reading;
mod retention;
mod rule_change;
mod runs;
mod search;
pub(crate) mod ticket;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{delete, get, post};
use database::Database;
use edge::{EdgeConfig, Gate, ReadBody, RequestInfo};
use queue_core::Clock;
use sinks::search::SharedSearch;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::archive::Reader;
use crate::event::EventLimits;
use crate::ingest::Ingest;
use crate::live::Live;
use crate::publish::Publisher;

pub use access::{ACCESS_QUERIES_MAX, ACCESS_WINDOW, AccessLog};
pub use page::PAGE_BYTES_MAX;
pub use retention::SIMULATIONS_MAX;
pub use search::{PAGE_DEFAULT, PAGE_MAX};
pub use write::BULK_EVENTS_MAX;

/// Limits of the routes as flags and environment variables.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Audit API limits")]
pub struct RouteConfig {
    /// Bytes of one event as it is stored, minified and escaped, at most
    #[arg(long, env = "EVENT_BYTES_MAX", default_value_t = 256 * 1024,
          value_parser = clap::value_parser!(u64).range(1_024..=524_288))]
    pub event_bytes_max: u64,

    /// Levels of nesting in an event's metadata at most
    #[arg(long, env = "METADATA_DEPTH_MAX", default_value_t = 16,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub metadata_depth_max: u8,

    /// Keys and array elements in an event's metadata at most, all levels together
    #[arg(long, env = "METADATA_FIELDS_MAX", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub metadata_fields_max: u32,

    /// Exports at the same time at most
    #[arg(long, env = "EXPORTS_MAX", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub exports_max: u32,
}

impl RouteConfig {
    /// The limits of one event.
    pub fn event_limits(&self) -> EventLimits {
        EventLimits {
            event_bytes: usize::try_from(self.event_bytes_max).unwrap_or(usize::MAX),
            metadata_depth: usize::from(self.metadata_depth_max),
            metadata_fields: self.metadata_fields_max as usize,
        }
    }
}

/// What the routes work with; shared by all requests.
pub struct Api {
    /// Key and rate checks.
    pub gate: Arc<Gate>,
    /// Accepting events.
    pub ingest: Ingest,
    /// Publishing changes.
    pub publisher: Publisher,
    /// Reading logs, under the API's role.
    pub database: Database,
    /// Finding logs.
    pub search: SharedSearch,
    /// The live tail.
    pub live: Live,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Sizes and times of bodies.
    pub edge: EdgeConfig,
    /// The archive, where one is set.
    pub archive: Option<Reader>,
    /// Exports under way.
    pub exports: Arc<Semaphore>,
    /// Simulations and dry runs under way.
    pub simulations: Arc<Semaphore>,
    /// Who read what.
    pub access: AccessLog,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("edge", &self.edge).finish_non_exhaustive()
    }
}

impl Api {
    /// When a request must be answered: counted from its arrival, less the time that the client
    /// took for its body.
    fn until(&self, info: &RequestInfo, body: &ReadBody<'_>) -> Instant {
        info.arrived + body.waited() + self.publisher.deadline()
    }
}

/// Every route, with the edge's layers before them.
pub fn router(api: Arc<Api>) -> Router {
    let gate = Arc::clone(&api.gate);
    let keyed = Router::new()
        .route("/logs", get(search::list).post(write::one))
        .route("/logs/bulk", post(write::bulk))
        .route("/logs/export", get(export::export))
        .route("/logs/cleanup", delete(cleanup::cleanup))
        .route("/logs/cleanup/{run}", get(cleanup::one))
        .route("/logs/cleanup/{run}/cancel", post(cleanup::cancel))
        .route("/archives/search", get(archives::search))
        .route("/logs/live/ticket", post(ticket::issue))
        .route("/logs/{id}/retention", get(retention::explain))
        .route("/policies", get(policies::list).post(policies::create))
        .route("/policies/{id}", get(policies::one).put(policies::change).delete(policies::delete))
        .route("/policies/{id}/versions", get(policies::versions))
        .route("/policies/{id}/simulate", post(retention::simulate))
        .route("/policies/{id}/runs", get(runs::list).post(runs::start))
        .route("/policies/{id}/runs/{run}", get(runs::one))
        .route("/policies/{id}/runs/{run}/approve", post(runs::approve))
        .route("/policies/{id}/runs/{run}/cancel", post(runs::cancel))
        .route("/holds", get(holds::list).post(holds::place))
        .route("/holds/{id}/release", post(holds::release))
        .route("/logs/{id}", get(read::one).patch(change::annotate).delete(change::erase));
    let open = Router::new()
        .route("/logs/live", get(crate::live::connect))
        .route("/healthz", get(meta::healthz))
        .route("/openapi.json", get(meta::openapi))
        .route("/docs", get(meta::docs));
    let routes = edge::authenticated(keyed, &gate)
        .merge(open)
        .method_not_allowed_fallback(meta::method_not_allowed)
        .fallback(meta::not_found)
        .route_layer(from_fn(edge::front::note_route))
        .with_state(api);
    edge::front(routes, &gate)
}
