//! The admin port: `/healthz` (the process is alive), `/readyz` (it can work, or why not),
//! `/metrics` (Prometheus) and `/status` (what it is doing). Bound before anything is built, so
//! that a process that is still starting can be asked. It changes nothing: there is no POST.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Problem;
use crate::context::Context;
use crate::secret::Secret;
use crate::service::BuildError;
use crate::telemetry::Telemetry;

/// Connections at once; a scraper and a health checker need two.
const CONNECTIONS_MAX: usize = 64;
/// A client gets this long to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head is at most this long.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How often histograms are drained when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Where the admin port is and who may read it.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Asked for by `/metrics` and `/status` where it is set.
    pub token: Option<Secret>,
}

/// A bound admin port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
    router: Router,
    telemetry: Telemetry,
}

struct Shared {
    context: Context,
    telemetry: Telemetry,
    token: Option<Secret>,
}

impl Admin {
    /// Takes the port; fails with the address and what to do when it is taken.
    pub async fn bind(
        config: AdminConfig,
        context: Context,
        telemetry: Telemetry,
    ) -> Result<Self, BuildError> {
        let listener = TcpListener::bind(config.addr).await.map_err(|error| {
            Problem::new(
                "ADMIN_ADDR",
                &config.addr,
                format!("cannot listen there: {error}"),
                "ADMIN_ADDR=127.0.0.1:9091",
            )
        })?;
        let addr = listener.local_addr().map_err(BuildError::failed)?;
        let shared =
            Arc::new(Shared { context, telemetry: telemetry.clone(), token: config.token });
        Ok(Self { listener, addr, router: router(shared), telemetry })
    }

    /// The address it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `ended`; connections that are open then are closed.
    pub async fn serve(self, ended: CancellationToken) {
        let connections = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                _ = upkeep.tick() => self.telemetry.upkeep(),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
                        let connection = connection(stream, self.router.clone(), ended.clone());
                        connections.spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin port cannot accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, ended: CancellationToken) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended");
        },
        () = ended.cancelled() => {}
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route_layer(from_fn_with_state(Arc::clone(&shared), authorize));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .merge(guarded)
        .with_state(shared)
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(token) = &shared.token else { return next.run(request).await };
    let offered =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match offered.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(offered) if token.matches(offered) => next.run(request).await,
        _ => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            let hint = "send `Authorization: Bearer ` with the value of ADMIN_TOKEN\n";
            (StatusCode::UNAUTHORIZED, challenge, hint).into_response()
        }
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.context.readiness().report().await;
    let code = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(report)).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (format, shared.telemetry.render()).into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.context.status().document()).into_response()
}
