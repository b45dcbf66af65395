//! One live connection: what the feed brings is sent at once, PostgreSQL is read to prove that
//! nothing is missing, and the cursor moves only over what is proved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use chrono::SecondsFormat;
use contracts::LogId;
use edge::{Authenticator, Principal};
use queue_core::{Clock, SystemClock};
use sinks::pubsub::{FeedEvent, Signal, Subscription};
use tokio::time::{Instant, MissedTickBehavior};

use super::Live;
use super::matcher::Matcher;
use super::position::Position;
use crate::store;

/// Rows of a backfill's page; bounds what a connection holds in memory.
const PAGE: i64 = 100;
/// How often a connection looks whether anything is due.
const TICK: Duration = Duration::from_secs(1);
/// PostgreSQL is read this long after the last time when the feed brought something.
const PROVE_EVERY: Duration = Duration::from_secs(5);
/// Ids sent ahead of the cursor that are remembered, to drop repeats. Beyond, logs come from
/// PostgreSQL alone.
const AHEAD_MAX: usize = 10_000;
/// A proof is due when this many ids are ahead.
const AHEAD_PROVE: usize = 1_000;
/// How long the last frames of a connection may take.
const CLOSE_BUDGET: Duration = Duration::from_secs(15);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ClientGone,
    Slow,
    Draining,
    KeyRefused,
    Restored,
}

impl End {
    /// Close code and reason; application codes are 4000 to 4999 (RFC 6455, 7.4.2).
    const fn told(self) -> (u16, &'static str) {
        match self {
            Self::ClientGone => (1000, "bye"),
            Self::Slow => (4008, "slow-client"),
            Self::Draining => (1012, "restart"),
            Self::KeyRefused => (4401, "key-refused"),
            Self::Restored => (4009, "restored"),
        }
    }
}

/// One connection.
pub(super) struct Session {
    live: Live,
    socket: WebSocket,
    principal: Principal,
    authenticator: Arc<Authenticator>,
    matcher: Matcher,
    subscription: Subscription<FeedEvent>,
    /// Everything up to here was sent.
    proved: Position,
    /// Sent from the feed, not yet covered by `proved`.
    ahead: HashMap<LogId, u64>,
    /// A proof is due: something may be missing.
    doubt: bool,
    /// The feed brought something since the last proof.
    moved: bool,
    proved_at: Instant,
    heartbeat_at: Instant,
}

