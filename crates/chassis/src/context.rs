//! What a process gives its parts: its name, the clock, where to say whether it is ready and what
//! it is doing, and a place for tasks that live as long as it does. No statics, no globals.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use queue_core::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::readiness::Readiness;
use crate::status::Status;

/// How long background tasks get to end after the work has; they hold nothing that can be lost.
const BACKGROUND_END: Duration = Duration::from_secs(2);

/// Shared by all parts of one process; cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    drain_budget: Duration,
}

struct Inner {
    name: &'static str,
    version: &'static str,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    status: Status,
    background: TaskTracker,
    ended: CancellationToken,
    admin: OnceLock<SocketAddr>,
}

impl Context {
    /// A context of the machine's clock. `version` is the binary's `CARGO_PKG_VERSION`.
    pub fn new(name: &'static str, version: &'static str, drain_budget: Duration) -> Self {
        Self::with_clock(name, version, drain_budget, Arc::new(SystemClock))
    }

    /// A context whose time the caller chooses.
    pub fn with_clock(
        name: &'static str,
        version: &'static str,
        drain_budget: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let status = Status::new(name, version, clock.now());
        Self {
            drain_budget,
            inner: Arc::new(Inner {
                name,
                version,
                clock,
                readiness: Readiness::default(),
                status,
                background: TaskTracker::new(),
                ended: CancellationToken::new(),
                admin: OnceLock::new(),
            }),
        }
    }

    /// The binary's name.
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// The binary's version.
    pub fn version(&self) -> &'static str {
        self.inner.version
    }

    /// Where the admin port is, once it is bound; it is before anything is built.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.inner.admin.get().copied()
    }

    pub(crate) fn set_admin_addr(&self, addr: SocketAddr) {
        self.inner.admin.get_or_init(|| addr);
    }

    /// How long a drain may take.
    pub fn drain_budget(&self) -> Duration {
        self.drain_budget
    }

    /// The same process, for a part that has to drain in less.
    #[must_use]
    pub fn within(&self, drain_budget: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), drain_budget: drain_budget.min(self.drain_budget) }
    }

    /// Where "now" comes from.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// What `/readyz` asks.
    pub fn readiness(&self) -> &Readiness {
        &self.inner.readiness
    }

    /// What `/status` shows.
    pub fn status(&self) -> &Status {
        &self.inner.status
    }

    /// Runs `task` beside the work, until it ends or the work has drained. For caches, listeners
    /// and the like: what must not be lost belongs into the work itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.inner.ended.clone();
        self.inner.background.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Cancelled when the work has drained.
    pub fn ended(&self) -> CancellationToken {
        self.inner.ended.clone()
    }

    /// Stops the background tasks and waits for them, for at most two seconds.
    pub async fn end(&self) {
        self.inner.ended.cancel();
        self.inner.background.close();
        if tokio::time::timeout(BACKGROUND_END, self.inner.background.wait()).await.is_err() {
            tracing::warn!(left = self.inner.background.len(), "background tasks did not end");
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
