//! Listing a directory as S3 lists a bucket: by full names, in the order of their bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::disk::absent;
use crate::objects::{FOLDERS_MAX, ObjectKey, ObjectMeta, ObjectPage};

/// What no segment of a name begins with: our own folders.
const OURS: char = '~';

fn meta(key: ObjectKey, about: &fs::Metadata) -> io::Result<ObjectMeta> {
    let modified = DateTime::<Utc>::from(about.modified()?);
    Ok(ObjectMeta { key, size: about.len(), modified })
}

/// One name of a folder, so that sorting names sorts the full names below them: a folder counts as
/// ending in the slash that follows.
struct Entry {
    sorting: String,
    path: PathBuf,
}

fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let found = match fs::read_dir(folder) {
        Err(error) if absent(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let Ok(mut sorting) = entry.file_name().into_string() else { continue };
        if sorting.starts_with(OURS) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            sorting.push('/');
        }
        entries.push(Entry { sorting, path: entry.path() });
    }
    entries.sort_by(|a, b| a.sorting.cmp(&b.sorting));
    Ok(entries)
}

/// Walks in the order of full names; stops when the page has one more than it may.
fn walk(
    folder: &Path,
    name: &str,
    wanted: &Wanted<'_>,
    page: &mut Vec<ObjectMeta>,
) -> io::Result<()> {
    for Entry { sorting, path } in entries(folder)? {
        if page.len() > wanted.limit {
            return Ok(());
        }
        let full = format!("{name}{sorting}");
        if sorting.ends_with('/') {
            let under_prefix = full.starts_with(wanted.prefix) || wanted.prefix.starts_with(&full);
            // All below is before `after`, unless that lies below too.
            let behind = full.as_str() < wanted.after && !wanted.after.starts_with(&full);
            if under_prefix && !behind {
                walk(&path, &full, wanted, page)?;
            }
        } else if full.starts_with(wanted.prefix)
            && full.as_str() > wanted.after
            && let Ok(key) = full.parse()
        {
            match fs::metadata(&path) {
                // Removed meanwhile.
                Err(error) if absent(&error) => {}
                about => page.push(meta(key, &about?)?),
            }
        }
    }
    Ok(())
}

/// What a page is to hold.
struct Wanted<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
}

pub(super) fn page(root: &Path, prefix: &str, after: &str, limit: usize) -> io::Result<ObjectPage> {
    let mut objects = Vec::new();
    walk(root, "", &Wanted { prefix, after, limit }, &mut objects)?;
    let more = objects.len() > limit;
    objects.truncate(limit);
    let next = objects.last().filter(|_| more).map(|last| last.key.clone());
    Ok(ObjectPage { objects, next })
}

/// The folders after a prefix that hold an object somewhere below; `None` when there are too many.
pub(super) fn folders(root: &Path, prefix: &str) -> io::Result<Option<Vec<String>>> {
    let (parent, begin) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    if parent.split('/').any(|segment| matches!(segment, "." | "..")) || parent.starts_with('/') {
        return Ok(Some(Vec::new()));
    }
    let mut folders = Vec::new();
    for Entry { sorting, path } in entries(&root.join(parent))? {
        let (Some(name), true) = (sorting.strip_suffix('/'), sorting.starts_with(begin)) else {
            continue;
        };
        let mut first = Vec::new();
        walk(&path, &full(parent, &sorting), &ANY, &mut first)?;
        if first.is_empty() {
            continue;
        }
        if folders.len() == FOLDERS_MAX {
            return Ok(None);
        }
        folders.push(name.strip_prefix(begin).unwrap_or(name).to_owned());
    }
    Ok(Some(folders))
}

/// One object, whatever its name.
const ANY: Wanted<'static> = Wanted { prefix: "", after: "", limit: 0 };

fn full(parent: &str, folder: &str) -> String {
    if parent.is_empty() { folder.to_owned() } else { format!("{parent}/{folder}") }
}
