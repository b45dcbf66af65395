//! What tests stand on: a fresh database each, private Redis servers, one OpenSearch and one
//! LocalStack per machine user, doubles that misbehave on command. A dev-dependency, never more.
//!
//! A part that the machine lacks: PostgreSQL and Redis fail the test with the command that installs
//! them. OpenSearch and LocalStack come as `Option`; `None` has already printed `UNTESTED: …`, and
//! under `CI=true` their absence fails, too.

pub mod binary;
pub mod collector;
pub mod database;
pub mod eventually;
pub mod http_double;
pub mod in_process;
pub mod port;
pub mod proxy;
pub mod queue_double;
pub mod redis;
pub mod shared_parts;
pub mod smtp_double;
pub mod sqs;

mod missing;

pub use binary::binary;
pub use collector::{Collector, SeenSpan};
pub use database::TestDatabase;
pub use eventually::{agrees, eventually, in_time};
pub use http_double::{Answer, Gate, HttpDouble, Seen};
pub use port::free_port;
pub use proxy::{Mood, Proxy};
pub use queue_double::{QueueDouble, QueueMood};
pub use redis::TestRedis;
pub use shared_parts::{TestLocalStack, TestOpenSearch};
pub use smtp_double::{Mail, SmtpDouble, SmtpSay, SmtpStep};
pub use sqs::TestSqs;
