//! What becomes of one call to the broker, drawn from the plan's rates.

use std::time::Duration;

use queue_core::{DriverError, EntryError};

use super::plan::{BrokerRates, Dice};

/// How a call goes. At most one fault each, so that a trace stays readable.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    None,
    /// No effect.
    Refused(DriverError),
    /// The effect, but no answer.
    AnswerLost(DriverError),
    /// One entry has no effect.
    Entry(usize),
    /// The effect comes after the first, the answer after the second.
    Slow(Duration, Duration),
    Hang,
    /// A receive: what it brings is visible again at once, for others or for us.
    Duplicate,
    /// A receive: leased, and the answer says that there was nothing.
    Ghost,
    /// A receive: others were received and given back before, and the order is another one.
    Reordered,
    /// A receive: the driver panics.
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Receive,
    Batch,
}

impl Fault {
    pub(super) fn draw(dice: &mut Dice, rates: &BrokerRates, kind: Kind, entries: usize) -> Self {
        let receive = kind == Kind::Receive;
        if dice.hit(rates.throttle) {
            Self::Refused(error(dice))
        } else if dice.hit(rates.lose_answer) {
            Self::AnswerLost(error(dice))
        } else if !receive && dice.hit(rates.entry) {
            Self::Entry(dice.index(entries))
        } else if dice.hit(rates.slow) {
            let mut part = || Duration::from_millis(dice.within(0..=2_000));
            Self::Slow(part(), part())
        } else if dice.hit(rates.hang) {
            Self::Hang
        } else if receive && dice.hit(rates.duplicate) {
            Self::Duplicate
        } else if receive && dice.hit(rates.ghost) {
            Self::Ghost
        } else if receive && dice.hit(rates.reorder) {
            Self::Reordered
        } else if receive && dice.hit(rates.panic) {
            Self::Panic
        } else {
            Self::None
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::None => "fine",
            Self::Refused(_) => "REFUSED",
            Self::AnswerLost(_) => "ANSWER LOST",
            Self::Entry(_) => "ONE ENTRY FAILS",
            Self::Slow(..) => "SLOW",
            Self::Hang => "HANGS",
            Self::Duplicate => "DUPLICATES",
            Self::Ghost => "GHOST",
            Self::Reordered => "REORDERED",
            Self::Panic => "PANICS",
        }
    }
}

fn error(dice: &mut Dice) -> DriverError {
    match dice.index(3) {
        0 => DriverError::Throttled("slow down".into()),
        1 => DriverError::Timeout("no answer".into()),
        _ => DriverError::Unavailable("down".into()),
    }
}

/// What an entry that has no effect answers.
pub(super) fn entry_error() -> EntryError {
    EntryError::Transient("again".into())
}
