//! A free port on loopback, kept from run to run where it can be.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::{PartError, io};

/// Below what systems hand out by themselves (from 32,768 on Linux, from 49,152 elsewhere), so that
/// nobody gets the port by chance between our look and the server's own bind.
const FIRST: u16 = 20_000;
/// So many from there on.
const COUNT: u16 = 10_000;

/// Where this process looks next; processes begin in different places.
static NEXT: OnceLock<AtomicU16> = OnceLock::new();

/// A port that nobody listens on, another one each time.
pub fn free() -> Result<u16, PartError> {
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    let looks = (0..COUNT).map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT);
    let mut ports = looks.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    ports
        .next()
        .ok_or_else(|| io("find a free loopback port")(std::io::ErrorKind::AddrInUse.into()))
}

/// The port written in `file` when it is free, else another, which is written there. Between this
/// and the server's own bind another process may take it; the server then ends and says so.
pub(crate) fn kept(file: &Path) -> Result<u16, PartError> {
    let before: Option<u16> =
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    let unused = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = match before.filter(|port| *port != 0).filter(unused) {
        Some(port) => port,
        None => free()?,
    };
    fs::write(file, port.to_string()).map_err(io(format!("write {}", file.display())))?;
    Ok(port)
}
