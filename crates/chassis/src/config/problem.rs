//! One thing wrong with the configuration, told so that it can be mended without reading code: the
//! variable, its value (secrets redacted), why, and a valid example.

use std::collections::HashMap;
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Id};

use super::Source;
use super::options::{example, is_secret, values, variable};

/// A value that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable, or the flag of an option without one.
    pub option: String,
    /// The value as given; redacted for secrets; `None` when it is missing.
    pub value: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// A valid `VARIABLE=value`.
    pub example: Option<String>,
}

impl Problem {
    /// A problem that only a check of several values can find.
    pub fn new(
        option: impl Into<String>,
        value: &impl fmt::Display,
        reason: impl Into<String>,
        example: impl Into<String>,
    ) -> Self {
        Self {
            option: option.into(),
            value: Some(value.to_string()),
            reason: reason.into(),
            example: Some(example.into()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}: {}", self.option, self.reason)?,
            None => write!(f, "{}: {}", self.option, self.reason)?,
        }
        match &self.example {
            Some(example) => write!(f, " (for example {example})"),
            None => Ok(()),
        }
    }
}

/// All problems as text, one a line.
pub(super) fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    let head = match problems.len() {
        1 => "the configuration has a problem:".to_owned(),
        n => format!("the configuration has {n} problems:"),
    };
    format!("{head}\n{}", lines.join("\n"))
}

/// What clap found wrong, as problems; empty when it is not about values.
pub(super) fn of(
    command: &Command,
    error: &clap::Error,
    sources: &HashMap<Id, Source>,
) -> Vec<(Id, Problem)> {
    let named: Vec<&Arg> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => {
            names.iter().filter_map(|name| find(command, name)).collect()
        }
        Some(ContextValue::String(name)) => find(command, name).into_iter().collect(),
        _ => Vec::new(),
    };
    let problems = named.into_iter().map(|arg| {
        let problem = match error.kind() {
            ErrorKind::MissingRequiredArgument => missing(arg),
            _ => wrong(arg, error, sources.get(arg.get_id())),
        };
        (arg.get_id().clone(), problem)
    });
    problems.collect()
}

/// clap names an argument as `--admin-addr <ADMIN_ADDR>`.
fn find<'a>(command: &'a Command, shown: &str) -> Option<&'a Arg> {
    let flag = shown.split([' ', '=']).next()?;
    let matches = |arg: &&Arg| match arg.get_long() {
        Some(long) => flag.strip_prefix("--") == Some(long),
        None => arg.to_string() == shown,
    };
    command.get_arguments().find(matches)
}

fn name(arg: &Arg) -> String {
    let flag = || arg.get_long().map_or_else(|| arg.to_string(), |long| format!("--{long}"));
    variable(arg).map_or_else(flag, str::to_owned)
}

fn missing(arg: &Arg) -> Problem {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split(['\n', '.']).next().unwrap_or_default().trim().to_owned();
    let reason = if help.is_empty() { "not set".to_owned() } else { format!("not set: {help}") };
    Problem { option: name(arg), value: None, reason, example: example(arg) }
}

fn wrong(arg: &Arg, error: &clap::Error, source: Option<&Source>) -> Problem {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.clone(),
        _ => String::new(),
    };
    let accepted = values(arg);
    let reason = match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None if !accepted.is_empty() => format!("not one of {}", accepted.join(", ")),
        None => error.kind().as_str().unwrap_or("not understood").to_owned(),
    };
    let reason = match source {
        Some(Source::File(path)) => format!("{reason} (read from {})", path.display()),
        Some(Source::CommandLine) => {
            format!(
                "{reason} (given as {})",
                arg.get_long().map_or_else(String::new, |long| format!("--{long}"))
            )
        }
        Some(Source::Variable) | None => reason,
    };
    let (value, reason) = if is_secret(arg) {
        let redacted = format!("(redacted, {} bytes)", value.len());
        let reason = if value.is_empty() { reason } else { reason.replace(&value, "(redacted)") };
        (redacted, reason)
    } else {
        (value, reason)
    };
    Problem { option: name(arg), value: Some(value), reason, example: example(arg) }
}
