//! A `sqs-local` of the release build as a process of its own, and a queue filled before the clock
//! starts, so that baseline and engine drain the same thing from the same server.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::StreamExt;

/// The server process; it ends with this value.
pub struct SqsLocal {
    child: Child,
    /// Its endpoint.
    pub endpoint: String,
}

impl Drop for SqsLocal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary of the product's release build.
pub fn release_binary(name: &str) -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let path = target.join("release").join(name);
    ensure!(path.exists(), "{} is missing: cargo build --release --bins", path.display());
    Ok(path)
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl SqsLocal {
    /// Starts one, in memory.
    pub async fn start() -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = Command::new(release_binary("sqs-local")?)
            .args(["--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, endpoint: format!("http://127.0.0.1:{port}") };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("sqs-local did not listen within 5 s")
    }

    /// Resident memory now, in bytes.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A bare client, as anybody would make it.
    pub fn client(&self) -> Client {
        Client::from_conf(
            aws_sdk_sqs::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
                .endpoint_url(&self.endpoint)
                .retry_config(RetryConfig::disabled())
                .build(),
        )
    }
}

/// Makes a queue and its dead-letter queue; returns both URLs.
pub async fn create(client: &Client, name: &str) -> anyhow::Result<(String, String)> {
    let mut urls = Vec::new();
    for name in [name.to_owned(), format!("{name}-dlq")] {
        let made = client.create_queue().queue_name(name).send().await?;
        urls.push(made.queue_url().context("queue url")?.to_owned());
    }
    let dead = urls.pop().context("dlq")?;
    Ok((urls.pop().context("queue")?, dead))
}

/// Sends every body, ten at a time, sixteen calls at once.
pub async fn fill(client: &Client, url: &str, bodies: Vec<String>) -> anyhow::Result<()> {
    let batches: Vec<Vec<String>> = bodies.chunks(10).map(<[String]>::to_vec).collect();
    let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(batches)
        .map(|batch| async move {
            let entries = batch
                .into_iter()
                .enumerate()
                .map(|(at, body)| {
                    SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(body).build()
                })
                .collect::<Result<Vec<_>, _>>()?;
            let sent =
                client.send_message_batch().queue_url(url).set_entries(Some(entries)).send().await?;
            ensure!(sent.failed().is_empty(), "{:?}", sent.failed());
            Ok(())
        })
        .buffer_unordered(16)
        .collect()
        .await;
    results.into_iter().collect()
}
