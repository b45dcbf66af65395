//! fleetctl

fn main() {}
