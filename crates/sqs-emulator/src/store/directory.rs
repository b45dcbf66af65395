//! The files of a data directory: which there are, reading them back, cutting a torn end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::frames::{self, Frame, HEAD_BYTES, MAGIC};
use crate::broker::Broker;

/// A data directory, locked for this process until the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
    segment_bytes: u64,
    _lock: Arc<File>,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last segment's number.
    pub(super) segment: u64,
    /// Its length, bytes.
    pub(super) bytes: u64,
    /// The newest snapshot's length, bytes.
    pub(super) snapshot_bytes: u64,
}

impl Directory {
    pub(super) fn open(path: &Path, segment_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(|error| StoreError::io("create", path, error))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path)
            .map_err(|error| StoreError::io("create", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), segment_bytes, _lock: Arc::new(lock) }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(StoreError::io("lock", &lock_path, error)),
        }
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("segment-{number:016}.log"))
    }

    pub(super) fn snapshot(&self, number: u64) -> PathBuf {
        self.path.join(format!("snapshot-{number:016}.bin"))
    }

    /// At which length a segment is sealed.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(super) fn probe(&self) -> PathBuf {
        self.path.join("probe")
    }

    /// Makes renames and new files durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| StoreError::io("sync", &self.path, error))
    }

    /// Numbers of the files of a kind, ascending.
    pub(super) fn numbers(&self, prefix: &str, suffix: &str) -> Result<Vec<u64>, StoreError> {
        let error = |error| StoreError::io("list", &self.path, error);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            let number: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads the newest snapshot and every segment from its number on.
    pub(super) fn load(&self, broker: &mut Broker) -> Result<Tail, StoreError> {
        let snapshot = self.numbers("snapshot-", ".bin")?.pop();
        let snapshot_bytes = match snapshot {
            Some(number) => load_snapshot(&self.snapshot(number), broker)?,
            None => 0,
        };
        let first = snapshot.unwrap_or(1);
        let mut segments = self.numbers("segment-", ".log")?;
        segments.retain(|number| *number >= first);
        let mut tail = Tail { segment: first, bytes: 0, snapshot_bytes };
        for (index, &number) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            let bytes = self.load_segment(number, last, broker)?;
            tail = Tail { segment: number, bytes, snapshot_bytes };
        }
        Ok(tail)
    }

    /// Applies segments up to and including one, without touching them; for compaction.
    pub(super) fn load_sealed(&self, up_to: u64, broker: &mut Broker) -> Result<(), StoreError> {
        let snapshot = self.numbers("snapshot-", ".bin")?.pop();
        if let Some(number) = snapshot {
            load_snapshot(&self.snapshot(number), broker)?;
        }
        for number in self.numbers("segment-", ".log")? {
            if number >= snapshot.unwrap_or(0) && number <= up_to {
                self.load_segment(number, false, broker)?;
            }
        }
        Ok(())
    }

    /// Applies a segment and gives its length. Only the last one may end in a torn record.
    fn load_segment(
        &self,
        number: u64,
        last: bool,
        broker: &mut Broker,
    ) -> Result<u64, StoreError> {
        let path = self.segment(number);
        let bytes = read(&path)?;
        let (end, _) = replay(&path, &bytes, broker)?;
        if end < bytes.len() {
            if !last {
                return Err(cut(&path, end));
            }
            self.cut_torn(&path, number, &bytes, end)?;
        }
        Ok(end as u64)
    }

    fn cut_torn(
        &self,
        path: &Path,
        number: u64,
        bytes: &[u8],
        end: usize,
    ) -> Result<(), StoreError> {
        let kept = self.path.join(format!("torn-{number:016}-{end}.bin"));
        tracing::warn!(
            segment = %path.display(), at = end, bytes = bytes.len() - end, kept = %kept.display(),
            "the log's last record was cut short; it was never acknowledged and is left out"
        );
        // Best effort: a full disk must not keep the state from being read.
        if let Err(error) = fs::write(&kept, &bytes[end..]) {
            tracing::warn!(%error, kept = %kept.display(), "the cut bytes could not be kept");
        }
        let shortened = File::options().write(true).open(path).and_then(|file| {
            file.set_len(end as u64)?;
            file.sync_all()
        });
        shortened.map_err(|error| StoreError::io("shorten", path, error))
    }
}

fn load_snapshot(path: &Path, broker: &mut Broker) -> Result<u64, StoreError> {
    let bytes = read(path)?;
    let (end, complete) = replay(path, &bytes, broker)?;
    if complete && end == bytes.len() { Ok(end as u64) } else { Err(cut(path, end)) }
}

/// Applies the records of a file: where the good ones end, and whether the end mark was seen.
fn replay(path: &Path, bytes: &[u8], broker: &mut Broker) -> Result<(usize, bool), StoreError> {
    let mut at = MAGIC.len();
    if bytes.len() < at {
        return Ok((0, false));
    }
    if !bytes.starts_with(MAGIC) {
        let reason = "it does not start as a file of this version does".to_owned();
        return Err(StoreError::Damaged { path: path.to_owned(), at: 0, reason });
    }
    while let Frame::Record(record) = frames::next(&bytes[at..]) {
        let end = at + HEAD_BYTES + record.len();
        if record.is_empty() {
            return Ok((end, true));
        }
        broker.replay(record).map_err(|error| StoreError::damaged(path, at as u64, error))?;
        at = end;
    }
    Ok((at, false))
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| StoreError::io("read", path, error))
}

fn cut(path: &Path, at: usize) -> StoreError {
    let reason = "a record ends too early or its check sum is wrong".to_owned();
    StoreError::Damaged { path: path.to_owned(), at: at as u64, reason }
}
