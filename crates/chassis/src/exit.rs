//! Exit codes: the one thing that an orchestrator reads of a process that ended.

use std::process::ExitCode;

/// How a process ended. The figures 64 to 78 are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: drained inside the budget, nothing left in hand. Also `--help` and a good `--check-config`.
    Drained,
    /// 1: could not start, or stopped by a fault; the log says which.
    Failure,
    /// 64: the command line cannot be understood.
    Usage,
    /// 75: the drain budget ended before the work did. What was in hand comes back when its lease
    /// ends: nothing is lost, but it is late.
    DrainBudgetExceeded,
    /// 78: a value of the configuration is missing or wrong, or an address that it names is taken:
    /// trying again changes nothing, somebody has to.
    Config,
    /// 130: stopped at once by a second SIGINT.
    Interrupted,
    /// 143: stopped at once by a second SIGTERM.
    Terminated,
}

impl Exit {
    /// Every way to end, in the order of the docs.
    pub const ALL: [Self; 7] = [
        Self::Drained,
        Self::Failure,
        Self::Usage,
        Self::DrainBudgetExceeded,
        Self::Config,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::DrainBudgetExceeded => 75,
            Self::Config => 78,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// One line for the docs.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Drained => "drained inside the budget, or nothing to do",
            Self::Failure => "could not start, or stopped by a fault",
            Self::Usage => "the command line cannot be understood",
            Self::DrainBudgetExceeded => "the drain budget ended before the work did",
            Self::Config => "a configuration value is missing or wrong, or an address is taken",
            Self::Interrupted => "stopped at once by a second SIGINT",
            Self::Terminated => "stopped at once by a second SIGTERM",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
