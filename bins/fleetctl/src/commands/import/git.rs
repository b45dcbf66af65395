//! The history of a git repository as audit events: who committed what, and which files it touched.
//! Oldest first, so that a position stays the same while the history grows.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Item, Source};
use crate::failure::Failure;

/// Begins a commit's line; cannot be part of a name or a subject.
const COMMIT: char = '\x1e';
/// Between a commit's fields.
const FIELD: char = '\x1f';

/// Reads `git log` of the work tree at `path`.
pub(super) fn open(path: &Path) -> Result<Source, Failure> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(path).args(["-c", "core.quotePath=false"]).args(args);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let no_history = |_| {
        Failure::new(format!("{}: no git history can be read there", path.display()))
            .hint("is git installed, and is it a work tree with commits?")
    };
    let text = |args: &[&str]| -> Result<String, Failure> {
        let output = git(args).output().map_err(no_history)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            Ok(said)
        } else {
            Err(no_history(std::io::Error::other("git")))
        }
    };
    let top = text(&["rev-parse", "--show-toplevel"])?;
    let root = text(&["rev-list", "--max-parents=0", "HEAD"])?;
    let commits: u64 = text(&["rev-list", "--count", "HEAD"])?.parse().unwrap_or(0);
    let repository = Path::new(&top).file_name().map(|name| name.to_string_lossy().into_owned());
    let repository = repository.unwrap_or_default();
    let format = format!("--format={COMMIT}%H{FIELD}%an{FIELD}%ae{FIELD}%aI{FIELD}%P{FIELD}%s");
    let child = git(&["log", "--reverse", "--name-status", "--no-renames", &format])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(no_history)?;
    let name = format!("git {repository} {}", root.lines().next().unwrap_or_default());
    Ok(Source { name, total: Some(commits), items: Box::new(events(child, repository)) })
}

fn events(
    mut child: Child,
    repository: String,
) -> impl Iterator<Item = Result<Item, Failure>> + Send {
    let mut lines = child.stdout.take().map(|out| BufReader::new(out).split(b'\n'));
    let mut commit = None;
    std::iter::from_fn(move || {
        loop {
            let line = match lines.as_mut()?.next() {
                Some(Ok(line)) => String::from_utf8_lossy(&line).into_owned(),
                Some(Err(error)) => return Some(Err(error.into())),
                None => {
                    lines = None;
                    let status = child.wait();
                    let well = status.as_ref().is_ok_and(std::process::ExitStatus::success);
                    return (!well).then(|| Err(Failure::new("git log broke off")));
                }
            };
            if let Some(fields) = line.strip_prefix(COMMIT) {
                commit = Commit::parse(fields);
                if let Some(commit) = &commit {
                    return Some(Ok(Item { event: commit.event(&repository), steps: 1 }));
                }
            } else if let (Some(commit), Some((status, path))) = (&commit, line.split_once('\t')) {
                return Some(Ok(Item {
                    event: commit.file_event(&repository, status, path),
                    steps: 0,
                }));
            }
        }
    })
}

struct Commit {
    id: String,
    name: String,
    email: String,
    at: String,
    parents: usize,
    subject: String,
}

impl Commit {
    fn parse(fields: &str) -> Option<Self> {
        let mut fields = fields.splitn(6, FIELD).map(str::to_owned);
        Some(Self {
            id: fields.next()?,
            name: fields.next()?,
            email: fields.next()?,
            at: fields.next()?,
            parents: fields.next()?.split_whitespace().count(),
            subject: fields.next()?,
        })
    }

    fn actor(&self) -> Value {
        let id = if self.email.is_empty() { "unknown" } else { &self.email };
        let mut actor = json!({ "type": "user", "id": cut(id) });
        if !self.name.is_empty() {
            actor["name"] = cut(&self.name).into();
        }
        actor
    }

    fn event(&self, repository: &str) -> Value {
        json!({
            "actor": self.actor(),
            "action": "git.commit",
            "targets": [{ "type": "commit", "id": self.id }],
            "outcome": "success",
            "occurred_at": self.at,
            "metadata": {
                "repository": repository,
                "subject": self.subject,
                "parents": self.parents,
            },
        })
    }

    fn file_event(&self, repository: &str, status: &str, path: &str) -> Value {
        let what = match status.chars().next() {
            Some('A') => "added",
            Some('D') => "deleted",
            _ => "modified",
        };
        json!({
            "actor": self.actor(),
            "action": format!("git.file.{what}"),
            "targets": [
                { "type": "file", "id": cut(path) },
                { "type": "commit", "id": self.id },
            ],
            "outcome": "success",
            "occurred_at": self.at,
            "metadata": { "repository": repository, "path": path },
        })
    }
}

/// The API takes ids and names of 256 characters.
fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::open;
    use std::path::Path;
    use std::process::Command;

    fn git(folder: &Path, args: &[&str]) {
        let done = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["-c", "user.name=Zoë", "-c", "user.email=zoe@example.org"])
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[test]
    fn a_history_becomes_events_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet"]);
        std::fs::write(folder.path().join("ä b.txt"), "1").unwrap();
        git(folder.path(), &["add", "."]);
        git(folder.path(), &["commit", "--quiet", "-m", "first \"quoted\""]);
        git(folder.path(), &["rm", "--quiet", "ä b.txt"]);
        git(folder.path(), &["commit", "--quiet", "-m", "second"]);
        let source = open(folder.path()).unwrap();
        assert_eq!(source.total, Some(2));
        let events: Vec<_> = source.items.map(|item| item.unwrap().event).collect();
        let actions: Vec<_> =
            events.iter().map(|event| event["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["git.commit", "git.file.added", "git.commit", "git.file.deleted"]);
        assert_eq!(events[0]["actor"]["name"], "Zoë");
        assert_eq!(events[0]["metadata"]["subject"], "first \"quoted\"");
        assert_eq!(events[1]["targets"][0]["id"], "ä b.txt");
    }

    #[test]
    fn a_folder_without_history_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).is_err());
    }
}
