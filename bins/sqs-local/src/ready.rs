//! Telling whoever waits that calls are answered: a line on the standard output, and a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sqs_emulator::Server;

use crate::Arguments;

/// A file that names the endpoint while the server runs; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct ReadyFile(Option<PathBuf>);

/// Writes the file, when there is to be one: whole at once, so that a reader never sees half of it.
pub(crate) fn announce(server: &Server, path: Option<&Path>) -> Result<ReadyFile, String> {
    let Some(path) = path else { return Ok(ReadyFile(None)) };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let whole = PathBuf::from(name);
    let written = fs::write(&whole, format!("{}\n", server.endpoint()));
    written
        .and_then(|()| fs::rename(&whole, path))
        .map_err(|error| format!("the ready file {} cannot be written: {error}", path.display()))?;
    Ok(ReadyFile(Some(path.to_owned())))
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "the ready file could not be removed");
        }
    }
}

/// The line on the standard output.
pub(crate) fn line(server: &Server, arguments: &Arguments) -> String {
    let endpoint = server.endpoint();
    if arguments.json {
        return json!({
            "endpoint": endpoint,
            "address": server.addr().ip().to_string(),
            "port": server.addr().port(),
            "process": std::process::id(),
            "data_dir": arguments.data_dir,
            "strict": arguments.strict,
            "test_controls": arguments.test_controls,
        })
        .to_string();
    }
    format!("sqs-local listens on {endpoint}")
}
