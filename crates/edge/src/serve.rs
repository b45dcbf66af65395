//! The listener: HTTP/1.1 connections with bounds on their number, on how slowly headers may come,
//! how long a connection may be idle and an answer stand still, and a drain that finishes what was
//! begun.
//! TLS ends at the load balancer.

mod pace;
mod stall;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use pace::{Answer, Overdue, Pace, Watch};
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
    /// In which a request's headers must arrive, from their first byte; a new connection's from its
    /// acceptance.
    pub header_read_timeout: Duration,
    /// How long a connection is kept between two requests.
    pub keep_alive_timeout: Duration,
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
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay not set");
        }
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

async fn connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: ServerLimits,
    drain: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let pace = Pace::new();
    let mut watch =
        Watch::new(Arc::clone(&pace), limits.header_read_timeout, limits.keep_alive_timeout);
    let io = StallGuard::new(stream, Arc::clone(&pace), limits.write_stall_timeout);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let turn = pace.begin();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router.clone().oneshot(request);
        async move { answer.await.map(|answer| answer.map(|body| Answer::new(body, turn))) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(PARSER_HEADER_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            overdue = watch.overdue() => match overdue {
                Overdue::Head => return tracing::debug!(%peer, "the head of a request was too slow"),
                Overdue::Idle => connection.as_mut().graceful_shutdown(),
            },
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended early");
    }
}
