//! Where a verifier reads from: names and bytes. A directory of downloaded files is one, a map in
//! memory another. It never writes, and follows no symbolic link out of the directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Files of a source at most; more is a mistake in the path.
pub const FILES_MAX: usize = 5_000_000;
/// Folders inside folders at most.
const DEPTH_MAX: usize = 16;

/// A file of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name, with `/` between folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Files by name.
pub trait Source {
    /// The files whose names begin with `prefix`, which ends in `/`, in the order of their names.
    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>>;

    /// What follows `prefix`, which ends in `/`, up to the next `/`: each folder once, in order.
    fn folders(&self, prefix: &str) -> io::Result<Vec<String>> {
        let files = self.list(prefix)?;
        let below = files.iter().filter_map(|file| file.name.strip_prefix(prefix));
        let mut folders: Vec<String> =
            below.filter_map(|rest| Some(rest.split_once('/')?.0.to_owned())).collect();
        folders.dedup();
        Ok(folders)
    }

    /// A file's bytes; `None` when there is no such file.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// The whole of a file of at most `bytes_max`.
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            let what = format!("{name} is larger than {bytes_max} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        Ok(Some(bytes))
    }
}

/// A directory that holds what a bucket holds, under the same names.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// An existing directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.metadata()?.is_dir() {
            Ok(Self(path.to_owned()))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// The path of a name; `None` for a name that would lead out of the directory.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let mut path = self.0.clone();
        for part in name.split('/') {
            if matches!(part, "" | "." | "..") || part.contains(['\\', '\0']) {
                return None;
            }
            path.push(part);
        }
        Some(path)
    }

    fn walk(&self, folder: &str, depth: usize, found: &mut Vec<Listed>) -> io::Result<()> {
        let Some(path) = self.path(folder) else { return Ok(()) };
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| named(&error, &path))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| named(&error, &path))?;
            let Ok(file) = entry.file_name().into_string() else { continue };
            let (name, kind) = (format!("{folder}/{file}"), entry.file_type()?);
            if found.len() >= FILES_MAX || depth >= DEPTH_MAX {
                return Err(io::Error::other(format!(
                    "{}: more than {FILES_MAX} files or {DEPTH_MAX} folders deep",
                    self.0.display()
                )));
            }
            if kind.is_dir() {
                self.walk(&name, depth + 1, found)?;
            } else if kind.is_file() {
                found.push(Listed { name, bytes: entry.metadata()?.len() });
            }
        }
        Ok(())
    }
}

impl Source for Directory {
    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        self.walk(prefix.trim_end_matches('/'), 0, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Some(path) = self.path(name) else { return Ok(None) };
        match path.symlink_metadata() {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&error, &path)),
        }
        Ok(Some(Box::new(File::open(&path).map_err(|error| named(&error, &path))?)))
    }
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Source for BTreeMap<String, Vec<u8>> {
    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        let files = self.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(files.map(|(n, b)| Listed { name: n.clone(), bytes: b.len() as u64 }).collect())
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        Ok(self.get(name).map(|bytes| Box::new(bytes.as_slice()) as Box<dyn Read + '_>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_shows_what_is_in_it_and_nothing_else() {
        let (dir, outside) =
            (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/two"), "22").unwrap();
        std::fs::write(dir.path().join("a/one"), "1").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("a/link")).unwrap();
        let source = Directory::open(dir.path()).unwrap();
        let names: Vec<_> = source.list("a/").unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["a/b/two", "a/one"]);
        assert_eq!(source.read("a/b/two", 2).unwrap().unwrap(), b"22");
        assert!(source.read("a/b/two", 1).is_err());
        for none in ["a/link", "a/three", "a/b", "../a/one", "a/../a/one", "/etc/passwd", ""] {
            assert!(source.open(none).unwrap().is_none(), "{none}");
        }
        assert!(source.list("c/").unwrap().is_empty());
        assert_eq!(source.folders("a/").unwrap(), ["b"]);
        assert!(Directory::open(outside.path()).is_err());
    }
}
