//! Where values come from, and how a wrong one is told.

use chassis::config::SECRET_FILE_BYTES_MAX;
use chassis::{ConfigError, Definition, Environment, Problem, Secret, describe, describe_json};
use clap::{Args, Command, FromArgMatches};

#[expect(clippy::struct_field_names, reason = "the prefix makes variables that nobody has")]
#[derive(Clone, Debug, Args)]
struct Sample {
    /// PostgreSQL to keep logs in
    ///
    /// Example: `postgres://flotilla@localhost/flotilla`
    #[arg(long, env = "SAMPLE_URL", hide_env_values = true, value_parser = url)]
    sample_url: Secret,

    /// Port to listen on
    #[arg(long, env = "SAMPLE_PORT", default_value = "3000")]
    sample_port: u16,

    /// How loud
    #[arg(long, env = "SAMPLE_MODE", default_value = "soft", value_parser = ["soft", "loud"])]
    sample_mode: String,

    /// Names, separated by commas
    #[arg(long, env = "SAMPLE_NAMES", value_delimiter = ',')]
    sample_names: Vec<String>,

    /// A switch
    #[arg(long, env = "SAMPLE_DRY")]
    sample_dry: bool,

    /// Only together with names
    #[arg(long, env = "SAMPLE_EXTRA", requires = "sample_names")]
    sample_extra: Option<String>,
}

fn url(text: &str) -> Result<Secret, String> {
    if text.starts_with("postgres://") {
        Ok(Secret::from(text.to_owned()))
    } else {
        Err(format!("{text} does not start with postgres://"))
    }
}

const URL: &str = "postgres://u:secret-word@h/d";

fn definition() -> Definition {
    Definition::new(Sample::augment_args(Command::new("sample")))
}

fn read(args: &[&str], variables: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    let words = std::iter::once("sample").chain(args.iter().copied());
    let environment: Environment = variables.iter().copied().collect();
    let matches = definition().read(words, &environment)?;
    Ok(Sample::from_arg_matches(&matches).unwrap())
}

