//! Which visible message comes next: the one thing in which standard and FIFO queues differ.

use std::sync::Arc;

use super::fifo::Fifo;
use super::standard::Standard;

/// Whether a message can be received now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Can be received.
    Visible,
    /// Sent with a delay that has not ended.
    Delayed,
    /// Handed out; the lease has not ended.
    Leased,
}

/// What can be chosen about orders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Standard: whether noisy tenants wait behind quiet ones.
    pub(crate) fair: bool,
    /// FIFO: messages, from the oldest, among which a receive looks for a group.
    pub(crate) lookahead: usize,
}

/// The order of one queue.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// By age, quiet tenants first.
    Standard(Standard),
    /// By age within a group, one receive at a time per group.
    Fifo(Fifo),
}

impl Order {
    pub(crate) fn new(fifo: bool, rules: Rules) -> Self {
        if fifo {
            Self::Fifo(Fifo::new(rules.lookahead))
        } else {
            Self::Standard(Standard::new(rules.fair))
        }
    }

    /// The same rules, no messages.
    pub(crate) fn emptied(&self) -> Self {
        match self {
            Self::Standard(order) => Self::Standard(order.emptied()),
            Self::Fifo(order) => Self::Fifo(order.emptied()),
        }
    }

    /// Tells of a message that appears (`from` is `None`), changes, or goes (`to` is `None`).
    pub(crate) fn set(
        &mut self,
        seq: u64,
        group: Option<&Arc<str>>,
        from: Option<Kind>,
        to: Option<Kind>,
    ) {
        match (self, group) {
            (Self::Standard(order), group) => order.set(seq, group, from, to),
            (Self::Fifo(order), Some(group)) => order.set(seq, group, from, to),
            // A FIFO message has a group; the broker refuses it otherwise.
            (Self::Fifo(_), None) => {}
        }
    }

    /// Tells when a message that has appeared was sent.
    pub(crate) fn sent(&mut self, group: Option<&Arc<str>>, at: i64) {
        if let Self::Standard(order) = self {
            order.sent(group, at);
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: i64) {
        if let Self::Standard(order) = self {
            order.advance(now);
        }
    }

    /// The next message for a receive that has just taken `after`, a number with its group.
    pub(crate) fn next(&self, after: Option<(u64, &Arc<str>)>) -> Option<u64> {
        match self {
            Self::Standard(order) => order.next(),
            Self::Fifo(order) => order.next(after),
        }
    }

    pub(crate) fn ready(&self) -> usize {
        match self {
            Self::Standard(order) => order.ready(),
            Self::Fifo(order) => order.ready(),
        }
    }
}
