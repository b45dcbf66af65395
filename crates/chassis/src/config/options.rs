//! The options of a command as data, for `docs/CONFIG.md` and for error messages. It describes what
//! clap knows; nothing is written down a second time.

use clap::{Arg, ArgAction, Command};
use serde::Serialize;

/// One option of a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OptionDoc {
    /// `--admin-addr`; `None` for a positional argument.
    pub flag: Option<String>,
    /// Its variable, e.g. `ADMIN_ADDR`; `env` in JSON.
    #[serde(rename = "env")]
    pub variable: Option<String>,
    /// The variable that names a file with its value; only secrets have one. `file_env` in JSON.
    #[serde(rename = "file_env")]
    pub file_variable: Option<String>,
    /// Value used when nothing is given; several are joined by commas.
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether its value is kept out of logs and errors.
    pub secret: bool,
    /// Whether it is a switch, without a value.
    pub switch: bool,
    /// The only values it takes, where that is a short list.
    pub values: Vec<String>,
    /// A valid example, `VARIABLE=value` or `--flag=value`.
    pub example: Option<String>,
    /// What it is for: the whole text, without the lines that give example and file.
    pub help: String,
    /// Heading that groups it in `--help`.
    pub group: Option<String>,
}

/// Every option of `command` that is not hidden, in the order of `--help`; `--help` and `--version`
/// themselves are left out.
pub fn describe(command: &Command) -> Vec<OptionDoc> {
    let shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && !matches!(
                arg.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            )
    };
    command.get_arguments().filter(shown).map(document).collect()
}

/// What a binary prints for its hidden `--describe` flag: `{name, about, options}`.
pub fn describe_json(command: &Command) -> serde_json::Value {
    serde_json::json!({
        "name": command.get_name(),
        "about": command.get_about().map(ToString::to_string),
        "options": describe(command),
    })
}

fn document(arg: &Arg) -> OptionDoc {
    let switch = !arg.get_action().takes_values();
    let defaults: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    OptionDoc {
        flag: arg.get_long().map(|long| format!("--{long}")),
        variable: variable(arg).map(str::to_owned),
        file_variable: file_variable(arg),
        default: (!defaults.is_empty() && !switch).then(|| defaults.join(",")),
        required: arg.is_required_set(),
        secret: is_secret(arg),
        switch,
        values: if switch { Vec::new() } else { values(arg) },
        example: example(arg),
        help: help(arg),
        group: arg.get_help_heading().map(str::to_owned),
    }
}

/// The option's variable.
pub(super) fn variable(arg: &Arg) -> Option<&str> {
    arg.get_env().and_then(|name| name.to_str())
}

/// `hide_env_values` is how an `Args` struct says that an option is a secret.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

/// The variable that names a file with the secret.
pub(super) fn file_variable(arg: &Arg) -> Option<String> {
    is_secret(arg).then(|| variable(arg).map(|name| format!("{name}_FILE"))).flatten()
}

/// The values of a closed list.
pub(super) fn values(arg: &Arg) -> Vec<String> {
    arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

fn full_help(arg: &Arg) -> String {
    arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default()
}

const EXAMPLE: &str = "Example:";

fn help(arg: &Arg) -> String {
    let text = full_help(arg);
    let file = file_variable(arg).map(|file| format!("Or {file}:"));
    let told_apart = |line: &&str| {
        let line = line.trim_start();
        !line.starts_with(EXAMPLE) && !file.as_ref().is_some_and(|file| line.starts_with(file))
    };
    text.lines().filter(told_apart).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// A valid `VARIABLE=value`: from the line `Example: value` or the words ``e.g. `value` ``
/// of its help, else its default, else
/// the first of its possible values, else its value name where that reads like a value.
pub(super) fn example(arg: &Arg) -> Option<String> {
    let text = full_help(arg);
    let written = text.lines().find_map(|line| line.trim_start().strip_prefix(EXAMPLE));
    let written = written.map(|value| value.trim().trim_matches('`').to_owned());
    let quoted = text.split_once("e.g. `").and_then(|(_, rest)| rest.split('`').next());
    let written = written.or_else(|| quoted.map(str::to_owned));
    let default =
        || arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let first = || values(arg).into_iter().next();
    let value = written.or_else(default).or_else(first)?;
    let name = variable(arg).map(str::to_owned);
    let name = name.or_else(|| arg.get_long().map(|long| format!("--{long}")))?;
    Some(format!("{name}={value}"))
}
