//! Lines to packed bytes, on a thread of its own behind a bounded channel: the database is read while
//! the codec works. What comes out waits in memory while it is small and in a file without a name while
//! it is not; so its hashes are known before the object is begun.

use std::io::Write as _;
use std::path::Path;

use contracts::Tenant;
use evidence::Codec;
use evidence::object::{Contents, ObjectWriter};
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lines::Line;
use crate::lifecycle::Tally;

/// Packed bytes that are held in memory; what is more goes to the disk.
const MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// Batches of lines that wait for the codec at most.
const WAITING: usize = 2;

/// An object before it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) file: SpooledTempFile,
    pub(super) contents: Contents,
    /// Its events, with the bytes of their records.
    pub(super) events: Tally,
}

/// Why lines do not become an object.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    /// A line that no archive can hold, or rows out of order: it will be so again.
    #[error("{0}")]
    Line(String),
    /// The disk.
    #[error("the spool cannot be written: {0}")]
    Spool(#[from] std::io::Error),
    /// The thread ended without a word.
    #[error("packing broke off: {0}")]
    Broken(String),
}

/// A codec at work.
#[derive(Debug)]
pub(super) struct Packer {
    lines: mpsc::Sender<Vec<Line>>,
    task: JoinHandle<Result<Packed, PackError>>,
}

impl Packer {
    /// Packs a tenant's lines; larger objects wait in `spool`.
    pub(super) fn start(tenant: &Tenant, codec: Codec, spool: &Path) -> Self {
        let (lines, mut waiting) = mpsc::channel::<Vec<Line>>(WAITING);
        let (tenant, spool) = (tenant.clone(), spool.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            let file = tempfile::spooled_tempfile_in(MEMORY_BYTES, spool);
            let mut writer = ObjectWriter::new(file, codec, &tenant);
            let mut events = Tally::default();
            while let Some(lines) = waiting.blocking_recv() {
                for line in lines {
                    push(&mut writer, &line)?;
                    if line.event {
                        let bytes = line.bytes.len() as u64;
                        events = events.and(Tally { events: 1, bytes });
                    }
                }
            }
            let (mut file, contents) = writer.finish()?;
            file.flush()?;
            Ok(Packed { file, contents, events })
        });
        Self { lines, task }
    }

    /// Hands lines over, in order; waits while the codec is behind. `false`: it has ended, and
    /// [`Packer::finish`] says why.
    pub(super) async fn push(&self, lines: Vec<Line>) -> bool {
        self.lines.send(lines).await.is_ok()
    }

    /// For a thread that hands lines over by itself; the object is finished when it is dropped, too.
    pub(super) fn sender(&self) -> mpsc::Sender<Vec<Line>> {
        self.lines.clone()
    }

    /// The object of what was handed over.
    pub(super) async fn finish(self) -> Result<Packed, PackError> {
        drop(self.lines);
        match self.task.await {
            Ok(packed) => packed,
            Err(error) => Err(PackError::Broken(error.to_string())),
        }
    }
}

fn push(writer: &mut ObjectWriter<SpooledTempFile>, line: &Line) -> Result<(), PackError> {
    writer.push(&line.salt, &line.bytes).map_err(|error| match error {
        evidence::object::Unwritable::Io(error) => PackError::Spool(error),
        other => PackError::Line(other.to_string()),
    })
}
