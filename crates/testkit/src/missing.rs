//! What happens when the machine lacks a part.

use local_services::PartError;

/// Whether a missing part is a failure of the run.
fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// The part, or a test that ends here: for parts without which nothing is tested.
#[track_caller]
pub(crate) fn required<T>(part: Result<T, PartError>) -> T {
    part.unwrap_or_else(|error| panic!("{error}"))
}

/// The part, or `None` with a loud line when the machine lacks it and this is no CI run. A part
/// that is there and fails is always a failure.
#[expect(clippy::print_stderr, reason = "a test's only voice")]
#[track_caller]
pub(crate) fn optional<T>(part: Result<T, PartError>, untested: &str) -> Option<T> {
    match part {
        Ok(part) => Some(part),
        Err(error) if error.is_missing() && !in_ci() => {
            eprintln!("UNTESTED: {untested}: {error}");
            None
        }
        Err(error) => panic!("{untested} cannot be tested: {error}"),
    }
}
