//! Configuration from one `clap` definition: flags win over variables, variables over defaults.
//! Everything is checked at start, and every problem is told at once, each with its variable, its
//! value and a valid example. The environment is handed in, so that tests and `fleet` choose it.

mod environment;
mod options;
mod problem;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::builder::{Resettable, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub use environment::Environment;
pub use options::{OptionDoc, describe, describe_json};
pub use problem::Problem;

use options::{file_variable, is_secret, variable};

/// A secret's file is at most this long; more is a mistake in the path.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--help` or `--version`: the text to print. Not an error.
    #[error("{0}")]
    Shown(String),
    /// The command line cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// Values that are missing or wrong, all of them.
    #[error("{}", problem::list(.0))]
    Invalid(Vec<Problem>),
}

/// Where a value came from, for error messages.
#[derive(Clone, Debug)]
enum Source {
    CommandLine,
    Variable,
    File(PathBuf),
}

/// The options of one binary, ready to be read.
#[derive(Clone, Debug)]
pub struct Definition {
    command: Command,
}

impl Definition {
    /// Takes a `clap` command. Options marked `hide_env_values` are secrets: redacted in errors,
    /// and readable from the file that `{VARIABLE}_FILE` names.
    pub fn new(command: Command) -> Self {
        Self {
            command: command.mut_args(|arg| match file_variable(&arg) {
                Some(file) => {
                    let help = arg.get_long_help().or_else(|| arg.get_help());
                    let help = help.map(ToString::to_string).unwrap_or_default();
                    arg.long_help(format!("{help}\n\nOr {file}: a file that holds it."))
                }
                None => arg,
            }),
        }
    }

    /// The command, for help, completions and docs.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Reads and checks every value. `args` starts with the program's name. An empty variable is
    /// the same as an absent one.
    pub fn read(
        &self,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        environment: &Environment,
    ) -> Result<ArgMatches, ConfigError> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        // What options need of each other shows only when the variables are there, too.
        match relaxed(self.command.clone()).try_get_matches_from(&args) {
            Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
                return Err(self.usage(&args, &error));
            }
            _ => {}
        }
        let mut sources = HashMap::new();
        let mut problems = Vec::new();
        let mut line: Vec<OsString> = args.first().cloned().into_iter().collect();
        for arg in self.command.get_arguments() {
            if is_typed(arg, &args) {
                sources.insert(arg.get_id().clone(), Source::CommandLine);
                continue;
            }
            match from_environment(arg, environment) {
                Ok(None) => {}
                Ok(Some((word, source))) => {
                    line.extend(word);
                    sources.insert(arg.get_id().clone(), source);
                }
                Err(problem) => problems.push(*problem),
            }
        }
        line.extend(args.into_iter().skip(1));
        self.strict(&line, problems, &sources)
    }

    /// Parses for real; on a problem, takes that option out of the way and looks for the next.
    fn strict(
        &self,
        line: &[OsString],
        mut problems: Vec<Problem>,
        sources: &HashMap<clap::Id, Source>,
    ) -> Result<ArgMatches, ConfigError> {
        let mut command = self.command.clone().mut_args(without_variable);
        loop {
            let error = match command.clone().try_get_matches_from(line) {
                Ok(matches) if problems.is_empty() => return Ok(matches),
                Ok(_) => return Err(ConfigError::Invalid(problems)),
                Err(error) => error,
            };
            let found = problem::of(&self.command, &error, sources);
            if found.is_empty() {
                return Err(ConfigError::Usage(error.to_string()));
            }
            let known = problems.len();
            for (id, problem) in found {
                command = command.mut_arg(id, |arg| anything(arg.required(false)));
                if problems.iter().all(|known| known.option != problem.option) {
                    problems.push(problem);
                }
            }
            // What one option needs of another cannot be taken out of the way.
            if problems.len() == known {
                return Err(ConfigError::Invalid(problems));
            }
        }
    }

    fn usage(&self, args: &[OsString], error: &clap::Error) -> ConfigError {
        match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                // Asked again of the untouched command: its help shows the variables.
                let shown = self.command.clone().try_get_matches_from(args).err();
                let text = shown.map(|shown| shown.render());
                ConfigError::Shown(text.map_or_else(
                    || error.to_string(),
                    |text| {
                        let colours = std::io::stdout().is_terminal();
                        if colours { text.ansi().to_string() } else { text.to_string() }
                    },
                ))
            }
            _ => ConfigError::Usage(error.to_string()),
        }
    }
}

