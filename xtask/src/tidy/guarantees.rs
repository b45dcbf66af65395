//! The guarantees table of `ARCHITECTURE.md`: each row names a test that exists. A row is a table
//! line under the heading `## Guarantees`; a test is named by its path, `package::module::test`, in
//! code quotes.

use std::collections::BTreeSet;

use super::File;

const PAGE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Guarantees";

/// Every row that names no test, or one that does not exist.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![format!("{PAGE}: missing")];
    };
    let tests = tests(files);
    let mut findings = Vec::new();
    for (at, row) in rows(&page.text) {
        let named: Vec<&str> =
            row.split('`').skip(1).step_by(2).filter(|n| n.contains("::")).collect();
        if named.is_empty() {
            findings.push(format!("{PAGE}:{at}: a guarantee without a test"));
        }
        for name in named {
            let mut segments = name.rsplit("::");
            let (test, module) = (segments.next(), segments.next());
            if !tests.contains(&(module.unwrap_or_default(), test.unwrap_or_default())) {
                findings.push(format!("{PAGE}:{at}: no test is called {name}"));
            }
        }
    }
    findings
}

/// The table's rows below its two head lines, with their line numbers.
fn rows(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .skip_while(|(_, line)| !line.starts_with(HEADING))
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("## "))
        .filter(|(_, line)| line.starts_with('|'))
        .skip(2)
        .map(|(at, line)| (at + 1, line))
        .collect()
}

/// All test functions in the tree, each with the name of its file.
fn tests(files: &[File]) -> BTreeSet<(&str, &str)> {
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let mut marked = false;
        let module = file.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
        for line in file.text.lines().map(str::trim) {
            if line.contains("test]") || line.contains("::test(") || line.starts_with("proptest!") {
                marked = true;
            } else if let Some(name) = function(line).filter(|_| marked) {
                names.insert((module.unwrap_or_default(), name));
                marked = false;
            }
        }
    }
    names
}

fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::File;

    #[test]
    fn a_row_must_name_a_test_that_exists() {
        let page = "# A\n## Guarantees\n\n| What | Test |\n|---|---|\n| one | `a::b::holds` |\n\
                    | two | `a::b::gone` |\n| three | none |\n| four | `a::c::holds` |\n## Next\n| x | y |\n";
        let code = "//! A.\n#[tokio::test]\nasync fn holds() {}\nfn gone() {}\n";
        let files = [File::of("ARCHITECTURE.md", page), File::of("crates/a/src/b.rs", code)];
        let findings = check(&files);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].contains("a::b::gone") && findings[1].contains("without a test"));
        assert!(findings[2].contains("a::c::holds"), "the file has to be right too");
    }

    #[test]
    fn the_page_must_be_there() {
        assert_eq!(check(&[]).len(), 1);
    }
}
