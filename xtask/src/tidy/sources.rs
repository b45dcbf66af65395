//! Each file by itself: its first line, its length, its name, bare `allow`s, unfinished code, sleeps
//! in tests, and hosts of package registries.

use super::File;

/// Lines of a `.rs` file at most; past that it has two concerns.
const LINES_MAX: usize = 400;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

/// Parts that, joined by a dot, are hosts of package registries: files use clients and coordinates.
const REGISTRY_HOSTS: [&[&str]; 9] = [
    &["static", "crates", "io"],
    &["index", "crates", "io"],
    &["pypi", "org"],
    &["files", "pythonhosted", "org"],
    &["registry", "npmjs", "org"],
    &["maven", "apache", "org"],
    &["deb", "debian", "org"],
    &["proxy", "golang", "org"],
    &["registry-1", "docker", "io"],
];

/// Every finding, as `path:line: what`.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let virtual_time = packages_on_virtual_time(files);
    let hosts: Vec<String> = REGISTRY_HOSTS.iter().map(|parts| parts.join(".")).collect();
    let mut findings = Vec::new();
    for file in files {
        findings.extend(name(&file.path));
        if !file.path.ends_with("Cargo.lock") {
            findings.extend(registry_hosts(file, &hosts));
        }
        // A fixture is a part of a file that a test puts together.
        if file.is_rust() && !file.path.contains("/fixtures/") {
            findings.extend(opening_and_length(file));
            findings.extend(lines(file, &virtual_time));
        }
    }
    findings
}

fn name(path: &str) -> Option<String> {
    let empty = path.split('/').find(|part| {
        let stem = part.split('.').next().unwrap_or_default();
        EMPTY_NAMES.contains(&stem)
    })?;
    Some(format!("{path}: {empty:?} says nothing; name what is inside"))
}

fn opening_and_length(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        findings.push(format!("{}:1: open with a `//!` line: what, why, what never", file.path));
    }
    let count = file.text.lines().count();
    if count > LINES_MAX {
        findings.push(format!("{}: {count} lines, {LINES_MAX} at most: split it", file.path));
    }
    findings
}

/// Packages whose tests run on tokio's paused clock, where a sleep takes no time and is a step of
/// the test: by the path of their `tests` folder.
fn packages_on_virtual_time(files: &[File]) -> Vec<&str> {
    let paused =
        |file: &&File| file.text.contains("start_paused") || file.text.contains("time::pause()");
    files.iter().filter(paused).filter_map(|file| tests_folder(&file.path)).collect()
}

/// A program beside the tests whose subject is how long things last.
const STORM: &str = "tests/chaos/";

fn tests_folder(path: &str) -> Option<&str> {
    path.find("/tests/").and_then(|at| path.get(..at))
}

fn lines(file: &File, virtual_time: &[&str]) -> Vec<String> {
    let is_test = file.path.contains("/tests/")
        || file.path.starts_with("tests/") && !file.path.starts_with(STORM);
    let is_virtual = tests_folder(&file.path).is_some_and(|tests| virtual_time.contains(&tests));
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        // Written in two halves, so that this very line is not found.
        let bare = [concat!("#[", "allow("), concat!("#![", "allow(")];
        let what = if bare.iter().any(|bare| code.contains(bare)) {
            "a bare allow: use expect with a reason"
        } else if code.contains(concat!("#[", "ignore")) {
            "an ignored test: mend it or remove it"
        } else if is_test
            && (code.contains(concat!("thread::", "sleep("))
                || code.contains(concat!("time::", "sleep(")) && !is_virtual)
        {
            "a sleep in a test: wait for a signal or a condition"
        } else {
            continue;
        };
        findings.push(format!("{}:{}: {what}", file.path, at + 1));
    }
    findings
}

fn registry_hosts(file: &File, hosts: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        if let Some(host) = hosts.iter().find(|host| line.contains(host.as_str())) {
            findings.push(format!("{}:{}: names the registry host {host}", file.path, at + 1));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, check};
    use crate::tidy::File;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&[File::of(path, text)])
    }

    #[test]
    fn a_file_opens_with_what_it_is() {
        assert!(findings("crates/x/src/a.rs", "//! A.\n").is_empty());
        assert_eq!(findings("crates/x/src/a.rs", "use b;\n").len(), 1);
    }

    #[test]
    fn a_file_has_four_hundred_lines_at_most() {
        let text = |lines: usize| format!("//! A.\n{}", "\n".repeat(lines - 1));
        assert!(findings("a.rs", &text(LINES_MAX)).is_empty());
        assert_eq!(findings("a.rs", &text(LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn empty_names_are_found_as_files_and_folders() {
        assert_eq!(findings("crates/utils/src/a.rs", "//! A.\n").len(), 1);
        assert_eq!(findings("docs/misc.md", "").len(), 1);
        assert!(findings("docs/common-errors.md", "").is_empty());
    }

    #[test]
    fn bare_allows_ignored_tests_and_sleeps_are_found() {
        let allow = concat!("//! A.\n#[", "allow(dead_code)]\n");
        assert_eq!(findings("a.rs", allow).len(), 1);
        let ignore = concat!("//! A.\n#[", "ignore]\n");
        assert_eq!(findings("a.rs", ignore).len(), 1);
        let sleep = concat!("//! A.\n    tokio::time::", "sleep(d).await;\n");
        assert_eq!(findings("crates/x/tests/it/a.rs", sleep).len(), 1);
        assert!(findings("crates/x/src/a.rs", sleep).is_empty());
        assert_eq!(findings("tests/it/a.rs", sleep).len(), 1);
        assert!(findings("tests/chaos/a.rs", sleep).is_empty());
        let paused =
            File::of("crates/x/tests/it/b.rs", "//! B.\n#[tokio::test(start_paused = true)]\n");
        assert!(check(&[File::of("crates/x/tests/it/a.rs", sleep), paused]).is_empty());
    }

    #[test]
    fn registry_hosts_are_found_but_for_the_lock_file() {
        let text = format!("curl {}", ["pypi", "org"].join("."));
        assert_eq!(findings("Makefile", &text).len(), 1);
        assert!(findings("Cargo.lock", &text).is_empty());
    }
}
