//! Reads an object back whole and says what its bytes are: the only proof that the store has it. A HEAD,
//! an `ETag` or an answer to a write prove nothing.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use chrono::{DateTime, Utc};
use evidence::Codec;
use evidence::object::{Contents, Observed, survey};
use sinks::objects::ObjectKey;
use tokio::sync::mpsc;
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

/// Reads the object to its end; `None` when there is none.
pub(super) async fn read_back(
    hand: &Hand<'_>,
    key: &ObjectKey,
    codec: Codec,
) -> Result<Option<Seen>, Obstacle> {
    let Some(mut body) = hand.objects.read(key, 0).await? else { return Ok(None) };
    let (chunks, waiting) = mpsc::channel(WAITING);
    let tenant = hand.claim.tenant.as_str().to_owned();
    let decoder = tokio::task::spawn_blocking(move || {
        let mut events = Vec::new();
        let from = Chunks { waiting, chunk: Bytes::new() };
        let observed = survey(from, codec, |entry| {
            if entry.line.key.revision == 0 {
                events.push((entry.line.recorded_at, entry.line.key.id));
            }
        })?;
        Ok::<_, io::Error>(seen(observed, events, &tenant))
    });
    let mut since_beat = 0;
    while let Some(chunk) = body.chunk().await? {
        since_beat += chunk.len();
        if chunks.send(chunk).await.is_err() {
            break;
        }
        if since_beat >= BEAT_BYTES {
            since_beat = 0;
            hand.beat().await?;
        }
    }
    drop(chunks);
    let seen = decoder.await.map_err(io::Error::other).and_then(|seen| seen);
    seen.map(Some).map_err(|error| Obstacle::Poison(format!("reading {key} broke off: {error}")))
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
