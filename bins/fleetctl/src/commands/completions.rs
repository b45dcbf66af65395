//! `fleetctl completions`: the shell's completion script on stdout.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Example: `fleetctl completions bash > /etc/bash_completion.d/fleetctl`
#[derive(Args)]
#[command(
    after_help = "Example:\n  fleetctl completions bash > ~/.local/share/bash-completion/completions/fleetctl"
)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "fleetctl", &mut script);
        crate::output::line(String::from_utf8_lossy(&script).trim_end());
    }
}
