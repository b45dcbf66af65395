//! Where logs go besides the database: the search engines and the live feed.
//! The only crate that names `opensearch` and `redis`. It decides nothing about logs: what is
//! stored, erased or shown is said by Postgres, and a sink follows.

pub mod error;
pub mod events;
pub mod pubsub;
pub mod search;

pub use error::{ItemError, SinkError, SinkErrorKind};
