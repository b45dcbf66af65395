//! The demo's fleet: its folder, its processes and the commands typed against it. Everything is on
//! loopback and under one folder; variables of the shell that name other databases are overridden.

mod typed;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::process::{Process, pause};
use super::say;

/// Whose events the demo sends.
pub(super) const TENANT: &str = "demo";
/// The file with the public key of the archive.
pub(super) const KEY_FILE: &str = "archive.pub";
/// The fleet is ready in seconds; the first start also makes a database.
const START_MAX: Duration = Duration::from_secs(120);

/// What is running and where.
pub(super) struct Stage {
    folder: PathBuf,
    bins: PathBuf,
    variables: BTreeMap<String, String>,
    fleet: Option<Process>,
    worker: Option<Process>,
    workers_started: usize,
}

impl Stage {
    /// An empty folder beside the binaries that cargo has just built.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let folder = root.join(".flotilla/demo");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| {
                format!(
                    "{} is in use: is another demo running? (make demo KEEP=1)",
                    folder.display()
                )
            })?;
        }
        fs::create_dir_all(&folder)?;
        let exe = std::env::current_exe()?;
        let bins = exe.parent().context("a binary without a folder")?.to_path_buf();
        let variables = BTreeMap::new();
        Ok(Self { folder, bins, variables, fleet: None, worker: None, workers_started: 0 })
    }

    /// Makes the key that signs the archive; the fleet reads it when it starts.
    pub(super) fn make_signing_key(&mut self) -> Result<()> {
        let file = self.path("key.pem");
        self.show(&["signing", "new", &file])?;
        self.variables.insert("ARCHIVE_SIGNING_KEY_FILE".into(), file);
        Ok(())
    }

    /// Starts every service but the index worker, and waits until the API answers.
    pub(super) fn start_fleet(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut command = Command::new(self.bins.join("fleet"));
        for name in typed::FOREIGN {
            command.env_remove(name);
        }
        command
            .envs(&self.variables)
            .args(["up", "--except", "index-worker", "--state-dir"])
            .arg(self.folder.join("state"));
        let admin = free_address()?;
        command.args(["--listen-addr", &free_address()?, "--sqs-addr", &free_address()?]);
        command.args(["--admin-addr", &admin]);
        let admin = format!("http://{admin}");
        let mut fleet = Process::start("fleet", &mut command, &self.folder.join("fleet.log"))?;
        let env = self.env_path();
        let deadline = begun + START_MAX;
        while !env.is_file() {
            fleet.expect_running()?;
            ensure!(Instant::now() < deadline, "the fleet is not ready; see {}", self.log_path());
            pause();
        }
        self.variables.extend(variables(&fs::read_to_string(&env)?));
        loop {
            fleet.expect_running()?;
            if self.ask_text(&["healthcheck", "--ready", "--admin", &admin]).is_ok() {
                break;
            }
            ensure!(Instant::now() < deadline, "the fleet is not ready; see {}", self.log_path());
            pause();
        }
        say(&format!(
            "ready in {:.1} s: {}",
            begun.elapsed().as_secs_f64(),
            self.variable("FLOTILLA_URL")
        ));
        self.fleet = Some(fleet);
        Ok(())
    }

    /// Starts the index worker's own binary.
    pub(super) fn start_worker(&mut self) -> Result<()> {
        self.workers_started += 1;
        let address = free_address()?;
        let log = self.folder.join(format!("index-worker-{}.log", self.workers_started));
        let mut command = Command::new(self.bins.join("index-worker"));
        command.envs(&self.variables).env("ADMIN_ADDR", &address);
        let mut worker = Process::start("index-worker", &mut command, &log)?;
        let admin = format!("http://{address}");
        let deadline = Instant::now() + START_MAX;
        while self.ask_text(&["healthcheck", "--ready", "--admin", &admin]).is_err() {
            worker.expect_running()?;
            ensure!(Instant::now() < deadline, "the worker is not ready; see {}", log.display());
            pause();
        }
        say(&format!("index-worker is ready (process {})", worker.id()));
        self.worker = Some(worker);
        Ok(())
    }

    /// Kills the worker with SIGKILL.
    pub(super) fn kill_worker(&mut self) -> Result<()> {
        self.worker.take().context("no worker runs")?.kill()
    }

    /// Makes the demo's own tenant and key; later commands use it.
    pub(super) fn make_key(&mut self) -> Result<()> {
        let words = ["--tenant", TENANT, "--create-tenant", "--all-scopes"];
        let key = self.new_key(&words)?;
        say(&format!("API key of tenant {TENANT}: {key}"));
        self.variables.insert("FLOTILLA_API_KEY".into(), key);
        Ok(())
    }

    /// `fleetctl tail` of the logs with that metadata field, one per line.
    pub(super) fn follow(&self, field: &str) -> Result<Process> {
        let words = ["tail", "--exists", field];
        println!("   $ fleetctl {}", words.join(" "));
        let mut command = self.fleetctl(&words);
        let mut tail =
            Process::start("fleetctl tail", &mut command, &self.folder.join("tail.log"))?;
        // What is sent from here on must be seen.
        tail.wait_for_word("following", START_MAX)?;
        Ok(tail)
    }

    /// `fleetctl import`, in the background, in small requests so that it can be watched.
    pub(super) fn import(&self, source: &[String]) -> Result<Process> {
        let mut words = vec!["import"];
        words.extend(source.iter().map(String::as_str));
        let receipts = self.receipts_path();
        words.extend(["--batch", "10", "--concurrency", "1", "--receipts", &receipts]);
        println!("   $ fleetctl {}", words.join(" "));
        Process::start("the import", &mut self.fleetctl(&words), &self.folder.join("import.log"))
    }

    /// Waits until so many events were accepted, or the import is over.
    pub(super) fn wait_for_receipts(&self, count: u64, import: &mut Process) -> Result<usize> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let accepted = self.receipts()?;
            if accepted as u64 >= count || import.has_ended()? {
                return Ok(accepted);
            }
            ensure!(Instant::now() < deadline, "only {accepted} events were accepted");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Different ids accepted so far.
    pub(super) fn receipts(&self) -> Result<usize> {
        let text =
            fs::read_to_string(self.receipts_path()).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(String::new()),
                _ => Err(error),
            })?;
        Ok(text.lines().collect::<std::collections::BTreeSet<_>>().len())
    }

    /// Where the accepted ids are.
    pub(super) fn receipts_path(&self) -> String {
        self.path("accepted.ids")
    }

    /// A file or folder of the demo.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Where the fleet keeps its archive.
    pub(super) fn archive_path(&self) -> String {
        self.variable("ARCHIVE_DIR")
    }

    /// The fleet's log.
    pub(super) fn log_path(&self) -> String {
        self.folder.join("fleet.log").display().to_string()
    }

    /// Waits until a tenant's accepted = stored = searchable.
    pub(super) fn until_whole(
        &self,
        tenant: &str,
        receipts: &str,
        limit: Duration,
    ) -> Result<Duration> {
        let begun = Instant::now();
        let words = ["reconcile", "--tenant", tenant, receipts, "--json"];
        let mut last = String::new();
        while begun.elapsed() < limit {
            match self.ask_text(&words) {
                Ok(_) => return Ok(begun.elapsed()),
                Err(error) => last = format!("{error:#}"),
            }
            pause();
        }
        bail!("accepted, stored and searchable never agreed: {last}")
    }

    /// Asks until there is an answer.
    pub(super) fn until<T>(
        &self,
        limit: Duration,
        ask: impl Fn() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            ensure!(
                Instant::now() < deadline,
                "not within {} s; see {}",
                limit.as_secs(),
                self.log_path()
            );
            pause();
        }
    }

    /// Puts a text on the index queue as any producer could.
    pub(super) fn send(&self, body: &str) -> Result<()> {
        let url = self.variable("AWS_SQS_INDEX_QUEUE_URL");
        let authority = url.split('/').nth(2).context("a queue URL without a host")?;
        let call = serde_json::json!({ "QueueUrl": url, "MessageBody": body }).to_string();
        let mut stream = TcpStream::connect(authority)?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.SendMessage\r\n\
             content-length: {}\r\n\r\n{call}",
            call.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains(" 200 "), "the queue refused the message: {answer}");
        Ok(())
    }

    /// Writes a file into the demo's folder; its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Where the fleet says how to reach what it runs.
    fn env_path(&self) -> PathBuf {
        self.folder.join("state/fleet.env")
    }

    fn variable(&self, name: &str) -> String {
        self.variables.get(name).cloned().unwrap_or_default()
    }

    /// Stops everything; each process must end cleanly.
    pub(super) fn stop(mut self) -> Result<()> {
        for process in [self.worker.take(), self.fleet.take()].into_iter().flatten() {
            process.stop()?;
        }
        say("stopped: worker drained, fleet drained");
        Ok(())
    }

    /// Leaves everything running and says how to go on.
    pub(super) fn leave_running(mut self) {
        let env = self.env_path();
        say("");
        say("Left running:");
        say(&format!("  export FLOTILLA_API_KEY={}", self.variable("FLOTILLA_API_KEY")));
        say(&format!("  fleetctl --env-file {} doctor", env.display()));
        say(&format!("  fleetctl verify {} --key {}", self.archive_path(), self.path(KEY_FILE)));
        for process in [self.worker.take(), self.fleet.take()].into_iter().flatten() {
            say(&format!("  kill {}", process.id()));
            process.leave();
        }
    }
}

/// An address on loopback that nothing listens on now.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// `NAME=value` lines.
fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect()
}
