//! The breaker: when a sink is down the worker stops polling and releases what it holds, so an
//! outage never walks messages into the dead-letter queue. It asks the sink, never a message.

pub(crate) mod circuit;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::events::{self, Meters};
use crate::fetch::gate::{Flow, Gate};
use crate::status::BreakerStatus;
use circuit::{Circuit, State};

/// Asks one sink whether it works, cheaply and within a time limit of its own.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// The sink's name in metrics and on `/status`, e.g. `postgres`.
    fn name(&self) -> &'static str;

    /// `Ok` when the sink would take work now; else why not.
    async fn probe(&self) -> Result<(), String>;
}

/// Name of the circuit that counts errors when every probe is content.
const HANDLER: &str = "handler";

/// The breakers of one engine: one per sink, and one for errors that no probe explains.
pub(crate) struct Breakers {
    /// The sinks' circuits in the order of the probes, then the handler's.
    circuits: Mutex<Vec<Circuit>>,
    /// Some circuit is not in its resting state; lets a success cost one load.
    troubled: AtomicBool,
    /// An error asks for a look at the sinks.
    suspected: Notify,
    /// When a message last failed by infrastructure.
    failed_at: Mutex<Option<Instant>>,
    gate: Arc<Gate>,
    meters: Arc<Meters>,
}

impl Breakers {
    pub(crate) fn new(probes: &[Arc<dyn Probe>], gate: Arc<Gate>, meters: Arc<Meters>) -> Self {
        let mut circuits: Vec<Circuit> = probes.iter().map(|p| Circuit::new(p.name())).collect();
        circuits.push(Circuit::new(HANDLER));
        let breakers = Self {
            circuits: Mutex::new(circuits),
            troubled: AtomicBool::new(false),
            suspected: Notify::new(),
            failed_at: Mutex::new(None),
            gate,
            meters,
        };
        breakers.change(|_| {});
        breakers
    }

    fn circuits(&self) -> MutexGuard<'_, Vec<Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message was handled.
    pub(crate) fn succeeded(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.change(|circuits| circuits.iter_mut().for_each(Circuit::succeeded));
        }
    }

    /// A message failed by infrastructure.
    pub(crate) fn failed(&self, reason: &str) {
        self.troubled.store(true, Ordering::Relaxed);
        let now = Instant::now();
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.change(|circuits| {
            // While a sink is known to be down, the errors are explained.
            if circuits.iter().any(|c| matches!(c.state, State::Open { .. })) {
                return;
            }
            let trials = circuits.iter_mut().filter(|c| matches!(c.state, State::HalfOpen { .. }));
            if trials.map(|circuit| circuit.down(now, reason.to_owned())).count() == 0
                && let Some(handler) = circuits.last_mut()
            {
                handler.failed(now, reason);
            }
        });
        self.suspected.notify_one();
    }

    /// Whether nothing should be received.
    pub(crate) fn open(&self) -> bool {
        self.gate.flow() == Flow::Stopped
    }

    /// When a message last failed by infrastructure.
    pub(crate) fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every breaker is closed, and a message was handled since one failed by infrastructure.
    pub(crate) fn at_rest(&self) -> bool {
        !self.troubled.load(Ordering::Relaxed)
    }

    /// Applies a change and makes gate, metric, status and log follow it.
    fn change(&self, apply: impl FnOnce(&mut Vec<Circuit>)) {
        let mut circuits = self.circuits();
        let before: Vec<_> = circuits.iter().map(|c| std::mem::discriminant(&c.state)).collect();
        apply(&mut circuits);
        let statuses: Vec<BreakerStatus> = circuits.iter().map(status).collect();
        let closed = circuits.iter().all(|c| c.state == State::Closed);
        if closed && !self.troubled.load(Ordering::Relaxed) {
            self.meters.breakers(statuses);
            return;
        }
        let flow = if circuits.iter().any(|c| matches!(c.state, State::Open { .. })) {
            Flow::Stopped
        } else if closed {
            Flow::Free
        } else {
            Flow::OneByOne
        };
        self.gate.set_flow(flow);
        let at_rest = closed && circuits.iter().all(Circuit::at_rest);
        self.troubled.store(!at_rest, Ordering::Relaxed);
        let changed: Vec<bool> = circuits
            .iter()
            .zip(before)
            .map(|(circuit, before)| std::mem::discriminant(&circuit.state) != before)
            .collect();
        drop(circuits);
        for (breaker, changed) in statuses.iter().zip(&changed) {
            if *changed {
                events::BreakerChanged { breaker }.emit(&self.meters);
            }
        }
        if changed.contains(&true) {
            self.meters.breakers(statuses);
        }
    }
}

fn status(circuit: &Circuit) -> BreakerStatus {
    let (state, reason) = match &circuit.state {
        State::Closed => ("closed", None),
        State::HalfOpen { reason, .. } => ("half-open", Some(reason.clone())),
        State::Open { reason, .. } => ("open", Some(reason.clone())),
    };
    BreakerStatus { sink: circuit.sink.to_owned(), state: state.to_owned(), reason }
}
