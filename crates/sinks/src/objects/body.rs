//! The bytes of an object as they arrive, with a time limit from one chunk to the next instead of one
//! for the whole, and its end known by its length: what breaks off early is an error, never a short
//! object. It holds one chunk.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::{NAME, ObjectKey};
use crate::error::{SinkError, SinkErrorKind};

/// An object that is being read.
pub struct ObjectBody {
    key: ObjectKey,
    total: u64,
    left: u64,
    idle: Duration,
    chunks: BoxStream<'static, Result<Bytes, SinkError>>,
    /// Nothing is read after an error or the end.
    done: bool,
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody")
            .field("key", &self.key)
            .field("total", &self.total)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl ObjectBody {
    pub(crate) fn new(
        key: ObjectKey,
        total: u64,
        left: u64,
        idle: Duration,
        chunks: impl Stream<Item = Result<Bytes, SinkError>> + Send + 'static,
    ) -> Self {
        Self { key, total, left, idle, chunks: chunks.boxed(), done: false }
    }

    /// Bytes of the whole object, wherever this reading began.
    pub fn object_bytes(&self) -> u64 {
        self.total
    }

    /// The next bytes; `None` when the object was read to its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SinkError> {
        if self.done {
            return Ok(None);
        }
        let chunk = self.next_chunk().await;
        self.done = !matches!(chunk, Ok(Some(_)));
        chunk
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, SinkError> {
        let error =
            |kind, what: String| Err(SinkError::new(NAME, kind, format!("{}: {what}", self.key)));
        let at = self.total - self.left;
        match tokio::time::timeout(self.idle, self.chunks.next()).await {
            Err(_) => error(
                SinkErrorKind::Timeout,
                format!("no bytes for {:?} after {at} of {}", self.idle, self.total),
            ),
            Ok(None) if self.left == 0 => Ok(None),
            Ok(None) => error(
                SinkErrorKind::Unavailable,
                format!("the answer broke off after {at} of {} bytes", self.total),
            ),
            Ok(Some(Err(error))) => Err(error),
            Ok(Some(Ok(chunk))) => match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Ok(Some(chunk))
                }
                None => error(
                    SinkErrorKind::Unavailable,
                    format!("the answer has more than the {} bytes it announced", self.total),
                ),
            },
        }
    }

    /// The chunks as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, SinkError>> + Send + 'static {
        futures_util::stream::try_unfold(self, async |mut body| {
            Ok(body.chunk().await?.map(|chunk| (chunk, body)))
        })
    }

    /// The bytes for what reads; a failure is an `io::Error` around the [`SinkError`].
    pub fn into_reader(self) -> impl AsyncRead + Send + 'static {
        StreamReader::new(Box::pin(self.into_stream().map_err(std::io::Error::other)))
    }
}
