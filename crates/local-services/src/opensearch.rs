//! A private single-node OpenSearch from the official minimal distribution, brought by Maven. It has
//! no security plugin, so anyone on this machine may use it while it runs: for tests and trying.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::account::give;
use crate::answers::answers;
use crate::directory::Directory;
use crate::error::{PartError, io};
use crate::part::Part;
use crate::process::{Keep, Launch, Process};
use crate::programs::{self, Package};
use crate::{fetching, port};

const PART: &str = "OpenSearch";
/// The version, the last of its line.
pub const VERSION: &str = "2.19.5";
/// Pinned: `unpack` takes the artifact on the command line in these versions.
const MAVEN_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack";
/// A JVM on a busy machine is slow to start.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// OpenSearch 2.19 is tested on 11, 17 and 21, and needs the security manager, gone since 24.
const JAVA: std::ops::RangeInclusive<u32> = 11..=23;
const JAVA_PACKAGE: Package = Package {
    apt: "openjdk-17-jre-headless",
    dnf: "java-17-openjdk-headless",
    apk: "openjdk17-jre-headless",
    pacman: "jre17-openjdk-headless",
    brew: "openjdk@17",
};
const MAVEN_PACKAGE: Package =
    Package { apt: "maven", dnf: "maven", apk: "maven", pacman: "maven", brew: "maven" };

/// Brings the distribution into the cache with `mvn`, saying so; returns where it is. Quick when it
/// is there already.
pub fn fetch(cache: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf, PartError> {
    let name = format!("opensearch-{VERSION}");
    let unpacked = fetching::once(cache, &name, |fresh| {
        let maven = programs::on_path("mvn").ok_or_else(|| PartError::Missing {
            part: PART,
            program: "mvn".to_owned(),
            install: MAVEN_PACKAGE.install_command(),
        })?;
        say(&format!("fetching OpenSearch {VERSION} with mvn, 51 MB, once"));
        fetching::run(Command::new(maven).args(["-q", "-B", MAVEN_GOAL]).args([
            format!(
                "-Dartifact=org.opensearch.distribution.integ-test-zip:opensearch:{VERSION}:zip"
            ),
            format!("-DoutputDirectory={}", fresh.display()),
        ]))
    })?;
    Ok(unpacked.join(name))
}

/// A running node.
pub type OpenSearch = Part<Kind>;

/// Nothing that the others do not have.
#[derive(Debug)]
pub struct Kind;

impl OpenSearch {
    /// Starts the node of that directory, with the distribution that [`fetch`] brought.
    pub async fn start(dir: &Path) -> Result<Self, PartError> {
        Self::start_with(dir, Keep::WithHandle).await
    }

    /// As [`OpenSearch::start`], with a choice of lifetime.
    pub async fn start_with(dir: &Path, keep: Keep) -> Result<Self, PartError> {
        let java = java_home()?;
        let distribution = fetch(&crate::parts_cache(), &mut |line| tracing::info!("{line}"))?;
        let directory = Directory::open(dir, PART)?;
        let port = port::kept(&directory.join("port"))?;
        let transport = port::kept(&directory.join("transport-port"))?;
        configure(&directory, &distribution, port, transport)?;
        let mut process = Process::spawn(Launch {
            part: PART,
            program: &distribution.join("bin/opensearch"),
            args: Vec::new(),
            env: vec![
                ("OPENSEARCH_JAVA_HOME", java.to_string_lossy().into_owned()),
                ("OPENSEARCH_JAVA_OPTS", "-Xms512m -Xmx512m".to_owned()),
                ("OPENSEARCH_PATH_CONF", directory.join("config").to_string_lossy().into_owned()),
                ("OPENSEARCH_TMPDIR", directory.join("tmp").to_string_lossy().into_owned()),
            ],
            dir: &directory.path,
            account: directory.account,
            stop: "TERM",
            keep,
        })?;
        let health = "/_cluster/health?wait_for_status=yellow&timeout=2s";
        process.until_ready(READY_LIMIT, async || answers(port, health).await).await?;
        Ok(Self::running(process, directory, port, Kind))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

fn configure(
    directory: &Directory,
    distribution: &Path,
    port: u16,
    transport: u16,
) -> Result<(), PartError> {
    for name in ["config", "data", "logs", "tmp"] {
        let path = directory.join(name);
        fs::create_dir_all(&path).map_err(io(format!("create {}", path.display())))?;
        give(&path, directory.account, 0o700)?;
    }
    for name in ["jvm.options", "log4j2.properties"] {
        let from = distribution.join("config").join(name);
        let text = fs::read_to_string(&from).map_err(io(format!("read {}", from.display())))?;
        // JVM options that name files mean some in the distribution, which is not the server's.
        let ours = |line: &&str| !["=logs/", "=data"].iter().any(|file| line.contains(file));
        let kept: Vec<&str> = text.lines().filter(ours).collect();
        directory.write_private(&format!("config/{name}"), &kept.join("\n"))?;
    }
    let settings = format!(
        "cluster.name: flotilla\nnode.name: one\ndiscovery.type: single-node\n\
         network.host: 127.0.0.1\nhttp.port: {port}\ntransport.port: {transport}\n\
         path.data: {data}\npath.logs: {logs}\n\
         # A full laptop disk must not turn indices read-only.\n\
         cluster.routing.allocation.disk.threshold_enabled: false\n",
        data = directory.join("data").display(),
        logs = directory.join("logs").display(),
    );
    directory.write_private("config/opensearch.yml", &settings).map(|_| ())
}

/// The home of a Java that OpenSearch runs on.
fn java_home() -> Result<PathBuf, PartError> {
    let known = [
        "/usr/lib/jvm",
        "/opt/homebrew/opt",
        "/usr/local/opt",
        "/Library/Java/JavaVirtualMachines",
    ];
    let mut homes: Vec<PathBuf> = known
        .iter()
        .filter_map(|base| fs::read_dir(base).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .flat_map(|path| {
            let inside =
                [path.join("libexec/openjdk.jdk/Contents/Home"), path.join("Contents/Home")];
            inside.into_iter().chain([path])
        })
        .collect();
    homes.sort();
    homes
        .into_iter()
        .chain(programs::on_path("java").and_then(|java| home_of(&java)))
        .find(|home| {
            programs::is_executable(&home.join("bin/java"))
                && java_version(home).is_some_and(|version| JAVA.contains(&version))
        })
        .ok_or_else(|| PartError::Missing {
            part: PART,
            program: "java (11 to 23)".to_owned(),
            install: JAVA_PACKAGE.install_command(),
        })
}

/// What a `java` says of its home.
fn home_of(java: &Path) -> Option<PathBuf> {
    let output = Command::new(java)
        .args(["-XshowSettings:properties", "-version"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.trim().strip_prefix("java.home = "))?;
    Some(PathBuf::from(line))
}

/// The major version, from the file `release` that every Java carries.
fn java_version(home: &Path) -> Option<u32> {
    let release = fs::read_to_string(home.join("release")).ok()?;
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
    version.split(['.', '"', '+']).next()?.parse().ok()
}