impl Session {
    pub(super) fn new(
        live: Live,
        socket: WebSocket,
        principal: Principal,
        authenticator: Arc<Authenticator>,
        matcher: Matcher,
        proved: Position,
        subscription: Subscription<FeedEvent>,
    ) -> Self {
        let now = Instant::now();
        Self {
            live,
            socket,
            principal,
            authenticator,
            matcher,
            subscription,
            proved,
            ahead: HashMap::new(),
            doubt: true,
            moved: false,
            proved_at: now,
            heartbeat_at: now,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        metrics::gauge!("flotilla_live_connections").increment(1.0);
        let end = self.serve().await.err().unwrap_or(End::ClientGone);
        metrics::gauge!("flotilla_live_connections").decrement(1.0);
        if end == End::Slow {
            self.live.slow.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        metrics::counter!("flotilla_live_closed_total", "reason" => end.told().1).increment(1);
        self.close(end).await;
    }

    async fn serve(&mut self) -> Result<(), End> {
        let drain = self.live.drain.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut feed_open = true;
        // The first frame tells a client where it stands, before anything happens.
        self.heartbeat().await?;
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return Err(End::Draining),
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::ClientGone),
                    // Pongs are written by the library; nothing else is asked of a client.
                    Some(Ok(_)) => {}
                },
                _ = tick.tick() => self.on_tick().await?,
                signal = self.subscription.recv(), if feed_open => match signal {
                    Some(Signal::Item(event)) => self.on_event(event).await?,
                    Some(Signal::Gap) => {
                        self.doubt = true;
                        self.prove().await?;
                    }
                    None => feed_open = false,
                },
            }
        }
    }

    async fn on_tick(&mut self) -> Result<(), End> {
        // The answer is cached; while nobody can answer, the connection goes on.
        if let Err(problem) = self.authenticator.recheck(&self.principal.key_id).await
            && !problem.code.retryable
        {
            return Err(End::KeyRefused);
        }
        let beat = self.heartbeat_at.elapsed() >= self.live.config.heartbeat();
        let stale = self.moved && self.proved_at.elapsed() >= PROVE_EVERY;
        let many = self.ahead.len() >= AHEAD_PROVE;
        if beat || stale || many || self.doubt || !self.live.feed.is_listening() {
            self.prove().await?;
        }
        if beat { self.heartbeat().await } else { Ok(()) }
    }

    /// Something was stored a moment ago.
    async fn on_event(&mut self, event: FeedEvent) -> Result<(), End> {
        self.moved = true;
        let known = self.ahead.contains_key(&event.id);
        if known || self.proved.covers(event.ingest_xid, event.id) {
            return Ok(());
        }
        if self.ahead.len() >= AHEAD_MAX {
            self.doubt = true;
            return Ok(());
        }
        let record = match event.record {
            Some(record) => record,
            // Too large for the feed; where PostgreSQL cannot give it now, a proof will bring it.
            None => match self.fetch(event.id).await {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::debug!(%error, "large log not fetched for the live tail");
                    self.doubt = true;
                    return Ok(());
                }
            },
        };
        self.ahead.insert(event.id, event.ingest_xid);
        if self.matcher.matches(&record) { self.send_log(&record).await } else { Ok(()) }
    }

    async fn fetch(&mut self, id: LogId) -> Result<Option<Bytes>, sqlx::Error> {
        let mut transaction = self.live.database.tenant(&self.principal.tenant).await?;
        let found = store::find(&mut transaction, &self.principal.tenant, id).await?;
        transaction.rollback().await?;
        Ok(found.map(|log| log.record))
    }

    /// Reads what PostgreSQL has beyond the cursor, sends what was not sent, moves the cursor. When
    /// PostgreSQL does not answer, the doubt stays and the next tick tries again.
    async fn prove(&mut self) -> Result<(), End> {
        loop {
            let (position, rows) = match self.read().await {
                Ok(read) => read,
                Err(error) => {
                    tracing::debug!(%error, "live tail not proved");
                    self.doubt = true;
                    return Ok(());
                }
            };
            if position.epoch != self.proved.epoch {
                return Err(End::Restored);
            }
            let full = rows.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
            for row in rows {
                let (id, xid) = (row.key.id, row.ingest_xid);
                let sent = self.ahead.remove(&id).is_some();
                if !sent && self.matcher.matches(&row.record) {
                    // Before the cursor moves, so that a frame that fails is not passed over. The
                    // frame itself carries the cursor behind it.
                    let there = Position { xid, id, ..self.proved };
                    self.send_log_at(&row.record, there).await?;
                }
                self.proved = Position { xid, id, ..self.proved };
            }
            if full {
                if self.live.drain.is_cancelled() {
                    return Err(End::Draining);
                }
                continue;
            }
            self.proved = self.proved.max(position);
            let proved = self.proved;
            self.ahead.retain(|id, xid| !proved.covers(*xid, *id));
            self.doubt = false;
            self.moved = false;
            self.proved_at = Instant::now();
            return Ok(());
        }
    }

    /// The horizon first, then the rows: what they show is at least as new.
    async fn read(&mut self) -> Result<(Position, Vec<crate::model::StoredLog>), sqlx::Error> {
        let Ok(_permit) = self.live.backfills.acquire().await else {
            return Err(sqlx::Error::PoolClosed);
        };
        let tenant = &self.principal.tenant;
        let mut transaction = self.live.database.tenant(tenant).await?;
        let now = store::feed_position(&mut transaction).await?;
        let after = (self.proved.xid, self.proved.id);
        let rows = store::backfill_after(&mut transaction, tenant, after, PAGE).await?;
        transaction.rollback().await?;
        Ok((Position::before(now), rows))
    }

    async fn send_log(&mut self, record: &[u8]) -> Result<(), End> {
        self.send_log_at(record, self.proved).await
    }

    async fn send_log_at(&mut self, record: &[u8], cursor: Position) -> Result<(), End> {
        let Ok(record) = std::str::from_utf8(record) else { return Ok(()) };
        let cursor = cursor.encode();
        // Base64 needs no escapes, and the record is JSON.
        let frame = [r#"{"type":"log","cursor":""#, &cursor, r#"","log":"#, record, "}"].concat();
        metrics::counter!("flotilla_live_logs_total").increment(1);
        self.send(frame).await
    }

    async fn heartbeat(&mut self) -> Result<(), End> {
        self.heartbeat_at = Instant::now();
        let at = SystemClock.now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let cursor = self.proved.encode();
        self.send(format!(r#"{{"type":"heartbeat","cursor":"{cursor}","at":"{at}"}}"#)).await
    }

    async fn send(&mut self, frame: String) -> Result<(), End> {
        let sending = self.socket.send(Message::Text(frame.into()));
        match tokio::time::timeout(self.live.config.slow_after(), sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::ClientGone),
            Err(_) => Err(End::Slow),
        }
    }

    /// Tells where to resume and closes; a client that reads nothing is cut off.
    async fn close(mut self, end: End) {
        if end == End::ClientGone {
            return;
        }
        let (code, reason) = end.told();
        let cursor = self.proved.encode();
        let last = async {
            let frame = format!(r#"{{"type":"resume","cursor":"{cursor}","reason":"{reason}"}}"#);
            self.socket.send(Message::Text(frame.into())).await?;
            let reason = format!("{reason}; resume after={cursor}").into();
            self.socket.send(Message::Close(Some(CloseFrame { code, reason }))).await
        };
        match tokio::time::timeout(CLOSE_BUDGET, last).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "live client gone before it was told"),
            Err(_) => tracing::debug!("live client read nothing to the end"),
        }
    }
}
