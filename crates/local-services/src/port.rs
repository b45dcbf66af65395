//! A free port on loopback, kept from run to run where it can be.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::error::{PartError, io};

/// The port written in `file` when it is free, else another, which is written there. Between this
/// and the server's own bind another process may take it; the server then ends and says so.
pub(crate) fn kept(file: &Path) -> Result<u16, PartError> {
    let before = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    let listener = before
        .filter(|port| *port != 0)
        .and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)
        .map_err(io("find a free loopback port"))?;
    let port = listener.local_addr().map_err(io("read a port"))?.port();
    fs::write(file, port.to_string()).map_err(io(format!("write {}", file.display())))?;
    Ok(port)
}
