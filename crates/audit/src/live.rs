//! The live tail: `GET /logs/live` as a WebSocket. Redis is for speed, PostgreSQL for truth: what
//! comes over the feed is sent at once, and PostgreSQL is read below its snapshot's horizon, so that
//! nothing a cursor has passed can still appear.
//!
//! **Guarantee**: a client that reconnects with the cursor of the last frame it received misses
//! nothing; it can see repeats, which carry the same id. Within a connection repeats are dropped.
//! A client that does not keep up is closed and told where to resume; nothing is skipped silently.
//! What is not promised: an order among logs that were stored at the same time.

mod matcher;
mod position;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use contracts::Tenant;
use contracts::errors::{CURSOR_INVALID, INVALID_QUERY, OVERLOADED};
use database::Database;
use edge::{Principal, Problem, Scope};
use http::{HeaderMap, Uri};
use sinks::pubsub::Feed;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{Api, filters, problems, ticket};
use crate::store;
use matcher::Matcher;
pub use position::Position;
use session::Session;

/// Bytes of a message from a client at most; none is expected.
const CLIENT_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Backfills that read at the same time at most; each holds a page of records.
const BACKFILLS_MAX: usize = 4;

/// The live tail's bounds as flags and environment variables.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Live tail")]
pub struct LiveConfig {
    /// Live connections at most
    #[arg(long, env = "LIVE_CONNECTIONS_MAX", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub live_connections_max: u32,

    /// Seconds between heartbeats, 1 to 60
    #[arg(long, env = "LIVE_HEARTBEAT_SECS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    pub live_heartbeat_secs: u64,

    /// Milliseconds that a client may take to accept a frame before it is closed, 50 to 20000
    #[arg(long, env = "LIVE_SLOW_AFTER_MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(50..=20_000))]
    pub live_slow_after_ms: u64,
}

impl Default for LiveConfig {
    /// The documented defaults.
    fn default() -> Self {
        Self { live_connections_max: 1_000, live_heartbeat_secs: 15, live_slow_after_ms: 10_000 }
    }
}

impl LiveConfig {
    fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.live_heartbeat_secs)
    }

    fn slow_after(&self) -> Duration {
        Duration::from_millis(self.live_slow_after_ms)
    }
}

/// The live tail of one process. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    config: LiveConfig,
    feed: Feed,
    database: Database,
    connections: Arc<Semaphore>,
    backfills: Arc<Semaphore>,
    slow: Arc<AtomicU64>,
    tasks: TaskTracker,
    drain: CancellationToken,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Live {
    /// A live tail over that feed and database.
    pub fn new(config: LiveConfig, feed: Feed, database: Database) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(config.live_connections_max as usize)),
            backfills: Arc::new(Semaphore::new(BACKFILLS_MAX)),
            slow: Arc::default(),
            config,
            feed,
            database,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
        }
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.tasks.len()
    }

    /// Connections that were closed since the start because their client did not keep up.
    pub fn slow(&self) -> u64 {
        self.slow.load(Ordering::Relaxed)
    }

    /// Closes every connection, each told where to resume, and waits for them.
    pub async fn drain(&self) {
        self.drain.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where a new connection starts: at `after`, or at what is stored from now on.
    async fn start(&self, tenant: &Tenant, after: Option<&str>) -> Result<Position, Problem> {
        let mut transaction = self.database.tenant(tenant).await.map_err(problems::database)?;
        let now = store::feed_position(&mut transaction).await.map_err(problems::database)?;
        transaction.rollback().await.map_err(problems::database)?;
        let Some(after) = after else { return Ok(Position::before(now)) };
        let position = Position::decode(after)
            .ok_or_else(|| Problem::new(CURSOR_INVALID, "the cursor is damaged"))?;
        if position.epoch != now.epoch {
            let detail = "the cursor is from before a restore of the database; start without one";
            return Err(Problem::new(CURSOR_INVALID, detail));
        }
        Ok(position)
    }
}

/// Follows the tenant's logs as they are stored.
#[utoipa::path(get, path = "/logs/live", tag = "live", security(("key" = ["logs:tail"]), ()),
    params(crate::http::openapi::LiveParams),
    responses(
        (status = 101, description = "A WebSocket of JSON text frames: log, heartbeat, resume"),
        (status = "default", description = "A problem", body = crate::http::openapi::ProblemDocument, content_type = "application/problem+json")))]
pub(crate) async fn connect(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let filters = filters::Filters::read(&uri, &["after", "ticket"])?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(INVALID_QUERY, format!("expected a WebSocket handshake: {rejection}"))
    })?;
    let principal = principal(&api, filters.extra("ticket"), &headers).await?;
    principal.require(Scope::LogsTail)?;
    let matcher = Matcher::new(&filters.query)
        .map_err(|name| filters::wrong(format!("{name} cannot filter the live tail")))?;
    let live = api.live.clone();
    let permit = Arc::clone(&live.connections)
        .try_acquire_owned()
        .map_err(|_| Problem::new(OVERLOADED, "too many live connections").retry_after(10))?;
    let position = live.start(&principal.tenant, filters.extra("after")).await?;
    let subscription = live.feed.subscribe(&principal.tenant).map_err(problems::sink)?;
    let token = live.tasks.token();
    let authenticator = Arc::clone(api.gate.authenticator());
    let upgrade =
        upgrade.max_message_size(CLIENT_MESSAGE_BYTES_MAX).max_frame_size(CLIENT_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let session =
            Session::new(live, socket, principal, authenticator, matcher, position, subscription);
        session.run().await;
        drop((permit, token));
    }))
}

async fn principal(
    api: &Api,
    ticket: Option<&str>,
    headers: &HeaderMap,
) -> Result<Principal, Problem> {
    match ticket {
        Some(ticket) => ticket::take(api, ticket).await,
        None => Ok(api.gate.admit(headers).await?.0),
    }
}
