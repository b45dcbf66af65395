//! The watch over the sinks: one task that probes when an error asks for it and, while a sink is
//! down, at growing intervals. A healthy, idle worker probes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::circuit::State;
use super::{Breakers, Probe};
use crate::lease::{Cause, Leases};

/// A probe that takes longer has failed.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Between two looks that errors ask for.
const LOOKS_APART: Duration = Duration::from_secs(1);
/// Handlers that still run this long after a sink went down are stopped and their messages released.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Watch {
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) probes: Vec<Arc<dyn Probe>>,
    pub(crate) leases: Arc<Leases>,
}

impl Watch {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut opened_at: Option<Instant> = None;
        let mut released = false;
        loop {
            let next_look = self.breakers.next_look();
            let release_at = opened_at.filter(|_| !released).map(|at| at + GRACE);
            let wake = [next_look, release_at].into_iter().flatten().min();
            let suspected = tokio::select! {
                biased;
                () = self.breakers.suspected.notified() => true,
                () = sleep_until(wake) => false,
            };
            let now = Instant::now();
            if suspected || next_look.is_some_and(|at| at <= now) {
                self.look(suspected).await;
            }
            if self.breakers.open() {
                let since = *opened_at.get_or_insert(now);
                if !released && Instant::now() >= since + GRACE {
                    self.leases.cancel_all(Cause::SinkDown);
                    released = true;
                }
            } else {
                opened_at = None;
                released = false;
            }
            if suspected {
                tokio::time::sleep(LOOKS_APART).await;
            }
        }
    }

    /// Asks the sinks: all of them after an error, else those that are due.
    async fn look(&self, all: bool) {
        let now = Instant::now();
        let due: Vec<bool> = self
            .breakers
            .circuits()
            .iter()
            .map(|circuit| match &circuit.state {
                State::Open { next, .. } => *next <= now,
                State::Closed | State::HalfOpen { .. } => all,
            })
            .collect();
        let asked = self.probes.iter().zip(&due).map(|(probe, due)| async move {
            if !due {
                return None;
            }
            let answer = tokio::time::timeout(PROBE_MAX, probe.probe()).await;
            Some(answer.unwrap_or_else(|_| Err(format!("no answer in {PROBE_MAX:?}"))))
        });
        let answers = join_all(asked).await;
        let now = Instant::now();
        self.breakers.change(|circuits| {
            for (circuit, answer) in circuits.iter_mut().zip(&answers) {
                match answer {
                    Some(Ok(())) => circuit.up(),
                    Some(Err(reason)) => circuit.down(now, reason.clone()),
                    None => {}
                }
            }
            // The handler's own circuit has nobody to ask: time lets one message through.
            if let Some(handler) = circuits.last_mut()
                && handler.next_look().is_some_and(|next| next <= now)
            {
                handler.up();
            }
        });
    }
}

impl Breakers {
    fn next_look(&self) -> Option<Instant> {
        self.circuits().iter().filter_map(super::circuit::Circuit::next_look).min()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
