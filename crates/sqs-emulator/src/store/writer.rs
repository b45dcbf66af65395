//! The one thread that writes the log: takes what is queued, writes it, syncs it when somebody waits
//! for that, tells them. When the disk fails it refuses everybody until [`Writer::resume`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::compaction::compact;
use super::directory::{Directory, Tail};
use super::frames::{self, MAGIC};
use super::{Durability, StoreError};

/// Queued bytes from which callers wait before they change anything.
const QUEUED_BYTES_MAX: usize = 64 * 1_048_576;
/// How often a failed disk is tried again at most.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Free space that has to be there before a failed disk is used again.
const PROBE_BYTES: usize = 1_048_576;

type Tickets = Vec<(Durability, oneshot::Sender<Result<(), StoreError>>)>;

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queued: Mutex<Queued>,
    arrived: Condvar,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    buffer: Vec<u8>,
    tickets: Tickets,
    closed: bool,
    failed: Option<Arc<str>>,
    probed: Option<Instant>,
    resume: Option<Tail>,
}

impl Writer {
    /// Starts the thread; it goes on at that tail.
    pub(super) fn start(directory: Directory, tail: Tail) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let disk = Disk::open(directory, tail)?;
        let run = {
            let shared = Arc::clone(&shared);
            move || shared.run(disk)
        };
        let thread = std::thread::Builder::new().name("sqs-log".to_owned()).spawn(run);
        let thread = thread.map_err(|error| StoreError::Failed(error.to_string().into()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) async fn admit(&self) {
        loop {
            let taken = self.shared.taken.notified();
            if self.shared.lock().buffer.len() < QUEUED_BYTES_MAX {
                return;
            }
            taken.await;
        }
    }

    pub(super) fn append(
        &self,
        record: &[u8],
        durability: Option<Durability>,
    ) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        if record.is_empty() && durability.is_none_or(|level| level == Durability::Written) {
            return None;
        }
        let mut queued = self.shared.lock();
        let ticket = durability.map(|level| {
            let (sender, receiver) = oneshot::channel();
            match &queued.failed {
                Some(reason) => tell(sender, Err(StoreError::Failed(Arc::clone(reason)))),
                None => queued.tickets.push((level, sender)),
            }
            receiver
        });
        // What follows a failure is thrown away with the state it changed.
        if queued.failed.is_none() {
            if !record.is_empty() {
                frames::push(&mut queued.buffer, record);
            }
            self.shared.arrived.notify_one();
        }
        ticket
    }

    /// Whether there was a failure that can be recovered from now; an error when it lasts.
    pub(super) fn begin_recovery(&self, directory: &Directory) -> Result<bool, StoreError> {
        let mut queued = self.shared.lock();
        let Some(reason) = queued.failed.clone() else { return Ok(false) };
        if queued.probed.is_some_and(|at| at.elapsed() < PROBE_INTERVAL) {
            return Err(StoreError::Failed(reason));
        }
        let probed = probe(directory);
        queued.probed = Some(Instant::now());
        match probed {
            Ok(()) => Ok(true),
            Err(error) => Err(StoreError::Failed(error.to_string().into())),
        }
    }

    /// The state in memory is the one on disk again: go on at that tail.
    pub(super) fn resume(&self, tail: Tail) {
        let mut queued = self.shared.lock();
        queued.resume = Some(tail);
        queued.failed = None;
        self.shared.arrived.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread has panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut disk: Disk) {
        let mut buffer = Vec::new();
        loop {
            let (tickets, resume) = {
                let mut queued = self.lock();
                while queued.buffer.is_empty()
                    && queued.tickets.is_empty()
                    && queued.resume.is_none()
                    && !queued.closed
                {
                    queued = self.arrived.wait(queued).unwrap_or_else(PoisonError::into_inner);
                }
                let work = !queued.buffer.is_empty() || !queued.tickets.is_empty();
                if queued.closed && !work {
                    break;
                }
                buffer.clear();
                std::mem::swap(&mut buffer, &mut queued.buffer);
                (std::mem::take(&mut queued.tickets), queued.resume.take())
            };
            self.taken.notify_waiters();
            let reopened = resume.map_or(Ok(()), |tail| disk.reopen(tail));
            match reopened.and_then(|()| disk.store(&buffer, tickets)) {
                Ok(()) => disk.rotate(),
                Err(reason) => self.fail(&reason),
            }
        }
        disk.close();
    }

    /// Refuses everybody who waits, and from now on everybody who comes.
    fn fail(&self, reason: &str) {
        tracing::error!(reason, "the log cannot be written; calls are refused until it can");
        let reason: Arc<str> = reason.into();
        let mut queued = self.lock();
        queued.failed = Some(Arc::clone(&reason));
        queued.probed = Some(Instant::now());
        queued.buffer.clear();
        for (_, ticket) in std::mem::take(&mut queued.tickets) {
            tell(ticket, Err(StoreError::Failed(Arc::clone(&reason))));
        }
    }
}

/// The open segment.
struct Disk {
    directory: Directory,
    file: File,
    tail: Tail,
    synced_bytes: u64,
    rotate_at: u64,
    compaction: Option<JoinHandle<Result<u64, StoreError>>>,
}

