//! A TCP proxy that misbehaves on command, in front of any real part: down, slow, silent, cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// How the proxy treats connections, new and existing ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Passes everything on.
    Pass,
    /// Every chunk, in both directions, waits that long first.
    Slow(Duration),
    /// Takes connections and bytes and answers nothing, as a network does that swallows packets.
    Silent,
    /// Ends every connection at once, new ones before their first byte.
    Down,
}

/// What connections follow.
#[derive(Clone, Copy, Debug)]
struct State {
    mood: Mood,
    /// A connection ends when this is no longer what it began with.
    cuts: u64,
}

/// A proxy on a loopback port of its own. Dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    state: Arc<watch::Sender<State>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`, passing everything on at first.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let addr = listener.local_addr().expect("its address");
        let state = Arc::new(watch::channel(State { mood: Mood::Pass, cuts: 0 }).0);
        let accepting = accept(listener, target, state.clone());
        Self { addr, state, _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)) }
    }

    /// A proxy in front of the `host:port` of that URL.
    pub async fn before(url: &str) -> Self {
        let (start, end) = host_and_port(url);
        Self::to(url[start..end].parse().expect("a URL with an address and a port")).await
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `url` with its `host:port` replaced by the proxy's.
    pub fn instead_in(&self, url: &str) -> String {
        let (start, end) = host_and_port(url);
        format!("{}{}{}", &url[..start], self.addr, &url[end..])
    }

    /// Changes how connections are treated, the open ones included.
    pub fn mood(&self, mood: Mood) {
        self.state.send_modify(|state| state.mood = mood);
    }

    /// Ends the open connections once; new ones are treated as before.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

fn host_and_port(url: &str) -> (usize, usize) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    (url[start..end].rfind('@').map_or(start, |at| start + at + 1), end)
}

async fn accept(listener: TcpListener, target: SocketAddr, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if state.borrow().mood != Mood::Down {
            connections.spawn(connection(client, target, state.subscribe()));
        }
    }
}

async fn connection(client: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cuts = state.borrow().cuts;
    let mut ending = state.clone();
    tokio::select! {
        _ = pass(from_client, to_server, state.clone()) => {}
        _ = pass(from_server, to_client, state) => {}
        _ = ending.wait_for(|now| now.mood == Mood::Down || now.cuts != cuts) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        // What has arrived while the network was silent goes on when it speaks again.
        let loud = state.wait_for(|now| now.mood != Mood::Silent).await;
        let mood = loud.map(|now| now.mood).map_err(std::io::Error::other)?;
        if let Mood::Slow(delay) = mood {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}
