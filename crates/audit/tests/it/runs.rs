//! Runs of policies on a real database: a slot becomes one run, a run the plan that a simulation shows, a
//! plan messages, and the brake, the version and the targets are what the policy says.

mod evaluating;
mod notifying;
mod scene;
mod scheduling;
