//! Amazon SQS on this machine, as a server: the command line around `sqs_emulator::Server`.

mod describe;
mod ready;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use sqs_emulator::server::{FaultRules, SEGMENT_BYTES};
use sqs_emulator::{BrokerConfig, Server, ServerError, ServerOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Nothing else listens there by default, and it is where SDK examples look.
const DEFAULT_PORT: u16 = 4566;
/// Ends the process when it cannot start: the configuration or the machine has to change first.
const EXIT_CONFIG: u8 = 78;

/// Amazon SQS on this machine: all 23 actions, standard and FIFO queues, for any SDK and CLI.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct Arguments {
    /// Address to listen on; others than loopback let everybody on the network use every queue.
    #[arg(long, env = "SQS_LOCAL_BIND", default_value = "127.0.0.1", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, env = "SQS_LOCAL_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Keep queues and messages in this directory. Without it, everything is gone at the end.
    #[arg(long, env = "SQS_LOCAL_DATA_DIR", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Bytes of log after which a snapshot replaces it.
    #[arg(long, env = "SQS_LOCAL_SEGMENT_BYTES", value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(65_536..), default_value_t = SEGMENT_BYTES)]
    segment_bytes: u64,
    /// Refuse a second purge, and a deleted queue's name, for 60 seconds as AWS does.
    #[arg(long, env = "SQS_LOCAL_STRICT")]
    strict: bool,
    /// Let callers move the clock and ask for faults: for tests, on an address that only they reach.
    #[arg(long, env = "SQS_LOCAL_TEST_CONTROLS")]
    test_controls: bool,
    /// Fault rules that hold from the start, as JSON; read again on SIGHUP.
    #[arg(long, env = "SQS_LOCAL_FAULTS", value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Write the endpoint into this file once calls are answered; it is removed at the end.
    #[arg(long, env = "SQS_LOCAL_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Print the line that says where it listens, and the log, as JSON.
    #[arg(long, env = "SQS_LOCAL_JSON")]
    json: bool,
    /// What to log: error, warn, info, debug, or a filter such as `sqs_emulator=debug`.
    #[arg(long, env = "SQS_LOCAL_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
    /// Print these options as JSON and exit.
    #[arg(long, hide = true)]
    describe: bool,
}

const EXAMPLES: &str = "\
Examples:
  sqs-local                                   memory only, http://127.0.0.1:4566
  sqs-local --data-dir ./queues               survives a restart and a crash
  sqs-local --bind 0.0.0.0 --port 9324        for containers on this machine
  sqs-local --port 0 --ready-file ./endpoint  a free port; the file names it once calls are answered
  sqs-local --test-controls                   tests move the clock and ask for faults

  export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x
  aws sqs create-queue --queue-name first
  aws sqs send-message --queue-url $AWS_ENDPOINT_URL/000000000000/first --message-body hello

Look at queues and messages, without consuming them, at http://127.0.0.1:4566/ in a browser.

With --test-controls:
  curl -X POST -H 'Content-Type: application/json' -d '{\"advance_seconds\": 60}' \\
    http://127.0.0.1:4566/_sqs/clock
  aws sqs ... fails as asked with the request header  X-Sqs-Fault: throttle
  (latency=250, throttle, error, duplicate, lost-reply, ghost-receive)

Signatures are not verified. A twelve-digit access key is the account, the signature's region the
region: each pair sees only its own queues.

Exit codes: 0 stopped by a signal, 64 wrong usage, 78 cannot start (address, data directory, fault
rules, ready file).";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    if arguments.describe {
        say(&describe::describe(&Arguments::command()).to_string());
        return ExitCode::SUCCESS;
    }
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(&arguments.log);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if arguments.json {
        log.json().init();
    } else {
        log.init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => cannot_start(&error),
    }
}

async fn run(arguments: Arguments) -> ExitCode {
    let Ok(mut signals) = Signals::listen() else {
        return cannot_start(&"signals cannot be handled");
    };
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(problem) => return cannot_start(&problem),
    };
    let server = match Server::open(options).await {
        Ok(server) => server,
        Err(error @ ServerError::Listen { .. }) => {
            let hint = "choose another with SQS_LOCAL_BIND and SQS_LOCAL_PORT";
            return cannot_start(&format_args!("{error}; {hint}, for example --port 4567"));
        }
        Err(error) => return cannot_start(&error),
    };
    let ready = match ready::announce(&server, arguments.ready_file.as_deref()) {
        Ok(ready) => ready,
        Err(problem) => return cannot_start(&problem),
    };
    say(&ready::line(&server, &arguments));
    let rules = server.fault_rules();
    let shutdown = CancellationToken::new();
    let serve = server.run(shutdown.clone());
    let stop = async {
        signals.stopped(|| reload(&rules, arguments.faults.as_deref())).await;
        shutdown.cancel();
        // A second signal stops at once.
        signals.stopped(|| ()).await;
    };
    tokio::select! {
        () = serve => {}
        () = stop => {}
    }
    drop(ready);
    ExitCode::SUCCESS
}

fn options(arguments: &Arguments) -> Result<ServerOptions, String> {
    let broker = BrokerConfig::default();
    let faults = arguments.faults.as_deref().map(read_faults).transpose()?;
    Ok(ServerOptions {
        data_dir: arguments.data_dir.clone(),
        segment_bytes: arguments.segment_bytes,
        broker: if arguments.strict { broker.strict() } else { broker },
        test_controls: arguments.test_controls,
        faults,
        ..ServerOptions::at(SocketAddr::new(arguments.bind, arguments.port))
    })
}

fn read_faults(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("the fault rules in {} cannot be read: {error}", path.display()))
}

/// Reads the fault rules again; what is wrong leaves those that hold.
fn reload(rules: &FaultRules, path: Option<&Path>) {
    let Some(path) = path else { return };
    let replaced =
        read_faults(path).and_then(|text| rules.replace(&text).map_err(|error| error.to_string()));
    match replaced {
        Ok(view) => tracing::info!(rules = view.rules.len(), "the fault rules were read again"),
        Err(problem) => tracing::error!("{problem}; the rules that were on stay on"),
    }
}

/// The signals that it hears.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Ends with the next signal to stop; those to read the rules again are heard meanwhile.
    async fn stopped(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => reload(),
            }
        }
    }
}

/// The line that scripts and tests wait for.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the standard output");
    }
}

/// Told whatever the log's filter is.
fn cannot_start(error: &dyn std::fmt::Display) -> ExitCode {
    let mut out = std::io::stderr().lock();
    if writeln!(out, "sqs-local cannot start: {error}").is_err() {
        tracing::debug!("nobody reads the standard error");
    }
    ExitCode::from(EXIT_CONFIG)
}

fn usage(error: &clap::Error) -> ExitCode {
    const EXIT_USAGE: u8 = 64;
    let printed = error.print();
    if error.use_stderr() || printed.is_err() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
