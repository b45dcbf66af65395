//! Where logs go besides the database: the search engines, the live feed and objects; the key service; and
//! how people are told. The only crate that names `opensearch`, `redis`, `aws-sdk-s3` and `lettre`. It
//! decides nothing about logs: what is stored, erased or shown is said by Postgres, and a sink follows.

pub mod error;
pub mod events;
pub mod kms;
pub mod notify;
pub mod objects;
pub mod pubsub;
pub mod search;

pub use error::{ItemError, SinkError, SinkErrorKind};
