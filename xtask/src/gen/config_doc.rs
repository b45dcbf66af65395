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

/// `{"about": …, "options": [{flag, env, file_env, default, required, values, example, help, group}]}`
/// as one table per group.
fn table(name: &str, value: &Value) -> String {
    let about = value["about"].as_str().unwrap_or_default();
    let mut out = vec![format!("\n## {name}\n\n{about}\n")];
    let mut group = None;
    for option in value["options"].as_array().into_iter().flatten() {
        let next = option["group"].as_str().unwrap_or("General");
        if group != Some(next) {
            group = Some(next);
            out.push(format!("\n### {name}: {next}\n\n"));
            out.push("| Variable | Flag | Default | What it is |\n|---|---|---|---|\n".to_owned());
        }
        out.push(row(option));
    }
    out.concat()
}

fn row(option: &Value) -> String {
    let text = |key: &str| option[key].as_str().unwrap_or_default();
    let variable = match (text("env"), text("file_env")) {
        (variable, "") => code(variable),
        (variable, file) => format!("{}, {}", code(variable), code(file)),
    };
    let required = option["required"].as_bool().unwrap_or(false);
    let default = if required { "**required**".to_owned() } else { code(text("default")) };
    // Paragraphs become sentences of one cell.
    let help = text("help").split("\n\n").map(|part| part.replace('\n', " "));
    let mut help = help.collect::<Vec<_>>().join(". ").replace('|', "\\|").replace("..", ".");
    let values: Vec<&str> =
        option["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !values.is_empty() {
        help.push_str(&[" (", &values.join(", "), ")"].concat());
    }
    if default.is_empty() || required {
        let example = text("example");
        let example = example.split_once('=').map_or(example, |(_, value)| value);
        if !example.is_empty() {
            help.push_str(&[", e.g. ", &code(example)].concat());
        }
    }
    format!("| {variable} | {} | {default} | {help} |\n", code(text("flag")))
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn an_option_is_one_row_under_its_group() {
        let value = json!({ "about": "Does a thing.", "options": [
            { "flag": "--url", "env": "URL", "file_env": "URL_FILE", "default": null,
              "required": true, "values": [], "example": "URL=http://a", "group": "Net",
              "help": "Where it is\n\nOne | two." },
            { "flag": "--mode", "env": "MODE", "file_env": null, "default": "a", "required": false,
              "values": ["a", "b"], "example": "MODE=a", "group": null, "help": "How" },
        ]});
        let text = table("x", &value);
        assert!(text.contains("### x: Net\n"), "{text}");
        let url = "| `URL`, `URL_FILE` | `--url` | **required** | Where it is. One \\| two., e.g. `http://a` |";
        assert!(text.contains(url), "{text}");
        assert!(text.contains("| `MODE` | `--mode` | `a` | How (a, b) |"), "{text}");
    }
}
