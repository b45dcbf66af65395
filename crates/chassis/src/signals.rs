//! SIGTERM and SIGINT: the first asks for a drain, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::service::BuildError;

/// A second signal came: drop everything. Nothing is lost by it; leases end and messages come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopNow(pub Exit);

/// Both signals, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to catch. Make it before anything that must not be interrupted.
    pub fn catch() -> Result<Self, BuildError> {
        let catch = |kind, name| {
            signal(kind)
                .map_err(|error| BuildError::failed(format!("cannot catch {name}: {error}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: catch(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Cancels `drain` at the first signal and returns at the second.
    pub async fn watch(mut self, drain: CancellationToken) -> StopNow {
        let first = self.next().await;
        tracing::info!(signal = name(first), "draining; a second signal stops at once");
        drain.cancel();
        let second = self.next().await;
        tracing::warn!(signal = name(second), "stopping at once");
        StopNow(second)
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}

fn name(exit: Exit) -> &'static str {
    if exit == Exit::Interrupted { "SIGINT" } else { "SIGTERM" }
}
