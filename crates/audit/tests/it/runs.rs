//! Runs of policies on a real database: a slot becomes one run, a run the plan that a simulation shows, a
//! plan messages, and the brake, the version and the targets are what the policy says.

mod attending;
mod evaluating;
mod failing;
mod notifying;
mod reading;
mod scene;
mod scheduling;
