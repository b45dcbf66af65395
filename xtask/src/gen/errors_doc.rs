//! `docs/errors.md`: one section per error code, which problem documents link to by anchor.

use contracts::ErrorCode;

/// The file.
pub(super) const PATH: &str = "docs/errors.md";

const HEAD: &str = "\
# Errors

Written by `cargo xtask gen` from `crates/contracts/src/errors.rs`; edit that file, not this one.

The same codes stand in the API's problem documents (`type`), in dead letters (`fleetctl dlq list`)
and in the command line's errors. *Retryable* means that the same request or message may succeed
later, unchanged.

| Code | HTTP status | Retryable | What it is |
|---|---|---|---|
";

/// The whole page.
pub(super) fn render(codes: &[ErrorCode]) -> String {
    let mut out = vec![HEAD.to_owned()];
    for code in codes {
        out.push(format!(
            "| [`{0}`](#{0}) | {1} | {2} | {3} |\n",
            code.code,
            code.status,
            yes(code.retryable),
            code.title
        ));
    }
    for code in codes {
        out.push(format!(
            "\n## {}\n\n{} HTTP status {}; retryable: {}.\n\n{}\n",
            code.code,
            code.title,
            code.status,
            yes(code.retryable),
            code.hint
        ));
    }
    out.concat()
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
