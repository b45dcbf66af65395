//! The real parts that tests and the demo start: which are missing, and installing them with the
//! platform's package manager, saying so. Servers themselves are started by `local-services`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::machine::{self, Machine, PackageManager};

/// For what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// `make demo`: PostgreSQL and Redis.
    Demo,
    /// `make test`: all of them.
    Test,
}

/// One part, how to see that it is there, and the packages that bring it.
struct Part {
    name: &'static str,
    /// Only the tests need it.
    tests_only: bool,
    present: fn(&Machine) -> bool,
    apt: &'static [&'static str],
    dnf: &'static [&'static str],
    brew: &'static [&'static str],
}

const PARTS: [Part; 5] = [
    Part {
        name: "PostgreSQL",
        tests_only: false,
        present: has_postgres,
        apt: &["postgresql"],
        dnf: &["postgresql-server"],
        brew: &["postgresql@15"],
    },
    Part {
        name: "Redis",
        tests_only: false,
        present: |machine| machine.find("redis-server").is_some(),
        apt: &["redis-server"],
        dnf: &["redis"],
        brew: &["redis"],
    },
    Part {
        name: "Java 17 (for OpenSearch)",
        tests_only: true,
        present: has_java,
        apt: &["openjdk-17-jre-headless"],
        dnf: &["java-17-openjdk-headless"],
        brew: &["openjdk@17"],
    },
    Part {
        name: "Maven (brings OpenSearch)",
        tests_only: true,
        present: |machine| machine.find("mvn").is_some(),
        apt: &["maven"],
        dnf: &["maven"],
        brew: &["maven"],
    },
    Part {
        name: "Python 3.13 or later (for LocalStack)",
        tests_only: true,
        present: has_python,
        // Named by version: where the platform has none, its manager says so.
        apt: &["python3.13", "python3.13-venv"],
        dnf: &["python3.13"],
        brew: &["python@3.13"],
    },
];

/// Installs what is missing; what cannot be had is named, and a failure under CI.
pub(crate) fn run(machine: &Machine, purpose: Purpose) -> ExitCode {
    let mut lacking = Vec::new();
    for part in PARTS.iter().filter(|part| purpose == Purpose::Test || !part.tests_only) {
        if (part.present)(machine) {
            continue;
        }
        if let Err(error) = install(machine, part) {
            println!("UNTESTED: {} could not be installed: {error:#}", part.name);
        }
        if !(part.present)(machine) {
            lacking.push(part);
        }
    }
    for part in &lacking {
        println!("UNTESTED: {} is missing; to have it: {}", part.name, by_hand(machine, part));
    }
    // The demo cannot run without its parts; tests skip what lacks one, but not in CI.
    let fails = !lacking.is_empty() && (machine.is_ci() || purpose == Purpose::Demo);
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn install(machine: &Machine, part: &Part) -> Result<()> {
    let commands = commands(machine, part);
    if commands.is_empty() {
        bail!("no package manager that we know (apt-get, dnf, brew)");
    }
    println!("{} is missing; installing it:", part.name);
    for mut command in commands {
        println!("  {}", machine::show(&command));
        machine::run(&mut command)?;
    }
    Ok(())
}

fn commands(machine: &Machine, part: &Part) -> Vec<Command> {
    let Some(manager) = machine.package_manager() else { return Vec::new() };
    let sudo = machine.sudo() && manager != PackageManager::Brew;
    let command = |words: &[&str]| {
        let words: Vec<&str> =
            sudo.then_some("sudo").into_iter().chain(words.iter().copied()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let install = |head: &[&str], packages: &[&str]| command(&[head, packages].concat());
    match manager {
        PackageManager::Apt => vec![
            command(&["apt-get", "update", "--quiet"]),
            install(
                &["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"],
                part.apt,
            ),
        ],
        PackageManager::Dnf => vec![install(&["dnf", "install", "--assumeyes"], part.dnf)],
        PackageManager::Brew => vec![install(&["brew", "install"], part.brew)],
    }
}

fn by_hand(machine: &Machine, part: &Part) -> String {
    commands(machine, part)
        .last()
        .map_or_else(|| format!("install {} by hand", part.apt.join(" ")), machine::show)
}

fn has_postgres(machine: &Machine) -> bool {
    let bindir = machine::output("pg_config", &["--bindir"]).unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    Path::new(bindir.trim()).join("initdb").is_file()
        || machine.find("initdb").is_some()
        || debian.into_iter().any(|version| version.path().join("bin/initdb").is_file())
}

fn has_java(_: &Machine) -> bool {
    machine::output("java", &["-version"]).is_some_and(|said| major(&said) >= Some(17))
}

/// The first number of the first quoted version, e.g. 17 of `openjdk version "17.0.9"`.
fn major(said: &str) -> Option<u32> {
    said.split('"').nth(1)?.split('.').next()?.parse().ok()
}

fn has_python(machine: &Machine) -> bool {
    let by_name = ["python3.13", "python3.14"];
    by_name.iter().any(|name| machine::output(name, &["--version"]).is_some())
        || machine::output("python3", &["--version"]).is_some_and(|said| minor(&said) >= Some(13))
        || !machine.pyenv_pythons().is_empty()
}

/// The minor version, e.g. 11 of `Python 3.11.7`.
fn minor(said: &str) -> Option<u32> {
    said.trim().strip_prefix("Python 3.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{PARTS, major, minor};

    #[test]
    fn java_versions_are_read() {
        assert_eq!(major("openjdk version \"17.0.9\" 2023-10-17"), Some(17));
        assert_eq!(major("openjdk version \"1.8.0_392\""), Some(1));
        assert_eq!(major("command not found"), None);
    }

    #[test]
    fn python_versions_are_read() {
        assert_eq!(minor("Python 3.11.7\n"), Some(11));
        assert_eq!(minor("Python 3.13.0rc1"), Some(13));
        assert_eq!(minor("Python 2.7.18"), None);
    }

    #[test]
    fn every_part_names_its_packages_everywhere() {
        for part in PARTS {
            assert!(!part.apt.is_empty() && !part.dnf.is_empty() && !part.brew.is_empty());
        }
    }
}
