//! `/readyz`: whether this process can do its work now, and if not, why. Dependencies are asked
//! when someone asks, all at once, each within a time limit; answers are kept for a second so that
//! a busy load balancer does not become load on the sinks.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use queue_core::Probe;
use serde::Serialize;
use tokio::time::Instant;

/// A probe that has not answered by then has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is reused.
const ANSWER_KEPT: Duration = Duration::from_secs(1);

const STARTING: u8 = 0;
const RUNNING: u8 = 1;
const DRAINING: u8 = 2;

/// The readiness registry of one process; cheap to clone.
#[derive(Clone, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    phase: AtomicU8,
    probes: RwLock<Vec<Arc<dyn Probe>>>,
    last: tokio::sync::Mutex<Option<(Instant, Vec<Check>)>>,
}

/// What one dependency said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, e.g. `postgres`.
    pub name: &'static str,
    /// Whether it would take work now.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether to send work here.
    pub ready: bool,
    /// `starting`, `running` or `draining`.
    pub phase: &'static str,
    /// Every dependency.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// Adds a dependency. A second one of the same name replaces the first.
    pub fn register(&self, probe: Arc<dyn Probe>) {
        let mut probes =
            self.inner.probes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        probes.retain(|known| known.name() != probe.name());
        probes.push(probe);
    }

    /// The process is built and works.
    pub fn running(&self) {
        self.inner.phase.store(RUNNING, Ordering::Release);
    }

    /// The process takes no new work; it never becomes ready again.
    pub fn draining(&self) {
        self.inner.phase.store(DRAINING, Ordering::Release);
    }

    /// Asks every dependency.
    pub async fn report(&self) -> Report {
        let checks = self.checks().await;
        let phase = self.inner.phase.load(Ordering::Acquire);
        Report {
            ready: phase == RUNNING && checks.iter().all(|check| check.ok),
            phase: match phase {
                STARTING => "starting",
                RUNNING => "running",
                _ => "draining",
            },
            checks,
        }
    }

    async fn checks(&self) -> Vec<Check> {
        let mut last = self.inner.last.lock().await;
        let probes =
            self.inner.probes.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some((at, checks)) = last.as_ref()
            && at.elapsed() < ANSWER_KEPT
            && checks.len() == probes.len()
        {
            return checks.clone();
        }
        let checks = futures_util::future::join_all(probes.iter().map(ask)).await;
        *last = Some((Instant::now(), checks.clone()));
        checks
    }
}

async fn ask(probe: &Arc<dyn Probe>) -> Check {
    let answer = tokio::time::timeout(PROBE_TIMEOUT, probe.probe()).await;
    let reason = match answer {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(reason),
        Err(_) => Some(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    };
    Check { name: probe.name(), ok: reason.is_none(), reason }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}
