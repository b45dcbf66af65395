//! How long a connection may take for a request's head, and how long it may be idle between two
//! requests: two limits, since a load balancer keeps idle connections for a minute while a head
//! that takes ten seconds is an attack. hyper has one limit for both, so it is switched off there.
//!
//! What it never does: limit a request that is being worked on, or its body (the edge does).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use tokio::time::{Instant, Sleep};

/// Between two requests; nothing of the next one has come.
const IDLE: u64 = 0;
/// A head is expected: its first bytes are here, or the connection is new.
const HEAD: u64 = 1;
/// A request is being worked on or answered.
const BUSY: u64 = 2;
const PHASES: u64 = 4;

/// Where a connection is: its phase, and above it the number of changes so far.
#[derive(Debug)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// A new connection's.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(HEAD)))
    }

    fn phase(now: u64) -> u64 {
        now % PHASES
    }

    fn enter(&self, phase: u64) {
        // One task changes it: the connection's own.
        let changes = self.0.load(Ordering::Relaxed) / PHASES;
        self.0.store(changes.wrapping_add(1) * PHASES + phase, Ordering::Relaxed);
    }

    /// Bytes have come.
    pub(super) fn received(&self) {
        if Self::phase(self.0.load(Ordering::Relaxed)) == IDLE {
            self.enter(HEAD);
        }
    }

    /// A request's head is whole; the request lasts until the [`Turn`] is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.enter(BUSY);
        Turn(Arc::clone(self))
    }
}

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Turn(Arc<Pace>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// An answer's body; the turn ends when it has been handed over.
pub(super) struct Answer {
    body: Body,
    _turn: Turn,
}

impl Answer {
    pub(super) fn new(body: Body, turn: Turn) -> Self {
        Self { body, _turn: turn }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The head of a request.
    Head,
    /// The next request.
    Idle,
}

/// Watches a [`Pace`]. To be polled after the connection, in the connection's own task: only there
/// the pace changes, so no change goes unseen.
#[derive(Debug)]
pub(super) struct Watch {
    pace: Arc<Pace>,
    seen: Option<u64>,
    head: Duration,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(pace: Arc<Pace>, head: Duration, idle: Duration) -> Self {
        Self { pace, seen: None, head, idle, deadline: Box::pin(tokio::time::sleep(head)) }
    }

    /// Waits until something is overdue.
    pub(super) async fn overdue(&mut self) -> Overdue {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        let now = self.pace.0.load(Ordering::Relaxed);
        let (limit, overdue) = match Pace::phase(now) {
            BUSY => return Poll::Pending,
            HEAD => (self.head, Overdue::Head),
            _ => (self.idle, Overdue::Idle),
        };
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.deadline.as_mut().reset(Instant::now() + limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        // Whoever goes on nevertheless is told again, in a while.
        self.seen = None;
        Poll::Ready(overdue)
    }
}