impl Disk {
    fn open(directory: Directory, tail: Tail) -> Result<Self, StoreError> {
        let path = directory.segment(tail.segment);
        let file = File::options().create(true).append(true).open(&path);
        let mut file = file.map_err(|error| StoreError::io("open", &path, error))?;
        let mut tail = tail;
        if tail.bytes == 0 {
            let begun = file.write_all(MAGIC).and_then(|()| file.sync_all());
            begun.map_err(|error| StoreError::io("write", &path, error))?;
            tail.bytes = MAGIC.len() as u64;
            directory.sync()?;
        }
        let rotate_at = directory.segment_bytes().max(2 * tail.snapshot_bytes);
        Ok(Self { directory, file, synced_bytes: tail.bytes, tail, rotate_at, compaction: None })
    }

    fn reopen(&mut self, tail: Tail) -> Result<(), String> {
        let fresh = Self::open(self.directory.clone(), tail).map_err(|error| error.to_string())?;
        let compaction = self.compaction.take();
        *self = Self { compaction, ..fresh };
        Ok(())
    }

    /// Writes a batch and tells who waited for it; on an error the file is cut back to what was good.
    fn store(&mut self, batch: &[u8], tickets: Tickets) -> Result<(), String> {
        let result = self.store_to_file(batch, tickets);
        result.map_err(|(error, good, tickets)| {
            let reason = error.to_string();
            let cut = self.file.set_len(good).and_then(|()| self.file.sync_all());
            if let Err(error) = cut {
                tracing::warn!(%error, "the unfinished record could not be cut off");
            }
            for (_, ticket) in tickets {
                tell(ticket, Err(StoreError::Failed(reason.as_str().into())));
            }
            reason
        })
    }

    fn store_to_file(
        &mut self,
        batch: &[u8],
        tickets: Tickets,
    ) -> Result<(), (io::Error, u64, Tickets)> {
        if let Err(error) = self.file.write_all(batch) {
            return Err((error, self.tail.bytes, tickets));
        }
        self.tail.bytes += batch.len() as u64;
        let (written, synced): (Tickets, Tickets) =
            tickets.into_iter().partition(|(level, _)| *level == Durability::Written);
        for (_, ticket) in written {
            tell(ticket, Ok(()));
        }
        if synced.is_empty() {
            return Ok(());
        }
        if self.synced_bytes < self.tail.bytes {
            if let Err(error) = self.file.sync_data() {
                return Err((error, self.synced_bytes, synced));
            }
            self.synced_bytes = self.tail.bytes;
        }
        for (_, ticket) in synced {
            tell(ticket, Ok(()));
        }
        Ok(())
    }

    /// Seals a segment that has grown large and lets another thread replace it by a snapshot.
    fn rotate(&mut self) {
        if self.tail.bytes < self.rotate_at || !self.compaction_done() {
            return;
        }
        let sealed = self.tail.segment;
        let tail = Tail { segment: sealed + 1, bytes: 0, snapshot_bytes: self.tail.snapshot_bytes };
        let sealing = self.file.sync_all().map_err(|error| error.to_string());
        if let Err(error) = sealing.and_then(|()| self.reopen(tail)) {
            // The old segment still takes records; try again after as many bytes once more.
            self.rotate_at = self.tail.bytes + self.directory.segment_bytes();
            tracing::warn!(%error, "no new segment could be started");
            return;
        }
        let directory = self.directory.clone();
        let thread = std::thread::Builder::new().name("sqs-compaction".to_owned());
        match thread.spawn(move || compact(&directory, sealed)) {
            Ok(thread) => self.compaction = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread for compaction"),
        }
    }

    /// Whether no compaction runs; takes the result of one that has ended.
    fn compaction_done(&mut self) -> bool {
        if self.compaction.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        match self.compaction.take().map(JoinHandle::join) {
            Some(Ok(Ok(bytes))) => {
                self.tail.snapshot_bytes = bytes;
                self.rotate_at = self.directory.segment_bytes().max(2 * bytes);
                return self.tail.bytes >= self.rotate_at;
            }
            Some(Ok(Err(error))) => {
                tracing::warn!(%error, "compaction failed; the log keeps its segments");
            }
            Some(Err(_)) => tracing::error!("the compaction's thread has panicked"),
            None => {}
        }
        true
    }

    fn close(mut self) {
        if let Err(error) = self.file.sync_all() {
            tracing::error!(%error, "the log could not be synced at the end");
        }
        if let Some(thread) = self.compaction.take()
            && thread.join().is_err()
        {
            tracing::error!("the compaction's thread has panicked");
        }
    }
}

/// Tries to write as much as a few calls need.
fn probe(directory: &Directory) -> io::Result<()> {
    let path = directory.probe();
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Who no longer waits need not be told.
fn tell(ticket: oneshot::Sender<Result<(), StoreError>>, result: Result<(), StoreError>) {
    if ticket.send(result).is_err() {
        tracing::trace!("a caller has gone before its record was written");
    }
}
