//! What one more queue and worker costs: on a copy of the tree, four hand-written files, then the
//! tools derive the rest, the copy builds and the new binary handles a message.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Files that a person writes or edits for one more queue and its worker, at most.
const HAND_WRITTEN_MAX: usize = 4;

const SERVICE: &str = "audit::workers::sample::SampleWorker";

struct Copy {
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl Copy {
    fn of_the_tree() -> Self {
        let tree = super::tree();
        // Beside the target folder's own files, which are linked and not copied.
        let folder = tempfile::tempdir_in(super::target_dir()).unwrap();
        let root = folder.path().join("flotilla");
        let listed = output(Command::new("git").current_dir(&tree).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]));
        for path in listed.lines().filter(|path| tree.join(path).is_file()) {
            let to = root.join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(tree.join(path), to).unwrap();
        }
        let copy = Self { root, _folder: folder };
        copy.git(&["init", "--quiet"]);
        copy.commit("as it was");
        copy
    }

    fn git(&self, arguments: &[&str]) -> String {
        output(
            Command::new("git")
                .current_dir(&self.root)
                .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
                .args(arguments),
        )
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }

    fn changed(&self) -> BTreeSet<String> {
        self.git(&["add", "--all"]);
        self.git(&["diff", "--cached", "--name-only"]).lines().map(str::to_owned).collect()
    }

    fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Takes over what the tree's own build made of other people's crates. Cargo tells two clones'
    /// packages of one name apart by nothing but their files' times, so ours are left out.
    fn seed_target(&self) {
        let (from, to) = (super::target_dir().join("debug"), self.target().join("debug"));
        std::fs::create_dir_all(&to).unwrap();
        for (folder, flags) in [("deps", "-al"), (".fingerprint", "-a"), ("build", "-a")] {
            let (from, to) = (from.join(folder), to.join(folder));
            output(Command::new("cp").arg(flags).args([&from, &to]));
            for entry in std::fs::read_dir(to).unwrap() {
                let entry = entry.unwrap();
                if self.is_ours(&entry.file_name().to_string_lossy()) {
                    output(Command::new("rm").arg("-r").arg(entry.path()));
                }
            }
        }
    }

    /// `libqueue_core-0123.rlib`, `queue-core-0123`, `it-0123`: a package of this workspace.
    fn is_ours(&self, file: &str) -> bool {
        let name = file.rsplit_once('-').map_or(file, |(name, _)| name).replace('_', "-");
        let name = name.strip_prefix("lib").unwrap_or(&name);
        let folders = ["crates", "bins"].map(|folder| self.root.join(folder).join(name));
        folders.iter().any(|folder| folder.is_dir())
            || ["xtask", "it", "flotilla-tests"].contains(&name)
    }

    fn cargo(&self, arguments: &[&str]) -> String {
        output(
            Command::new(env!("CARGO"))
                .current_dir(&self.root)
                .args(arguments)
                .env("CARGO_TARGET_DIR", self.target())
                .env("CARGO_NET_OFFLINE", "true"),
        )
    }

    fn edit(&self, path: &str, change: impl FnOnce(String) -> String) {
        let path = self.root.join(path);
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap_or_default())).unwrap();
    }
}

fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{command:?}: {}\n{text}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    text
}

fn write_by_hand(copy: &Copy) {
    copy.edit("crates/contracts/src/audit.rs", |text| {
        text + include_str!("../fixtures/sample-queue/message.rs")
    });
    copy.edit("crates/contracts/src/catalogue.rs", |text| {
        let list = "/// Every queue, in the order";
        assert!(text.contains(list) && text.contains("&AUDIT_LEGACY]"));
        text.replace(
            list,
            &(include_str!("../fixtures/sample-queue/catalogue.rs").to_owned() + list),
        )
        .replace("&AUDIT_LEGACY]", "&AUDIT_LEGACY, &AUDIT_SAMPLE]")
    });
    copy.edit("crates/audit/src/workers/sample.rs", |_| {
        include_str!("../fixtures/sample-queue/worker.rs").to_owned()
    });
    copy.edit("crates/audit/src/workers.rs", |text| text + "\npub mod sample;\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_queue_and_worker_is_four_hand_written_files() {
    let copy = Copy::of_the_tree();
    copy.seed_target();
    write_by_hand(&copy);
    let by_hand = copy.changed();
    assert!(by_hand.len() <= HAND_WRITTEN_MAX, "{by_hand:?}");
    copy.commit("by hand");

    copy.cargo(&["run", "--quiet", "-p", "xtask", "--", "new", "sample-worker", SERVICE]);
    copy.cargo(&["run", "--quiet", "-p", "xtask", "--", "gen", "--without-config"]);
    copy.cargo(&["run", "--quiet", "-p", "xtask", "--", "gen", "--check", "--without-config"]);
    let derived = copy.changed();
    for path in ["docs/QUEUES.md", "docker-compose.yml", "terraform/queues.auto.tfvars.json"] {
        assert!(derived.contains(path), "{path} does not know the new queue: {derived:?}");
        assert!(!by_hand.contains(path));
    }
    copy.cargo(&["build", "--quiet", "-p", "sample-worker"]);
    handles_one_message(&copy.target().join("debug/sample-worker")).await;
}

async fn handles_one_message(binary: &Path) {
    let sqs = testkit::TestSqs::start().await;
    let queue = sqs.create_queue("audit-log-sample-queue").await;
    sqs.create_queue("audit-log-sample-queue-dlq").await;
    let envelope = r#"{"v":1,"type":"SAMPLE","id":"01941f29-7c01-7000-8000-000000000001","tenant":"acme","recorded_at":"2025-01-01T00:00:00Z","correlation_id":"r","body":{"word":"ahoy"}}"#;
    queue
        .send(&[queue_core::driver::Outgoing { body: envelope.into(), ..Default::default() }])
        .await
        .unwrap();
    let mut worker = Command::new(binary)
        .env_clear()
        .env("AWS_SQS_SAMPLE_QUEUE_URL", sqs.url("audit-log-sample-queue"))
        .envs(sqs.environment())
        .env("ADMIN_ADDR", "127.0.0.1:0")
        .env("LOG_FORMAT", "json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    testkit::eventually(Duration::from_secs(120), "the message is settled", async || {
        let depth = queue.attributes().await.unwrap().depth;
        (depth.visible + depth.in_flight == 0).then_some(())
    })
    .await;
    let stop = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let ended = worker.wait().unwrap();
    let log = std::io::read_to_string(worker.stdout.take().unwrap()).unwrap()
        + &std::io::read_to_string(worker.stderr.take().unwrap()).unwrap();
    assert!(log.contains("ahoy"), "handled by somebody else: {log}");
    assert!(ended.success(), "{ended}: {log}");
}
