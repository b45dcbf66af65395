//! Types a command and returns what it said; nothing of the developer's own environment reaches it.

use std::process::{Command, Stdio};

use serde_json::Value;

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The JSON lines of stdout.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Fails unless it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// Runs `fleetctl` with these variables alone, beside the test's own runtime.
pub(crate) async fn fleetctl(variables: &[(&str, String)], words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    command.env_clear().envs(variables.iter().map(|(n, v)| (*n, v))).args(words);
    command.stdin(Stdio::null()).current_dir(std::env::temp_dir());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
