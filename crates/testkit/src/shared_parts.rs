//! OpenSearch and LocalStack: one of each for all test processes of this user, with a name space of
//! its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use local_services::answers::answers;
use local_services::localstack::{self, LocalStack};
use local_services::opensearch::{self, OpenSearch};
use local_services::shared::Shared;
use local_services::{PartError, parts_cache};

use crate::missing::optional;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The shared OpenSearch node.
#[derive(Clone, Debug)]
pub struct TestOpenSearch {
    url: String,
    prefix: String,
}

impl TestOpenSearch {
    /// Finds or starts it, bringing it with `mvn` the first time; `None` where the machine lacks
    /// what it needs, which has been said aloud.
    pub async fn new() -> Option<Self> {
        let url = optional(opensearch_url().await, "OpenSearch")?;
        Some(Self { url, prefix: name_space() })
    }

    /// `http://127.0.0.1:PORT`, without user or password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What this test's indices, aliases and templates are to start with: `t` and digits and `-`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The shared LocalStack.
#[derive(Clone, Debug)]
pub struct TestLocalStack {
    url: String,
    account: String,
}

impl TestLocalStack {
    /// Finds or starts it, bringing it with `pip` the first time; `None` where the machine lacks
    /// what it needs, which has been said aloud.
    pub async fn new() -> Option<Self> {
        let url = optional(localstack_url().await, "LocalStack")?;
        let process = u64::from(std::process::id());
        let account = process * 1_000 + u64::from(COUNT.fetch_add(1, Ordering::Relaxed));
        Some(Self { url, account: format!("{account:012}") })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Twelve digits, this test's own: LocalStack takes an access key id of that form as the
    /// account, so that tests may use the same queue names.
    pub fn access_key_id(&self) -> &str {
        &self.account
    }
}

async fn opensearch_url() -> Result<String, PartError> {
    let shared = Shared::named("opensearch")?;
    shared
        .endpoint(
            async |url| answers(port_of(url), "/").await,
            async |shared| {
                opensearch::fetch(&parts_cache(), &mut say)?;
                let node = OpenSearch::start_with(&shared.directory(), shared.keep()).await?;
                Ok(node.url())
            },
        )
        .await
}

async fn localstack_url() -> Result<String, PartError> {
    let shared = Shared::named("localstack")?;
    shared
        .endpoint(
            async |url| localstack::ready(port_of(url)).await,
            async |shared| {
                localstack::fetch(&parts_cache(), &mut say)?;
                let stack = LocalStack::start_with(&shared.directory(), shared.keep()).await?;
                Ok(stack.url())
            },
        )
        .await
}

/// Progress of a fetch, beside the test's own output.
#[expect(clippy::print_stderr, reason = "a test's only voice")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

/// Unlike that of any other test, now or in an earlier run.
fn name_space() -> String {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{:08x}{count}-", rand::random::<u32>())
}
