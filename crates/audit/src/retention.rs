//! Retention, the pure part: policies and holds as a tenant writes them, what they say about one log,
//! and the plan of what a policy would do now. Everything takes the time it judges by; nothing here
//! knows a connection, a clock or HTTP, so that the API and a worker share it.
//!
//! It decides in favour of keeping: a hold stops everything, a legal minimum is never undercut, and
//! what contradicts itself is kept and shown to a person.

pub mod brake;
pub mod cleanup;
pub mod filter;
pub mod hold;
pub mod matcher;
pub mod plan;
pub mod policy;
mod reader;
pub mod rules;
pub mod slots;
pub mod term;

#[cfg(test)]
mod properties;

pub use cleanup::CleanupDraft;
pub use filter::{ActorFilter, Facts, Filter, Wanted};
pub use hold::{Hold, HoldDraft, HoldId, Release};
pub use matcher::{Matcher, Verdict};
pub use plan::{Candidate, Plan, Planner, Unit};
pub use policy::{Policy, PolicyDraft, PolicySpec, PolicyState};
pub use rules::{Decision, Fate, RuleHold, RulePolicy, RuleSet};
pub use term::Term;

/// Policies of a tenant at most, those that were deleted not counted.
pub const POLICIES_MAX: usize = 1_000;
/// Holds of a tenant in force at most.
pub const HOLDS_MAX: usize = 1_000;
/// Entries of one list of a filter at most.
pub const ENTRIES_MAX: usize = 32;
