//! Our own binaries, for tests that run real processes.

use std::path::PathBuf;

/// The path of a built binary of the workspace, e.g. `index-worker`: beside the test's own.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    // `target/debug/deps/it-0123` is the test, `target/debug/NAME` the binary.
    let built = own.ancestors().nth(2).expect("in a target directory").join(name);
    assert!(
        built.is_file(),
        "{} is not built; run: cargo build --workspace --bins",
        built.display()
    );
    built
}
