//! `docs/CONFIG.md`: every binary's options, asked of the binary itself (`--describe`), so that the
//! page cannot differ from what the binary takes and a new binary needs no line here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tree;

/// The file.
pub(super) const PATH: &str = "docs/CONFIG.md";

const HEAD: &str = "\
# Configuration

Written by `cargo xtask gen` from the binaries' own option definitions; edit those, not this page.

Every option is a flag and an environment variable; the flag wins. A secret can also be given as a
file: append `_FILE` to its variable. `--check-config` checks every value and exits (78 when one is
wrong) without starting anything.
";

/// The whole page; builds the binaries.
pub(super) fn render(root: &Path) -> Result<String> {
    let mut out = vec![HEAD.to_owned()];
    for name in tree::binaries(root)? {
        out.push(section(root, &name)?);
    }
    Ok(out.concat())
}

fn section(root: &Path, name: &str) -> Result<String> {
    let output = Command::new(std::env!("CARGO"))
        .current_dir(root)
        .args(["run", "--quiet", "--package", name, "--", "--describe"])
        .output()
        .with_context(|| format!("run {name} --describe"))?;
    ensure!(
        output.status.success(),
        "{name} --describe failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{name} --describe printed no JSON"))?;
    Ok(table(name, &value))
}

/// `{"about": …, "options": [{flag, env, default, help, required, secret}]}` as a table.
fn table(name: &str, value: &Value) -> String {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut out = vec![format!("\n## {name}\n\n{}\n\n", text(value, "about"))];
    out.push("| Variable | Flag | Default | What it is |\n|---|---|---|---|\n".to_owned());
    for option in value["options"].as_array().into_iter().flatten() {
        let default = if option["required"].as_bool().unwrap_or(false) {
            "required".to_owned()
        } else {
            code(&text(option, "default"))
        };
        out.push(format!(
            "| {} | {} | {default} | {} |\n",
            code(&text(option, "env")),
            code(&text(option, "flag")),
            text(option, "help").replace('|', "\\|").replace('\n', " "),
        ));
    }
    out.concat()
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}
