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
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, QueueAttributeName};
use futures_util::StreamExt;

/// A message in the making.
pub use aws_sdk_sqs::types::builders::SendMessageBatchRequestEntryBuilder as Entry;

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

/// A binary of the product's release build; it lies beside this one.
pub fn release_binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: `make bench` builds it", path.display());
    Ok(path)
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl SqsLocal {
    /// Starts one, in memory.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with these arguments.
    pub async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let child = Command::new(release_binary("sqs-local")?)
            .args(["--port", &port.to_string()])
            .args(arguments)
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

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A bare client, as anybody would make it.
    pub fn client(&self) -> Client {
        client(&self.endpoint)
    }
}

/// A bare client of that endpoint.
pub fn client(endpoint: &str) -> Client {
    Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .build(),
    )
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
    fill_with(client, url, bodies, |entry| Ok(entry)).await
}

/// The same, each message finished by `finish`.
pub async fn fill_with(
    client: &Client,
    url: &str,
    bodies: Vec<String>,
    finish: impl Fn(Entry) -> anyhow::Result<Entry> + Copy,
) -> anyhow::Result<()> {
    let batches: Vec<Vec<String>> = bodies.chunks(10).map(<[String]>::to_vec).collect();
    let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(batches)
        .map(|batch| async move {
            let entries = batch
                .into_iter()
                .enumerate()
                .map(|(at, body)| {
                    let entry = Entry::default().id(at.to_string()).message_body(body);
                    Ok(finish(entry)?.build()?)
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            let sent = client
                .send_message_batch()
                .queue_url(url)
                .set_entries(Some(entries))
                .send()
                .await?;
            ensure!(sent.failed().is_empty(), "{:?}", sent.failed());
            Ok(())
        })
        .buffer_unordered(16)
        .collect()
        .await;
    results.into_iter().collect()
}

/// Takes everything out of a queue, eight loops at once, until it is empty.
pub async fn read_out(client: &Client, url: &str) -> anyhow::Result<Vec<String>> {
    let loops: Vec<_> =
        (0..8).map(|_| tokio::spawn(take_all(client.clone(), url.to_owned()))).collect();
    let mut bodies = Vec::new();
    for one in loops {
        bodies.extend(one.await??);
    }
    let (visible, in_flight) = depth(client, url).await?;
    ensure!(visible + in_flight == 0, "{visible} messages are left and {in_flight} in flight");
    Ok(bodies)
}

async fn take_all(client: Client, url: String) -> anyhow::Result<Vec<String>> {
    let mut bodies = Vec::new();
    loop {
        let call = client.receive_message().queue_url(&url).max_number_of_messages(10);
        let messages = call.wait_time_seconds(0).send().await?.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(bodies);
        }
        let entries = messages.iter().enumerate().map(|(at, message)| {
            let receipt = message.receipt_handle().unwrap_or_default();
            DeleteMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(receipt)
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let call = client.delete_message_batch().queue_url(&url).set_entries(Some(entries));
        let deleted = call.send().await?;
        ensure!(deleted.failed().is_empty(), "{:?}", deleted.failed());
        bodies.extend(messages.into_iter().filter_map(|message| message.body));
    }
}

/// Messages that wait, and messages that somebody has in hand.
pub async fn depth(client: &Client, url: &str) -> anyhow::Result<(u64, u64)> {
    let call = client.get_queue_attributes().queue_url(url);
    let answer = call.attribute_names(QueueAttributeName::All).send().await?;
    let attributes = answer.attributes.unwrap_or_default();
    let number = |name| attributes.get(&name).and_then(|text| text.parse().ok()).context("a depth");
    Ok((
        number(QueueAttributeName::ApproximateNumberOfMessages)?,
        number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)?,
    ))
}

/// The product's SQS driver on that server.
pub async fn product(server: &SqsLocal) -> anyhow::Result<queue_sqs::Sqs> {
    use clap::{Args, FromArgMatches};
    let command = queue_sqs::AwsConfig::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from([
        "bench",
        "--aws-endpoint-url",
        &server.endpoint,
        "--aws-region",
        "us-east-1",
        "--aws-access-key-id",
        "test",
        "--aws-secret-access-key",
        "test",
    ])?;
    Ok(queue_sqs::Sqs::connect(&queue_sqs::AwsConfig::from_arg_matches(&matches)?).await?)
}
