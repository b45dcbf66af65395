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

/// The order of one queue.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// By age, quiet tenants first.
    Standard(Standard),
    /// By age within a group, one receive at a time per group.
    Fifo(Fifo),
}

impl Order {
    pub(crate) fn new(fifo: bool, fair: bool) -> Self {
        if fifo { Self::Fifo(Fifo::default()) } else { Self::Standard(Standard::new(fair)) }
    }

    /// The same rules, no messages.
    pub(crate) fn emptied(&self) -> Self {
        match self {
            Self::Standard(order) => Self::Standard(order.emptied()),
            Self::Fifo(_) => Self::Fifo(Fifo::default()),
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
            (Self::Fifo(order), Some(group)) => order.set(seq, group, to),
            // A FIFO message has a group; the broker refuses it otherwise.
            (Self::Fifo(_), None) => {}
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
