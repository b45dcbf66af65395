//! A worker of the product with a note of when it began and ended each message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, Utc};
use queue_core::claim::ClaimStore;
use queue_core::{Delivery, Failure, ParkStore, Probe, Worker};

use crate::machine;

/// Characters of a failure that are shown.
const WHY_CHARS: usize = 120;

/// From when to when a message was handled.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The handler's begin.
    pub begun: Instant,
    /// The same by the wall clock, to be compared with files.
    pub begun_at: DateTime<Utc>,
    /// The handler's end.
    pub ended: Instant,
}

/// Messages that were handled well, by id; the last time where one came again.
pub type Handled = HashMap<u128, Span>;

/// The worker.
pub struct Noted<W> {
    inner: W,
    handled: Mutex<Handled>,
}

impl<W> Noted<W> {
    /// Around a worker.
    pub fn new(inner: W) -> Arc<Self> {
        Arc::new(Self { inner, handled: Mutex::default() })
    }

    /// What was handled well so far.
    pub fn handled(&self) -> Handled {
        self.handled.lock().expect("no handler panics").clone()
    }
}

impl<W: Worker> Worker for Noted<W> {
    const NAME: &'static str = W::NAME;
    const CONCURRENCY: usize = W::CONCURRENCY;
    const BYTES_IN_HAND: usize = W::BYTES_IN_HAND;
    const PROGRESS_TIMEOUT: std::time::Duration = W::PROGRESS_TIMEOUT;
    type Message = W::Message;

    async fn handle(&self, delivery: Delivery<W::Message>) -> Result<(), Failure> {
        let (id, begun) = (delivery.header.id.0.as_u128(), Instant::now());
        let begun_at = machine::now();
        let outcome = self.inner.handle(delivery).await;
        match &outcome {
            Ok(()) => {
                let span = Span { begun, begun_at, ended: Instant::now() };
                self.handled.lock().expect("no handler panics").insert(id, span);
            }
            Err(failure) => {
                let why: String = format!("{failure:?}").chars().take(WHY_CHARS).collect();
                eprintln!("  {}: {why}", W::NAME);
            }
        }
        outcome
    }

    fn claims(&self) -> Option<Arc<dyn ClaimStore>> {
        self.inner.claims()
    }

    fn probes(&self) -> Vec<Arc<dyn Probe>> {
        self.inner.probes()
    }

    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        self.inner.parking()
    }
}
