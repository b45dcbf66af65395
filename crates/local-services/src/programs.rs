//! Where programs are, and which command installs one that is missing. Asks the shell and known
//! directories; reads no environment variable itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The path of a program on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let output = Command::new("sh")
        .args(["-c", "command -v -- \"$1\"", "sh", program])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (output.status.success() && path.is_absolute()).then_some(path)
}

/// Names of one package with the package managers we know.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Debian, Ubuntu.
    pub apt: &'static str,
    /// Fedora, RHEL.
    pub dnf: &'static str,
    /// Alpine.
    pub apk: &'static str,
    /// Arch.
    pub pacman: &'static str,
    /// macOS.
    pub brew: &'static str,
}

impl Package {
    /// The command that installs it here.
    pub fn install_command(&self) -> String {
        let sudo = if crate::account::is_root() { "" } else { "sudo " };
        let managers = [
            ("apt-get", format!("{sudo}apt-get install -y {}", self.apt)),
            ("dnf", format!("{sudo}dnf install -y {}", self.dnf)),
            ("apk", format!("{sudo}apk add {}", self.apk)),
            ("pacman", format!("{sudo}pacman -S --noconfirm {}", self.pacman)),
            ("brew", format!("brew install {}", self.brew)),
        ];
        let here = managers.into_iter().find(|(manager, _)| on_path(manager).is_some());
        here.map_or_else(|| format!("install the package `{}`", self.apt), |(_, command)| command)
    }
}

/// Whether that is a file one may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command as one could type it.
pub(crate) fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
