//! Starts the binary, waits until it listens, talks to it over raw HTTP, kills it at the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sqs-local");

pub(crate) struct Process {
    child: Child,
    pub(crate) addr: String,
}

impl Process {
    pub(crate) fn start(data_dir: &Path) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--port", "0", "--data-dir"]).arg(data_dir);
        Self::run(command)
    }

    pub(crate) fn run(command: Command) -> Self {
        Self::run_and_read(command).0
    }

    /// Also gives the line that says where it listens.
    pub(crate) fn run_and_read(mut command: Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let after = line.split("http://").nth(1).unwrap_or_default();
        let addr: String = after.chars().take_while(|c| !"\" \n".contains(*c)).collect();
        assert!(addr.contains(':'), "it did not start: {line:?}");
        (Self { child, addr }, line)
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    pub(crate) fn client(&self) -> Client {
        Client { addr: self.addr.clone(), stream: None }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone after `kill` and `terminate`.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// One keep-alive connection; made again after an error.
pub(crate) struct Client {
    addr: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Calls an action; `None` when the connection broke, whatever the server did.
    pub(crate) fn call(&mut self, action: &str, body: &Value) -> Option<(u16, Value)> {
        let reply = self.try_call(action, &body.to_string());
        if reply.is_none() {
            self.stream = None;
        }
        reply
    }

    /// Calls an action that has to succeed.
    pub(crate) fn ok(&mut self, action: &str, body: &Value) -> Value {
        let (status, reply) = self.call(action, body).unwrap();
        assert_eq!(status, 200, "{action}: {reply}");
        reply
    }

    /// Reads one of the emulator's own pages as JSON.
    pub(crate) fn get(&mut self, path: &str) -> Value {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr);
        let (status, page) = self.exchange(&request).unwrap();
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    fn try_call(&mut self, action: &str, body: &str) -> Option<(u16, Value)> {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: AmazonSQS.{action}\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        self.exchange(&request)
    }

    fn exchange(&mut self, request: &str) -> Option<(u16, Value)> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.addr).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut()?;
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let mut status = None;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if status.is_none() {
                status = Some(line.split(' ').nth(1)?.parse().ok()?);
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body =
            if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
        Some((status?, body))
    }
}

pub(crate) fn count(client: &mut Client, queue: &str) -> u64 {
    let attributes = client.ok(
        "GetQueueAttributes",
        &serde_json::json!({ "QueueUrl": queue, "AttributeNames": ["All"] }),
    );
    ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        .iter()
        .map(|name| attributes["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap())
        .sum()
}
