//! index-worker

fn main() {}
