//! The audit subsystem: an accepted event becomes a canonical record, is stored once, found by
//! search and streamed live; a change is a revision, an erasure leaves a tombstone.
//! It never edits a stored record, never talks to another subsystem and names no broker.

pub mod archive;
pub mod attendance;
pub mod cleanup;
pub mod crash;
pub mod event;
pub mod expiry;
pub mod http;
pub mod ingest;
pub mod lifecycle;
pub mod live;
pub mod model;
pub mod projection;
pub mod publish;
pub mod reconcile;
pub mod record;
pub mod retention;
pub mod rules;
pub mod scheduling;
pub mod self_audit;
pub mod store;
pub mod workers;
