//! The fleet under the storm: the API, two index workers, and their parts, each link between two of
//! them through a proxy of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use contracts::catalogue::AUDIT_INDEX;
use queue_core::Driver;
use queue_sqs::{AwsConfig, Deployment, Sqs};
use testkit::{Mood, Proxy, free_port};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::server::{Server, Start};

/// Whose data it is.
pub(crate) const TENANT: &str = "acme";
const REGION: &str = "eu-central-1";
const WORKERS: usize = 2;

/// Who can be in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Api,
    Worker,
    Emulator,
    Postgres,
    Redis,
    OpenSearch,
}

impl Victim {
    pub(crate) const ALL: [Self; 6] =
        [Self::Api, Self::Worker, Self::Emulator, Self::Postgres, Self::Redis, Self::OpenSearch];
    const PARTS: [Self; 4] = [Self::Emulator, Self::Postgres, Self::Redis, Self::OpenSearch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "ingest-api",
            Self::Worker => "index-worker",
            Self::Emulator => "sqs-local",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::OpenSearch => "OpenSearch",
        }
    }
}

/// A way between two processes, cut as long as anybody wants it cut.
pub(crate) struct Link {
    proxy: Proxy,
    cuts: AtomicUsize,
}

impl Link {
    async fn before(url: &str) -> Arc<Self> {
        Arc::new(Self { proxy: Proxy::before(url).await, cuts: AtomicUsize::new(0) })
    }

    /// Ends its connections and lets nothing through; silently, or by refusing.
    pub(crate) fn cut(&self, mood: Mood) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.proxy.mood(mood);
    }

    pub(crate) fn mend(&self) {
        if self.cuts.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.proxy.mood(Mood::Pass);
            // Bytes that a silent network swallowed do not come back on their own connections.
            self.proxy.cut();
        }
    }
}

/// One process with the links that cut it off.
pub(crate) struct Target {
    pub(crate) server: Mutex<Server>,
    pub(crate) links: Vec<Arc<Link>>,
}

/// Everything.
pub(crate) struct Fleet {
    pub(crate) targets: BTreeMap<Victim, Vec<Target>>,
    /// Where the load goes: the API's proxy.
    pub(crate) api: String,
    pub(crate) key: String,
    /// Straight to the parts, past every proxy: for the books.
    pub(crate) direct: Direct,
    _dir: tempfile::TempDir,
}

/// Ways that no fault is on.
pub(crate) struct Direct {
    pub(crate) database: String,
    pub(crate) opensearch: String,
    pub(crate) queue: Arc<dyn Driver>,
    pub(crate) dead_letters: Arc<dyn Driver>,
}

impl Fleet {
    /// Starts everything and waits until it works.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("flotilla-chaos-").tempdir()?;
        open_to_other_accounts(dir.path())?;
        let mut servers = BTreeMap::new();
        let sqs = format!("http://127.0.0.1:{}", free_port());
        for victim in Victim::PARTS {
            let name = victim.name();
            let mut server =
                Server::new(name, start_of(victim, &sqs, dir.path()), dir.path().join(name));
            server.start().await?;
            servers.insert(victim, server);
        }
        let url = |victim: Victim| servers[&victim].url().unwrap_or_else(|| sqs.clone());
        let urls: BTreeMap<Victim, String> =
            Victim::PARTS.into_iter().map(|victim| (victim, url(victim))).collect();
        let direct = direct(&urls).await?;
        let key = prepare(&urls[&Victim::Postgres]).await?;

        let mut links: BTreeMap<Victim, Vec<Arc<Link>>> = BTreeMap::new();
        let mut ours = Vec::new();
        let port = free_port();
        for number in 0..=WORKERS {
            let (mut own, mut environment) = (Vec::new(), environment());
            for victim in Victim::PARTS {
                let link = Link::before(&urls[&victim]).await;
                environment.extend(variables(victim, &link.proxy.instead_in(&urls[&victim])));
                links.entry(victim).or_default().push(Arc::clone(&link));
                own.push(link);
            }
            let (victim, binary) = match number {
                0 => (Victim::Api, "ingest-api"),
                _ => (Victim::Worker, "index-worker"),
            };
            environment.push(("LISTEN_ADDR", format!("127.0.0.1:{port}")));
            let start = Start::Ours { binary, arguments: Vec::new(), environment };
            let mut server =
                Server::new(binary, start, dir.path().join(format!("{binary}-{number}")));
            server.start().await?;
            ours.push((victim, server, own));
        }
        let front = Link::before(&format!("http://127.0.0.1:{port}")).await;
        let api = format!("http://{}", front.proxy.addr());
        let mut targets: BTreeMap<Victim, Vec<Target>> = BTreeMap::new();
        for (victim, server, own) in ours {
            let links = if victim == Victim::Api { vec![Arc::clone(&front)] } else { own };
            targets.entry(victim).or_default().push(Target { server: Mutex::new(server), links });
        }
        for (victim, server) in servers {
            let links = links.remove(&victim).unwrap_or_default();
            targets.entry(victim).or_default().push(Target { server: Mutex::new(server), links });
        }
        Ok(Self { targets, api, key, direct, _dir: dir })
    }

    /// Stops ours cleanly; what is under them goes with the value.
    pub(crate) async fn drain(&self) -> anyhow::Result<()> {
        for victim in [Victim::Api, Victim::Worker] {
            for target in &self.targets[&victim] {
                target.server.lock().await.stop().await?;
            }
        }
        Ok(())
    }

    /// The end of every log of ours, for a failure.
    pub(crate) async fn logs(&self) -> String {
        let mut text = String::new();
        for victim in [Victim::Api, Victim::Worker] {
            for target in &self.targets[&victim] {
                let path = target.server.lock().await.log();
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(20)..];
                writeln!(text, "== {}\n{}", path.display(), last.join("\n")).ok();
            }
        }
        text
    }
}

