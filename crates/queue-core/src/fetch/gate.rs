//! How many pollers may poll, and whether at all: one while the queue is idle, more while polls come
//! back full, none while a breaker is open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What the breakers let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Everything.
    Free,
    /// One message at a time, to see whether the sinks work again.
    OneByOne,
    /// Nothing.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    flow: Flow,
    /// Pollers that may poll: those with a lower index.
    pollers: usize,
}

#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Notify,
    pollers_max: usize,
}

/// One poller's view of the gate.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    index: usize,
}

impl Gate {
    pub(crate) fn new(pollers_max: usize) -> Self {
        let state = Mutex::new(State { flow: Flow::Free, pollers: 1 });
        Self { state, changed: Notify::new(), pollers_max }
    }

    pub(crate) fn pass(self: &Arc<Self>, index: usize) -> Pass {
        Pass { gate: Arc::clone(self), index }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn flow(&self) -> Flow {
        self.state().flow
    }

    pub(crate) fn set_flow(&self, flow: Flow) {
        self.change(|state| state.flow = flow);
    }

    /// A poll that asked for `asked` brought `got`: full ones call more pollers, empty ones send one
    /// away.
    pub(crate) fn polled(&self, asked: usize, got: usize) {
        self.change(|state| {
            if got >= asked {
                state.pollers = (state.pollers * 2).min(self.pollers_max);
            } else if got == 0 {
                state.pollers = (state.pollers - 1).max(1);
            }
        });
    }

    /// A poll failed: one poller goes on trying.
    pub(crate) fn poll_failed(&self) {
        self.change(|state| state.pollers = 1);
    }

    fn change(&self, apply: impl FnOnce(&mut State)) {
        let changed = {
            let mut state = self.state();
            let before = *state;
            apply(&mut state);
            *state != before
        };
        if changed {
            self.changed.notify_waiters();
        }
    }
}

impl Pass {
    /// What this poller may do now.
    pub(crate) fn now(&self) -> Flow {
        allowed(*self.gate.state(), self.index)
    }

    /// Waits until this poller may poll.
    pub(crate) async fn opened(&self) -> Flow {
        loop {
            // Before the look, so that no change between the two is missed.
            let changed = self.gate.changed.notified();
            match self.now() {
                Flow::Stopped => changed.await,
                flow => return flow,
            }
        }
    }
}

fn allowed(state: State, index: usize) -> Flow {
    match state.flow {
        Flow::Free if index < state.pollers => Flow::Free,
        Flow::OneByOne if index == 0 => Flow::OneByOne,
        Flow::Free | Flow::OneByOne | Flow::Stopped => Flow::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_polls_call_more_pollers_and_empty_ones_send_them_away() {
        let gate = Arc::new(Gate::new(5));
        let polling =
            |gate: &Arc<Gate>| (0..8).filter(|i| gate.pass(*i).now() == Flow::Free).count();
        assert_eq!(polling(&gate), 1, "one when idle");
        gate.polled(10, 10);
        assert_eq!(polling(&gate), 2);
        gate.polled(10, 10);
        gate.polled(10, 10);
        assert_eq!(polling(&gate), 5, "never more than configured");
        gate.polled(10, 3);
        assert_eq!(polling(&gate), 5);
        for expected in [4, 3, 2, 1, 1] {
            gate.polled(10, 0);
            assert_eq!(polling(&gate), expected);
        }
        gate.polled(10, 10);
        gate.poll_failed();
        assert_eq!(polling(&gate), 1);
    }

    #[test]
    fn an_open_breaker_stops_all_and_a_trial_lets_one_through() {
        let gate = Arc::new(Gate::new(4));
        gate.polled(10, 10);
        gate.set_flow(Flow::Stopped);
        assert_eq!(gate.pass(0).now(), Flow::Stopped);
        gate.set_flow(Flow::OneByOne);
        assert_eq!(gate.pass(0).now(), Flow::OneByOne);
        assert_eq!(gate.pass(1).now(), Flow::Stopped);
    }
}
