//! HTTP around a [`Hub`]: one axum router on hyper's HTTP/1 connections, each with limits on its
//! header, its body and their time. What this never does: decide anything about messages.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::BrokerConfig;
use crate::faults::{self, Faults};
use crate::hub::Hub;
use crate::store::StoreError;

pub use crate::store::SEGMENT_BYTES;

mod controls;
mod dispatch;
mod faulty;
mod looks;
mod origin;

/// Connections at once; later ones wait to be accepted.
const CONNECTIONS_MAX: usize = 10_000;
/// From the end of one request to the whole header of the next; SDKs drop idle connections sooner.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// For requests in progress when the server stops; parked polls are answered at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What can be chosen about a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Where to keep what is acknowledged; memory only when `None`.
    pub data_dir: Option<PathBuf>,
    /// Bytes of log after which it is replaced by a snapshot.
    pub segment_bytes: u64,
    /// The broker's own choices. A seed of 0 is replaced by a random one.
    pub broker: BrokerConfig,
    /// Whether callers may move the clock and ask for faults. Off by default: what can make a queue
    /// lose its temper is not for whoever happens to reach it.
    pub test_controls: bool,
    /// Fault rules that are on from the start, as [`faults::rules`] reads them.
    pub faults: Option<Vec<u8>>,
}

impl ServerOptions {
    /// Listens there, with everything else as it is by default.
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            data_dir: None,
            segment_bytes: SEGMENT_BYTES,
            broker: BrokerConfig::default(),
            test_controls: false,
            faults: None,
        }
    }
}

/// Why a server does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The fault rules are wrong.
    #[error(transparent)]
    Faults(#[from] faults::rules::PlanError),
}

/// A listening server; nothing is answered before [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    hub: Hub,
    faults: Arc<Faults>,
    test_controls: bool,
}

#[derive(Debug)]
struct App {
    hub: Hub,
    faults: Arc<Faults>,
    test_controls: bool,
    addr: SocketAddr,
    requests: AtomicU64,
}

/// The fault rules of a server, to replace them from outside of HTTP.
#[derive(Clone, Debug)]
pub struct FaultRules(Arc<Faults>);

impl FaultRules {
    /// From now on these rules, their counters at zero; wrong ones change nothing.
    pub fn replace(
        &self,
        text: &[u8],
    ) -> Result<faults::rules::PlanView, faults::rules::PlanError> {
        self.0.replace(text)
    }
}

impl Server {
    /// Listens, and reads the data directory where there is one.
    pub async fn bind(addr: SocketAddr, data_dir: Option<PathBuf>) -> Result<Self, ServerError> {
        Self::open(ServerOptions { data_dir, ..ServerOptions::at(addr) }).await
    }

    /// Like [`Server::bind`], with every choice.
    pub async fn open(options: ServerOptions) -> Result<Self, ServerError> {
        let ServerOptions { addr, data_dir, segment_bytes, mut broker, test_controls, faults } =
            options;
        let plan = faults::rules::Plan::parse(&faults.unwrap_or_default())?;
        let faults = Arc::new(Faults::new(test_controls, plan));
        if broker.seed == 0 {
            broker.seed = uuid::Uuid::new_v4().as_u64_pair().0;
        }
        let listen_error = |reason| ServerError::Listen { addr, reason };
        let listener = TcpListener::bind(addr).await.map_err(listen_error)?;
        let bound = listener.local_addr().map_err(listen_error)?;
        let hub = match data_dir {
            Some(path) => Hub::open_with(broker, &path, segment_bytes)?,
            None => Hub::in_memory(broker),
        };
        Ok(Self { listener, addr: bound, hub, faults, test_controls })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What SDKs take as endpoint URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The broker behind it, for calls without HTTP.
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Replaces the fault rules, also while the server runs.
    pub fn fault_rules(&self) -> FaultRules {
        FaultRules(Arc::clone(&self.faults))
    }

    /// Serves until `shutdown`, then answers parked polls, lets requests in progress end (five
    /// seconds at most) and closes the log.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, addr, hub, faults, test_controls } = self;
        let requests = AtomicU64::new(seed());
        let app = Arc::new(App { hub: hub.clone(), faults, test_controls, addr, requests });
        let router = router(app);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let timers = {
            let hub = hub.clone();
            tasks.spawn(async move { hub.run_timers().await })
        };
        let accept = async {
            while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let connection = serve(stream, router.clone(), stop.clone());
                        tasks.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown.cancelled() => {}
        }
        drop(listener);
        hub.close();
        stop.cancel();
        tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        if let Err(error) = timers.await {
            tracing::error!(%error, "the timers have ended badly");
        }
    }
}

fn router(app: Arc<App>) -> Router {
    // Queue URLs are paths too, so that every other path is the service.
    Router::new()
        .route("/health", get(health))
        .merge(looks::routes())
        .merge(controls::routes())
        .fallback(dispatch::answer)
        .with_state(app)
}

async fn health() -> &'static str {
    "{\"status\":\"ok\"}\n"
}

async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), faulty::hanging_up(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended badly");
    }
}

fn seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}
