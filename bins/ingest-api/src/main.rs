//! ingest-api

fn main() {}
