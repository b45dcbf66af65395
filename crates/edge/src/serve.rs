//! The listener: HTTP/1.1 connections with bounds on their number, on how slowly headers may come
//! and how long an answer may stand still, and a drain that finishes what was begun.
//! TLS ends at the load balancer.

mod stall;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use stall::StallGuard;

/// The parser's own ceiling; the configured one, which answers with a problem document, lies below.
const PARSER_HEADER_BYTES_MAX: usize = 128 * 1024;
/// Header lines of a request at most.
const HEADER_LINES_MAX: usize = 128;
/// Pause after a failed accept: out of file descriptors, usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at most.
    pub connections_max: usize,
    /// In which a request's headers must arrive; also how long an idle connection is kept.
    pub header_read_timeout: Duration,
    /// How long an answer may make no progress.
    pub write_stall_timeout: Duration,
}

/// What a listener did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeReport {
    /// Connections accepted.
    pub connections: u64,
}

/// Serves until `drain` is cancelled, then finishes requests that were begun and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    drain: CancellationToken,
) -> ServeReport {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let tasks = TaskTracker::new();
    let mut report = ServeReport::default();
    while let Some((stream, peer, permit)) = next(&listener, &permits, &drain).await {
        report.connections += 1;
        let connection = connection(stream, peer, router.clone(), limits, drain.clone());
        tasks.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    report
}

async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    drain: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    loop {
        let accepted = async {
            let permit = Arc::clone(permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = drain.cancelled() => return None,
            accepted = accepted => accepted,
        };
        match (accepted, permit) {
            (Ok((stream, peer)), Ok(permit)) => return Some((stream, peer, permit)),
            (Err(error), _) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (_, Err(_closed)) => return None,
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ServerLimits,
    drain: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay not set");
    }
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(StallGuard::new(stream, limits.write_stall_timeout));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(PARSER_HEADER_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended early");
    }
}
