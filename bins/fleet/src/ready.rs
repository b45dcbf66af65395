//! When the fleet is ready: every service runs, every dependency of every service answers, and the
//! API answers a request. It waits and says what it waits for; it never gives up, as no service does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use chassis::Context;
use contracts::catalogue::AUDIT_INDEX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::options::{ServiceName, UpConfig};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is said what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The API's answer takes no longer, or it does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Waits until every service that `config` runs is ready. `api` is where the API listens.
pub(crate) async fn wait(config: &UpConfig, api: Option<SocketAddr>, context: &Context) {
    let mut say_at = Instant::now() + SAY_EVERY;
    loop {
        let missing = missing(config, api, context).await;
        if missing.is_empty() {
            return;
        }
        if Instant::now() >= say_at {
            tracing::warn!(missing = missing.join("; "), "not ready yet");
            say_at += SAY_EVERY;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is not ready, each with its reason.
async fn missing(config: &UpConfig, api: Option<SocketAddr>, context: &Context) -> Vec<String> {
    let report = context.readiness().report().await;
    let mut missing: Vec<String> = report
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| format!("{}: {}", check.name, check.reason.as_deref().unwrap_or_default()))
        .collect();
    // A worker is built after the others and registers its queue when it starts to read it.
    let reads = report.checks.iter().any(|check| check.name == AUDIT_INDEX.key);
    if config.runs(ServiceName::IndexWorker) && !reads {
        missing.push("index-worker: starting".to_owned());
    }
    if let Some(api) = api
        && !answers(api).await
    {
        missing.push("ingest-api: starting".to_owned());
    }
    missing
}

/// Whether the API answers a request for its health.
async fn answers(addr: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(reachable(addr)).await?;
        let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; b"HTTP/1.1 200".len()];
        stream.read_exact(&mut head).await?;
        Ok::<bool, std::io::Error>(&head == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(ANSWER_LIMIT, ask).await, Ok(Ok(true)))
}

/// An address that means every interface is reached by loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
