//! The whole fleet as its users meet it: real binaries, real parts, the public API.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod add_a_queue;
mod outages;
mod process;
mod scene;

/// The target folder that this test was built into.
fn target_dir() -> std::path::PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}
