//! Ctrl-C and SIGTERM as a question that is asked between two steps: what was begun is finished, what
//! is held is given back, and the next run goes on from there.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Whether somebody wants the command to end.
pub(super) struct Interrupt {
    signals: [Signal; 2],
    came: bool,
}

impl Interrupt {
    /// Catches the signals from now on.
    pub(super) fn catch() -> Result<Self, Failure> {
        let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        Ok(Self { signals, came: false })
    }

    /// Whether one has come.
    pub(super) fn came(&mut self) -> bool {
        let waiting =
            |signal: &mut Signal| futures_util::FutureExt::now_or_never(signal.recv()).is_some();
        self.came |= self.signals.iter_mut().any(waiting);
        self.came
    }

    /// Ends when one comes.
    pub(super) async fn wait(&mut self) {
        if self.came {
            return;
        }
        let [first, second] = &mut self.signals;
        tokio::select! {
            _ = first.recv() => {}
            _ = second.recv() => {}
        }
        self.came = true;
    }
}
