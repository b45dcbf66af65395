//! sqs-local

fn main() {}
