//! The whole fleet as its users meet it: real binaries, real parts, the public API.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod add_a_queue;
mod outages;
mod process;
mod rights;
mod scene;
mod traces;

/// The work tree, asked at run time: a target folder may be shared by several clones.
fn tree() -> std::path::PathBuf {
    let package = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    package.parent().unwrap().to_owned()
}

/// The target folder that this test was built into.
fn target_dir() -> std::path::PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}
