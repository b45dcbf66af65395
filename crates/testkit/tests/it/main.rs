//! The doubles themselves: each way to misbehave is seen by a real client.

mod http_double;
mod proxy;
mod redis;
mod shared_parts;
mod sqs;
