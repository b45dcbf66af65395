//! One sink's breaker as a pure state machine: time comes in, a state goes out. It neither probes nor
//! sleeps.

use std::time::Duration;

use contracts::Schedule;
use tokio::time::Instant;

use crate::backoff;

/// Between two probes of a sink that is down.
pub(crate) const PROBE: Schedule = Schedule {
    base: Duration::from_secs(1),
    ceiling: Duration::from_secs(30),
    failures_max: u32::MAX,
};

/// Infrastructure errors in a row, without a success between, that open a breaker although every
/// probe is content: the sink answers and yet takes no work.
pub(crate) const ERRORS_IN_ROW_MAX: u32 = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Messages flow.
    Closed,
    /// Nothing is received; the next look is at `next`.
    Open { next: Instant, looks: u32, reason: String },
    /// One message at a time is let through.
    HalfOpen { looks: u32, reason: String },
}

/// The state of one sink, or of the handler's errors as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Circuit {
    pub(crate) sink: &'static str,
    pub(crate) state: State,
    errors_in_row: u32,
}

impl Circuit {
    pub(crate) fn new(sink: &'static str) -> Self {
        Self { sink, state: State::Closed, errors_in_row: 0 }
    }

    /// The sink said that it does not work, or errors say so for it.
    pub(crate) fn down(&mut self, now: Instant, reason: String) {
        let looks = match &self.state {
            State::Closed => 1,
            State::Open { looks, .. } | State::HalfOpen { looks, .. } => looks.saturating_add(1),
        };
        self.errors_in_row = 0;
        self.state = State::Open { next: now + backoff::interval(&PROBE, looks), looks, reason };
    }

    /// The sink said that it works: a message may try.
    pub(crate) fn up(&mut self) {
        if let State::Open { looks, reason, .. } = &self.state {
            self.state = State::HalfOpen { looks: *looks, reason: reason.clone() };
        }
    }

    /// A message was handled.
    pub(crate) fn succeeded(&mut self) {
        self.errors_in_row = 0;
        if matches!(self.state, State::HalfOpen { .. }) {
            self.state = State::Closed;
        }
    }

    /// A message failed by infrastructure. For the circuit of errors as a whole.
    pub(crate) fn failed(&mut self, now: Instant, reason: &str) {
        self.errors_in_row = self.errors_in_row.saturating_add(1);
        let half_open = matches!(self.state, State::HalfOpen { .. });
        if half_open || self.errors_in_row >= ERRORS_IN_ROW_MAX {
            self.down(now, reason.to_owned());
        }
    }

    /// Closed, and no errors counted.
    pub(crate) fn at_rest(&self) -> bool {
        self.state == State::Closed && self.errors_in_row == 0
    }

    /// When it wants to be looked at.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        match &self.state {
            State::Open { next, .. } => Some(*next),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_for(circuit: &Circuit, now: Instant) -> Option<u64> {
        circuit.next_look().map(|next| (next - now).as_secs())
    }

    #[test]
    fn opens_looks_ever_more_rarely_and_closes_by_a_success() {
        let now = Instant::now();
        let mut circuit = Circuit::new("postgres");
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            circuit.down(now, "no route".into());
            assert_eq!(open_for(&circuit, now), Some(expected));
        }
        circuit.up();
        assert!(matches!(circuit.state, State::HalfOpen { .. }));
        circuit.down(now, "no route".into());
        assert_eq!(open_for(&circuit, now), Some(30), "a failed trial does not start over");
        circuit.up();
        circuit.succeeded();
        assert_eq!(circuit.state, State::Closed);
        circuit.down(now, "no route".into());
        assert_eq!(open_for(&circuit, now), Some(1), "a new outage does");
    }

    #[test]
    fn errors_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        let mut circuit = Circuit::new("handler");
        for _ in 1..ERRORS_IN_ROW_MAX {
            circuit.failed(now, "timeout");
        }
        assert_eq!(circuit.state, State::Closed);
        circuit.succeeded();
        circuit.failed(now, "timeout");
        assert_eq!(circuit.state, State::Closed);
        for _ in 1..ERRORS_IN_ROW_MAX {
            circuit.failed(now, "timeout");
        }
        assert!(matches!(circuit.state, State::Open { .. }));
        circuit.up();
        circuit.failed(now, "timeout");
        assert_eq!(open_for(&circuit, now), Some(2), "half-open, one error is enough");
    }
}