fn start_of(victim: Victim, sqs: &str, dir: &Path) -> Start {
    match victim {
        Victim::Postgres => Start::Postgres,
        Victim::Redis => Start::Redis,
        Victim::OpenSearch => Start::OpenSearch,
        Victim::Emulator | Victim::Api | Victim::Worker => Start::Ours {
            binary: "sqs-local",
            arguments: ["--port", sqs.rsplit(':').next().unwrap_or_default(), "--data-dir"]
                .map(str::to_owned)
                .into_iter()
                .chain([dir.join("queues").display().to_string()])
                .collect(),
            environment: Vec::new(),
        },
    }
}

fn environment() -> Vec<(&'static str, String)> {
    let fixed = [
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "chaos"),
        ("AWS_SECRET_ACCESS_KEY", "chaos"),
        ("ADMIN_ADDR", "127.0.0.1:0"),
        ("WORKER_WAIT_SECS", "2"),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "warn"),
    ];
    fixed.map(|(name, value)| (name, value.to_owned())).to_vec()
}

fn variables(victim: Victim, url: &str) -> Vec<(&'static str, String)> {
    match victim {
        Victim::Postgres => vec![("DATABASE_URL", url.to_owned())],
        Victim::Redis => vec![("REDIS_URL", url.to_owned())],
        Victim::OpenSearch => vec![("OPENSEARCH_URL", url.to_owned())],
        Victim::Emulator => vec![
            ("AWS_ENDPOINT_URL", url.to_owned()),
            (AUDIT_INDEX.env, queue_url(url, AUDIT_INDEX.name)),
        ],
        Victim::Api | Victim::Worker => Vec::new(),
    }
}

fn queue_url(endpoint: &str, name: &str) -> String {
    format!("{endpoint}/{}/{name}", sqs_emulator::model::DEFAULT_ACCOUNT)
}

async fn direct(urls: &BTreeMap<Victim, String>) -> anyhow::Result<Direct> {
    let endpoint = &urls[&Victim::Emulator];
    let sqs = Sqs::connect(&AwsConfig {
        aws_region: Some(REGION.to_owned()),
        aws_default_region: None,
        aws_endpoint_url_sqs: None,
        aws_endpoint_url: Some(endpoint.clone()),
        aws_access_key_id: Some("chaos".to_owned()),
        aws_secret_access_key: Some("chaos".to_owned().into()),
        aws_session_token: None,
    })
    .await?;
    testkit::eventually(Duration::from_secs(60), "two queues", async || {
        sqs.admin().create(&AUDIT_INDEX, Deployment::Dev).await.ok()
    })
    .await;
    let queue = |name: &str| sqs.queue(name, &queue_url(endpoint, name));
    Ok(Direct {
        database: urls[&Victim::Postgres].clone(),
        opensearch: urls[&Victim::OpenSearch].clone(),
        queue: queue(AUDIT_INDEX.name),
        dead_letters: queue(AUDIT_INDEX.dlq),
    })
}

/// Migrates and makes a key, as an operator does.
async fn prepare(database: &str) -> anyhow::Result<String> {
    fleetctl(database, &["migrate"]).await?;
    let create = ["keys", "create", "--tenant", TENANT, "--create-tenant", "--scope", "logs:write"];
    let said = fleetctl(database, &[&create[..], &["--scope", "logs:read"]].concat()).await?;
    let key = said.split_whitespace().find(|word| word.starts_with("flt_"));
    Ok(key.context("fleetctl prints the key")?.to_owned())
}

async fn fleetctl(database: &str, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(testkit::binary("fleetctl"));
    let variables = [("DATABASE_URL", database), ("REDIS_URL", "redis://127.0.0.1:1")];
    command.env_clear().envs(variables).args(words).stdin(Stdio::null());
    let output = command.output().await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fleetctl {}: {errors}", words.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// Root's servers run under other accounts.
fn open_to_other_accounts(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?)
}
