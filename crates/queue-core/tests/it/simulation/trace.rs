//! What happened, in order, as values: cheap to keep, compared to prove that a seed repeats, and
//! printed only when somebody reads it.

use std::fmt;
use std::time::Duration;

/// Events kept of one run; a run that needs more has run away.
pub(super) const EVENTS_MAX: usize = 500_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Sent { job: u64 },
    Started,
    Died { step: u64 },
    Killed,
    Draining,
    Drained { in_hand: usize, unsettled: usize },
    SinkDown,
    SinkUp,
    Muted,
    Heard,
    Parked { job: u64 },
    Decided { replay: bool },
    LeaseTaken { job: u64, seconds: u64 },
    ClockJump(i64),
    Suspended(u64),
    Called { call: &'static str, entries: usize, fault: &'static str },
    Received { job: u64, receives: u32 },
    Handles { job: u64, failures: u32 },
    Handled { job: u64, answer: &'static str },
    Effect { job: u64 },
    Repeated { job: u64 },
    Recorded { job: u64, counts: bool },
    Extended { job: u64, seconds: u64 },
    CallsBack { job: u64 },
    Deleted { job: u64 },
    DeadLetter { job: u64, code: String },
    Breaks { invariant: &'static str, text: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    at: Duration,
    /// The process, from 1; 0 is the world.
    process: u32,
    what: What,
}

#[derive(Debug, Default)]
pub(super) struct Trace {
    events: Vec<Event>,
}

impl Trace {
    pub(super) fn note(&mut self, at: Duration, process: u32, what: What) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event { at, process, what });
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() == EVENTS_MAX
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, process, what } = self;
        write!(f, "{:>10.3} s ", at.as_secs_f64())?;
        match process {
            0 => write!(f, " world ")?,
            id => write!(f, "   p{id:<3} ")?,
        }
        match what {
            What::Sent { job } => write!(f, "job {job} is sent"),
            What::Started => write!(f, "starts"),
            What::Died { step } => write!(f, "dies at await {step}"),
            What::Killed => write!(f, "is killed"),
            What::Draining => write!(f, "drains"),
            What::Drained { in_hand, unsettled } => {
                write!(f, "has drained: {in_hand} in hand, {unsettled} unsettled")
            }
            What::SinkDown => write!(f, "the sink is down"),
            What::SinkUp => write!(f, "the sink is up"),
            What::Parked { job } => write!(f, "job {job} is in its group's line"),
            What::Decided { replay: true } => write!(f, "the operator replays a group"),
            What::Decided { replay: false } => write!(f, "the operator releases a group"),
            What::Muted => write!(f, "the broker takes no delete, extension or letter"),
            What::Heard => write!(f, "the broker takes them again"),
            What::LeaseTaken { job, seconds } => {
                write!(f, "somebody else has job {job} for {seconds} s")
            }
            What::ClockJump(by) => write!(f, "wall clocks step by {by} s"),
            What::Suspended(by) => write!(f, "processes stand still for {by} s"),
            What::Called { call, entries, fault } => write!(f, "{call} of {entries}: {fault}"),
            What::Received { job, receives } => write!(f, "receives job {job}, time {receives}"),
            What::Handles { job, failures } => write!(f, "handles job {job}, {failures} failures"),
            What::Handled { job, answer } => write!(f, "job {job}: {answer}"),
            What::Effect { job } => write!(f, "EFFECT of job {job}"),
            What::Repeated { job } => write!(f, "job {job} had taken effect"),
            What::Recorded { job, counts } => write!(f, "failure of job {job}, counts: {counts}"),
            What::Extended { job, seconds } => write!(f, "lease of job {job}: {seconds} s"),
            What::CallsBack { job } => write!(f, "calls job {job} back"),
            What::Deleted { job } => write!(f, "job {job} is deleted"),
            What::DeadLetter { job, code } => write!(f, "DEAD LETTER of job {job}: {code}"),
            What::Breaks { invariant, text } => write!(f, "BREAKS `{invariant}`: {text}"),
        }
    }
}
