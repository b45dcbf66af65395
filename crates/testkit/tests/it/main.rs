//! The doubles themselves: each way to misbehave is seen by a real client.

mod http_double;
mod proxy;
mod shared_parts;
mod sqs;
