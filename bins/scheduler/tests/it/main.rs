//! Schedulers against a real PostgreSQL: in this process with a clock of the test's own, and as
//! processes that are killed.

mod alerts;
mod duties;
mod reconcile;
mod retirement;
mod schedules;
mod takeover;