fn problems(args: &[&str], variables: &[(&str, &str)]) -> Vec<Problem> {
    match read(args, variables).unwrap_err() {
        ConfigError::Invalid(problems) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_win_over_variables_and_variables_over_defaults() {
    let both = read(&["--sample-port", "1"], &[("SAMPLE_URL", URL), ("SAMPLE_PORT", "2")]).unwrap();
    assert_eq!(both.sample_port, 1);
    let variable = read(&[], &[("SAMPLE_URL", URL), ("SAMPLE_PORT", "2")]).unwrap();
    assert_eq!(variable.sample_port, 2);
    assert_eq!(variable.sample_url.reveal(), URL);
    let default = read(&[], &[("SAMPLE_URL", URL)]).unwrap();
    assert_eq!((default.sample_port, default.sample_mode.as_str()), (3000, "soft"));
}

#[test]
fn an_empty_variable_is_an_absent_one() {
    let empty = read(&[], &[("SAMPLE_URL", URL), ("SAMPLE_PORT", "")]).unwrap();
    assert_eq!(empty.sample_port, 3000);
}

#[test]
fn lists_and_switches_can_be_variables() {
    let variables = [("SAMPLE_URL", URL), ("SAMPLE_NAMES", "a,b"), ("SAMPLE_DRY", "true")];
    let sample = read(&[], &variables).unwrap();
    assert_eq!((sample.sample_names, sample.sample_dry), (vec!["a".into(), "b".into()], true));
    let off = read(&[], &[("SAMPLE_URL", URL), ("SAMPLE_DRY", "0")]).unwrap();
    assert!(!off.sample_dry);
    let odd = problems(&[], &[("SAMPLE_URL", URL), ("SAMPLE_DRY", "maybe")]);
    assert_eq!(
        odd[0].to_string(),
        "SAMPLE_DRY=maybe: not a switch: true or false is expected (for example SAMPLE_DRY=true)"
    );
}

#[test]
fn every_problem_is_told_at_once_with_variable_value_and_example() {
    let found = problems(&[], &[("SAMPLE_PORT", "banana"), ("SAMPLE_MODE", "shrill")]);
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    let expect = |text: &str| assert!(told.iter().any(|line| line == text), "{text}\n{told:#?}");
    expect("SAMPLE_PORT=banana: invalid digit found in string (for example SAMPLE_PORT=3000)");
    expect("SAMPLE_MODE=shrill: not one of soft, loud (for example SAMPLE_MODE=soft)");
    expect(
        "SAMPLE_URL: not set: PostgreSQL to keep logs in \
         (for example SAMPLE_URL=postgres://flotilla@localhost/flotilla)",
    );
}

#[test]
fn a_wrong_value_of_a_flag_is_told_with_the_flag() {
    let found = problems(&["--sample-port=70000"], &[("SAMPLE_URL", URL)]);
    assert!(found[0].to_string().contains("SAMPLE_PORT=70000"), "{}", found[0]);
    assert!(found[0].to_string().contains("given as --sample-port"), "{}", found[0]);
}

#[test]
fn a_secret_is_never_told() {
    let found = problems(&[], &[("SAMPLE_URL", "mysql://u:secret-word@h/d")]);
    let told = found[0].to_string();
    assert!(!told.contains("secret-word"), "{told}");
    assert!(told.starts_with("SAMPLE_URL=(redacted, 25 bytes): (redacted) does not"), "{told}");
    let read = read(&[], &[("SAMPLE_URL", URL)]).unwrap();
    assert!(!format!("{read:?}").contains("secret-word"));
}

#[test]
fn a_secret_can_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("url");
    let file = path.to_str().unwrap();
    std::fs::write(&path, format!("{URL}\n")).unwrap();
    let sample = read(&[], &[("SAMPLE_URL_FILE", file)]).unwrap();
    assert_eq!(sample.sample_url.reveal(), URL);

    let both = problems(&[], &[("SAMPLE_URL_FILE", file), ("SAMPLE_URL", URL)]);
    assert!(both[0].to_string().contains("both set"), "{}", both[0]);

    std::fs::write(&path, "mysql://secret-word").unwrap();
    let wrong = problems(&[], &[("SAMPLE_URL_FILE", file)]);
    assert!(wrong[0].to_string().contains(&format!("read from {file}")), "{}", wrong[0]);
    assert!(!wrong[0].to_string().contains("secret-word"), "{}", wrong[0]);

    std::fs::write(&path, "\n").unwrap();
    let empty = problems(&[], &[("SAMPLE_URL_FILE", file)]);
    assert!(empty.iter().any(|p| p.option == "SAMPLE_URL_FILE" && p.reason == "is empty"));

    std::fs::remove_file(&path).unwrap();
    let gone = problems(&[], &[("SAMPLE_URL_FILE", file)]);
    assert!(gone[0].to_string().starts_with(&format!("SAMPLE_URL_FILE={file}: cannot be read")));
}

#[test]
fn a_secret_file_has_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("url");
    let longest = usize::try_from(SECRET_FILE_BYTES_MAX).unwrap();
    let text = format!("{URL}{}", "x".repeat(longest - URL.len()));
    std::fs::write(&path, &text).unwrap();
    let variables = [("SAMPLE_URL_FILE", path.to_str().unwrap())];
    assert_eq!(read(&[], &variables).unwrap().sample_url.reveal(), text);
    std::fs::write(&path, format!("{text}x")).unwrap();
    assert!(problems(&[], &variables)[0].reason.contains("longer than 65536 bytes"));
}

#[test]
fn only_secrets_have_files() {
    let ignored = [("SAMPLE_URL", URL), ("SAMPLE_PORT_FILE", "/nowhere")];
    assert_eq!(read(&[], &ignored).unwrap().sample_port, 3000);
}

#[test]
fn an_unknown_flag_is_usage_and_help_names_the_variables() {
    assert!(matches!(read(&["--sample-prot=1"], &[]), Err(ConfigError::Usage(_))));
    let Err(ConfigError::Shown(help)) = read(&["--help"], &[]) else { panic!("no help") };
    assert!(help.contains("SAMPLE_PORT") && help.contains("SAMPLE_URL_FILE"), "{help}");
}

#[test]
fn options_describe_themselves() {
    let definition = definition();
    let options = describe(definition.command());
    let url = options.iter().find(|o| o.variable.as_deref() == Some("SAMPLE_URL")).unwrap();
    assert!(url.secret && url.required);
    assert_eq!(url.file_variable.as_deref(), Some("SAMPLE_URL_FILE"));
    assert!(!url.help.contains("Example:"), "{}", url.help);
    let json = describe_json(definition.command());
    assert_eq!(json["options"][1]["env"], "SAMPLE_PORT");
    assert_eq!(json["options"][1]["default"], "3000");
    assert_eq!(json["options"].as_array().unwrap().len(), 6);
}

#[test]
fn an_option_may_need_another_that_is_a_variable() {
    let variables = [("SAMPLE_URL", URL), ("SAMPLE_NAMES", "a")];
    let both = read(&["--sample-extra=x"], &variables).unwrap();
    assert_eq!(both.sample_extra.as_deref(), Some("x"));
    let alone = problems(&["--sample-extra=x"], &[("SAMPLE_URL", URL)]);
    assert_eq!(alone[0].option, "SAMPLE_NAMES");
}
