//! Reads an object back whole and says what its bytes are: the only proof that the store has it. A HEAD,
//! an `ETag` or an answer to a write prove nothing.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use chrono::{DateTime, Utc};
use evidence::Codec;
use evidence::object::{Contents, Entry, Observed, survey};
use sinks::SinkError;
use sinks::objects::{ObjectBody, ObjectKey, SharedObjects};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::unit::{Hand, Obstacle};

/// Chunks that wait for the decoder at most.
const WAITING: usize = 8;
/// Packed bytes after which the work is said to go on.
const BEAT_BYTES: usize = 4 * 1024 * 1024;

/// What an object holds by its own bytes.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its contents, or what is wrong with it.
    pub(super) contents: Result<Contents, String>,
    /// Its events, by ascending id. Revisions are not among them.
    pub(super) events: Vec<(DateTime<Utc>, Uuid)>,
}

/// Reads the object of a unit in hand to its end; `None` when there is none.
pub(super) async fn read_back(
    hand: &Hand<'_>,
    key: &ObjectKey,
    codec: Codec,
) -> Result<Option<Seen>, Obstacle> {
    let tenant = hand.claim.tenant.as_str();
    read(hand.objects, key, (codec, tenant), Some(hand)).await
}

/// The same of an object that nobody has in hand.
pub(super) async fn read_whole(
    objects: &SharedObjects,
    key: &ObjectKey,
    codec: Codec,
    tenant: &str,
) -> Result<Option<Seen>, Obstacle> {
    read(objects, key, (codec, tenant), None).await
}

async fn read(
    objects: &SharedObjects,
    key: &ObjectKey,
    (codec, tenant): (Codec, &str),
    hand: Option<&Hand<'_>>,
) -> Result<Option<Seen>, Obstacle> {
    let each = |events: &mut Vec<(DateTime<Utc>, Uuid)>, entry: &Entry<'_>| {
        if entry.line.key.revision == 0 {
            events.push((entry.line.recorded_at, entry.line.key.id));
        }
    };
    let Some(mut reading) = Reading::begin(objects, key, codec, Vec::new(), each).await? else {
        return Ok(None);
    };
    while reading.step().await? {
        if let Some(hand) = hand {
            hand.beat().await?;
        }
    }
    let ended = reading.end().await;
    let (observed, events) =
        ended.map_err(|error| Obstacle::Poison(format!("reading {key} broke off: {error}")))?;
    Ok(Some(seen(observed, events, tenant)))
}

/// An object that is being read from its first byte to its last, whatever it turns out to hold.
pub(crate) struct Reading<T> {
    body: ObjectBody,
    chunks: Option<mpsc::Sender<Bytes>>,
    decoder: JoinHandle<io::Result<(Observed, T)>>,
}

impl<T: Send + 'static> Reading<T> {
    /// Begins; `None` where there is no such object. Each line is given to `each` with `found`.
    pub(crate) async fn begin(
        objects: &SharedObjects,
        key: &ObjectKey,
        codec: Codec,
        mut found: T,
        each: fn(&mut T, &Entry<'_>),
    ) -> Result<Option<Self>, SinkError> {
        let Some(body) = objects.read(key, 0).await? else { return Ok(None) };
        let (chunks, waiting) = mpsc::channel(WAITING);
        let decoder = tokio::task::spawn_blocking(move || {
            let from = Chunks { waiting, chunk: Bytes::new() };
            let observed = survey(from, codec, |entry| each(&mut found, entry))?;
            Ok((observed, found))
        });
        Ok(Some(Self { body, chunks: Some(chunks), decoder }))
    }

    /// Reads a stretch of some [`BEAT_BYTES`]; whether there may be more.
    pub(crate) async fn step(&mut self) -> Result<bool, SinkError> {
        let Some(chunks) = &self.chunks else { return Ok(false) };
        let mut read = 0;
        while read < BEAT_BYTES {
            let Some(chunk) = self.body.chunk().await? else { return Ok(false) };
            read += chunk.len();
            if chunks.send(chunk).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the bytes are.
    pub(crate) async fn end(mut self) -> io::Result<(Observed, T)> {
        self.chunks = None;
        self.decoder.await.map_err(io::Error::other).and_then(|ended| ended)
    }
}

fn seen(observed: Observed, events: Vec<(DateTime<Utc>, Uuid)>, tenant: &str) -> Seen {
    let tenants = &observed.tenants;
    let foreign = tenants.other.is_some() || tenants.first.as_deref().is_some_and(|t| t != tenant);
    let contents = match observed.contents {
        Ok(_) if foreign => Err("it holds another tenant's lines".to_owned()),
        Ok(contents) => Ok(contents),
        Err(damage) => Err(damage.to_string()),
    };
    Seen { contents, events }
}

/// Chunks of a body as a decoder reads them.
struct Chunks {
    waiting: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.waiting.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let read = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..read]);
        Ok(read)
    }
}
