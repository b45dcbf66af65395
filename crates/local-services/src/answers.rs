//! Whether a server answers an HTTP GET with 200: all that readiness needs, without a client crate.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One look takes no longer. A server that is gone refuses at once; one on a busy machine is slow.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Whether `GET path` on that loopback port says 200.
pub async fn answers(port: u16, path: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head.ends_with(b" 200"))
    };
    tokio::time::timeout(LOOK_LIMIT, ask).await.is_ok_and(|said| said.unwrap_or(false))
}
