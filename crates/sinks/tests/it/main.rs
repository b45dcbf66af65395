//! The sinks against real engines: the same suite on OpenSearch and PostgreSQL, a real Redis that
//! is killed and flushed, and doubles that answer as a cluster in trouble does.

#![expect(clippy::unwrap_used, reason = "a test ends where its own set-up fails")]

mod alerts;
mod bulk_faults;
mod conformance;
mod engines;
mod feed;
mod kms;
mod notify;
mod notify_email;
mod objects;
mod objects_deletion;
mod objects_faults;
mod objects_lifecycle;
mod objects_upload_faults;
mod opensearch_auth;
mod oracle;
mod postgres_search;
mod random;
mod rebuild;
