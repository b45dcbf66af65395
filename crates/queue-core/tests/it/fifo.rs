//! Duty 5: order inside a group, groups beside each other, and what a failure does to a group.

mod chains;
mod parking;
mod parking_large;
mod refused;
pub(crate) mod rig;
mod store;
