//! Duty 5: order inside a group, groups beside each other, and what a failure does to a group.

mod chains;
mod parking;
mod refused;
pub(crate) mod rig;
mod store;
