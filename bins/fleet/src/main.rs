//! fleet

fn main() {}