/// One group of options, read on its own: for parts that are configured inside another process.
pub fn parse<C: clap::Args>(
    name: &'static str,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    environment: &Environment,
) -> Result<C, ConfigError> {
    let definition = Definition::new(C::augment_args(Command::new(name)));
    let words = std::iter::once(OsString::from(name)).chain(args.into_iter().map(Into::into));
    let matches = definition.read(words, environment)?;
    C::from_arg_matches(&matches).map_err(|error| ConfigError::Usage(error.to_string()))
}

/// Whether the command line names the option. Such an option takes no value from its variable.
fn is_typed(arg: &Arg, args: &[OsString]) -> bool {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names = |word: &OsString| {
        let Some(word) = word.to_str() else { return false };
        let flag = word.split_once('=').map_or(word, |(flag, _)| flag);
        long.as_deref() == Some(flag)
            || short.as_ref().is_some_and(|s| word.starts_with(s.as_str()))
    };
    args.iter().skip(1).take_while(|word| *word != "--").any(names)
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::<clap::builder::OsStr>::Reset)
}

/// Accepts any value, so that parsing gets as far as the next problem.
fn anything(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::Set | ArgAction::Append => arg.value_parser(ValueParser::os_string()),
        _ => arg,
    }
}

/// The command that only finds out which options were typed.
fn relaxed(command: Command) -> Command {
    command.mut_args(|arg| anything(without_variable(arg).required(false)))
}

/// The words that stand for this option's variable or secret file.
fn from_environment(
    arg: &Arg,
    environment: &Environment,
) -> Result<Option<(Option<OsString>, Source)>, Box<Problem>> {
    let Some((variable, long)) = variable(arg).zip(arg.get_long()) else { return Ok(None) };
    let direct = environment.get(variable);
    let file = is_secret(arg).then(|| format!("{variable}_FILE"));
    let file = file.and_then(|name| Some((environment.get(&name)?, name)));
    let (value, source) = match (direct, file) {
        (None, None) => return Ok(None),
        (Some(_), Some((_, name))) => {
            return Err(Box::new(Problem {
                option: name.clone(),
                value: None,
                reason: format!("{variable} and {name} are both set; keep one of them"),
                example: None,
            }));
        }
        (Some(value), None) => (value.to_owned(), Source::Variable),
        (None, Some((path, name))) => {
            let path = PathBuf::from(path);
            let value = read_secret(&path).map_err(|reason| {
                Box::new(Problem {
                    option: name.clone(),
                    value: Some(path.display().to_string()),
                    reason,
                    example: Some(format!("{name}=/run/secrets/{}", variable.to_lowercase())),
                })
            })?;
            (OsString::from(value), Source::File(path))
        }
    };
    Ok(Some((words(arg, long, value)?, source)))
}

/// `--flag=value`, or for a switch `--flag` where the variable says yes.
fn words(arg: &Arg, long: &str, value: OsString) -> Result<Option<OsString>, Box<Problem>> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value.to_str().map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true" | "yes" | "on") => Ok(Some(format!("--{long}").into())),
            Some("0" | "false" | "no" | "off") => Ok(None),
            _ => Err(Box::new(Problem {
                option: variable(arg).unwrap_or(long).to_owned(),
                value: Some(value.to_string_lossy().into_owned()),
                reason: "not a switch: true or false is expected".to_owned(),
                example: Some(format!("{}=true", variable(arg).unwrap_or(long))),
            })),
        };
    }
    let mut word = OsString::from(format!("--{long}="));
    word.push(value);
    Ok(Some(word))
}

/// The file's text without the newline that editors put at its end.
fn read_secret(path: &std::path::Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut text = String::new();
    file.take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("is longer than {SECRET_FILE_BYTES_MAX} bytes: not a secret"));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}
