//! Wire shapes, pinned: what this build writes equals the golden file of its version, and every
//! golden file ever written still reads. A changed shape without a new version fails here.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod catalogue;
mod envelope;
mod golden;
mod packing;
