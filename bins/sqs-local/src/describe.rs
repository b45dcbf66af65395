//! The command line as data, for `docs/CONFIG.md`: what clap knows, nothing written down twice.

use clap::{Arg, Command};
use serde_json::{Value, json};

/// `{name, about, options: [{flag, env, default, required, secret, switch, help, …}]}`.
pub(crate) fn describe(command: &Command) -> Value {
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_long().is_some();
    json!({
        "name": command.get_name(),
        "about": command.get_about().map(ToString::to_string),
        "options": command.get_arguments().filter(shown).map(option).collect::<Vec<Value>>(),
    })
}

fn option(arg: &Arg) -> Value {
    let switch = !arg.get_action().takes_values();
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let default = defaults.collect::<Vec<_>>().join(",");
    json!({
        "flag": arg.get_long().map(|long| format!("--{long}")),
        "env": arg.get_env().map(|name| name.to_string_lossy()),
        "file_env": null,
        "default": (!default.is_empty() && !switch).then_some(default),
        "required": arg.is_required_set(),
        "secret": false,
        "switch": switch,
        "values": [],
        "example": null,
        "help": arg.get_help().map(ToString::to_string).unwrap_or_default(),
        "group": null,
    })
}
