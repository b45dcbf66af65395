//! A tenant's chain from the append to the verified archive: on PostgreSQL, with files as the store,
//! with a store that is away, with several sealers, after rotations, and killed at every step.

mod alarms;
mod appending;
#[cfg(debug_assertions)]
mod crash;
pub(crate) mod scene;
mod sealing;
