//! Duty 5: order inside a group, groups beside each other, and what a failure does to a group.

mod chains;
mod parking;
mod rig;
mod store;
