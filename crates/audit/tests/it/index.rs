//! The index worker: what is stored, found and announced after messages in any order.

mod converge;
mod erasure;
mod faults;
mod ingest;
mod legacy;
mod legacy_onward;
