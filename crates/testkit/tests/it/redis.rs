//! A private Redis that dies and comes back at the same address, empty.

use testkit::TestRedis;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Says a command after logging in and returns the answer's first line.
async fn say(url: &str, command: &str) -> std::io::Result<String> {
    let (password, addr) = url
        .trim_start_matches("redis://:")
        .trim_end_matches('/')
        .split_once('@')
        .expect("a password");
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    stream.write_all(format!("AUTH {password}\r\n{command}\r\n").as_bytes()).await?;
    let mut lines = stream.lines();
    assert_eq!(lines.next_line().await?.as_deref(), Some("+OK"));
    Ok(lines.next_line().await?.unwrap_or_default())
}

#[tokio::test]
async fn is_killed_and_comes_back_empty_at_the_same_address() {
    let mut redis = TestRedis::new().await;
    let url = redis.url().to_owned();
    assert_eq!(say(&url, "SET a 1").await.expect("answers"), "+OK");
    redis.kill().await;
    assert!(say(&url, "GET a").await.is_err());
    redis.start().await;
    assert_eq!(redis.url(), url);
    assert_eq!(say(&url, "GET a").await.expect("answers"), "$-1");
}
