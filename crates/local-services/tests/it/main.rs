//! Real servers, started, crashed and started again.

mod kept;
mod parents;

/// A temporary directory that the servers' account can enter, too, when root runs the tests.
pub(crate) fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o711);
    let directory = tempfile::Builder::new().prefix("flotilla-").permissions(open).tempdir();
    directory.expect("a temporary directory")
}
