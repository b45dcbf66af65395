//! Amazon SQS on this machine, as a server: the command line around `sqs_emulator::Server`.

mod describe;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use sqs_emulator::{BrokerConfig, Server, ServerError, ServerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Nothing else listens there by default, and it is where SDK examples look.
const DEFAULT_PORT: u16 = 4566;
/// Ends the process when it cannot start: the configuration or the machine has to change first.
const EXIT_CONFIG: u8 = 78;

/// Amazon SQS on this machine: all 23 actions, standard and FIFO queues, for any current SDK and CLI.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
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
    /// Refuse a second purge, and a deleted queue's name, for 60 seconds as AWS does.
    #[arg(long, env = "SQS_LOCAL_STRICT")]
    strict: bool,
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

  export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x
  aws sqs create-queue --queue-name first
  aws sqs send-message --queue-url $AWS_ENDPOINT_URL/000000000000/first --message-body hello

Signatures are not verified. A twelve-digit access key is the account, the signature's region the
region: each pair sees only its own queues.

Exit codes: 0 stopped by a signal, 64 wrong usage, 78 cannot start (address, data directory).";

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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => cannot_start(&error),
    }
}

async fn run(arguments: Arguments) -> ExitCode {
    let broker = BrokerConfig::default();
    let options = ServerOptions {
        addr: SocketAddr::new(arguments.bind, arguments.port),
        data_dir: arguments.data_dir,
        broker: if arguments.strict { broker.strict() } else { broker },
    };
    let shutdown = CancellationToken::new();
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return cannot_start(&"signals cannot be handled");
    };
    let server = match Server::open(options).await {
        Ok(server) => server,
        Err(error @ ServerError::Listen { .. }) => {
            let hint = "choose another with SQS_LOCAL_BIND and SQS_LOCAL_PORT";
            return cannot_start(&format_args!("{error}; {hint}, for example --port 4567"));
        }
        Err(error) => return cannot_start(&error),
    };
    say(&format!("sqs-local listens on {}", server.endpoint()));
    let serve = server.run(shutdown.clone());
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        shutdown.cancel();
        // A second signal stops at once.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::select! {
        () = serve => {}
        () = stop => {}
    }
    ExitCode::SUCCESS
}

/// The line that scripts and tests wait for.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the standard output");
    }
}

fn cannot_start(error: &dyn std::fmt::Display) -> ExitCode {
    tracing::error!("cannot start: {error}");
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
