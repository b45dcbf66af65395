//! An archive to read from: a folder that holds what the bucket holds, or the bucket itself, read as it
//! streams in. It never writes, and holds a few chunks of one object at a time.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use evidence::source::{Directory, FILES_MAX, Listed, Source};
use sinks::objects::{
    NAME, ObjectBody, ObjectKey, PAGE_MAX, S3, SharedObjects, SinkError, SinkErrorKind,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::Failure;

/// What a place in S3 begins with.
const S3_SCHEME: &str = "s3://";
/// Chunks that are read ahead of who unpacks them.
const CHUNKS_AHEAD: usize = 64;
/// A call that failed is made again after these waits, then the command fails.
const WAITS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// Longer than that the store's own wish is not followed.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Opens a folder, or `s3://bucket/prefix` under the AWS SDK's usual chain. Called where blocking is
/// allowed.
pub(crate) fn open(place: &str) -> Result<Box<dyn Source>, Failure> {
    let Some(rest) = place.strip_prefix(S3_SCHEME) else {
        let directory = Directory::open(Path::new(place)).map_err(|error| {
            Failure::usage(format!("{place}: {error}"))
                .hint("name the folder of a downloaded archive, or the bucket: s3://BUCKET/PREFIX")
        })?;
        return Ok(Box::new(directory));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let named = prefix.is_empty() || prefix.parse::<ObjectKey>().is_ok();
    if bucket.is_empty() || !named {
        return Err(Failure::usage(format!("{place}: not a place in S3")).hint(
            "s3://BUCKET, or s3://BUCKET/PREFIX where archive/ and proof/ are below the prefix",
        ));
    }
    let runtime = Handle::current();
    let s3 = runtime.block_on(S3::from_environment(bucket));
    let source =
        Bucket { objects: Arc::new(s3), prefix: prefixed(prefix), runtime: runtime.clone() };
    runtime.block_on(source.objects.probe()).map_err(|error| {
        Failure::unavailable(format!("{place}: {error}"))
            .hint("check the name, AWS_REGION, AWS_ENDPOINT_URL and the credentials; reading needs s3:ListBucket and s3:GetObject")
    })?;
    Ok(Box::new(source))
}

fn prefixed(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

/// What is below a prefix of a store.
struct Bucket {
    objects: SharedObjects,
    /// Empty, or ends in `/`.
    prefix: String,
    runtime: Handle,
}

impl Source for Bucket {
    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        let below = format!("{}{prefix}", self.prefix);
        let (mut files, mut after) = (Vec::new(), None);
        loop {
            let page =
                self.again(async || self.objects.list(&below, after.as_ref(), PAGE_MAX).await)?;
            files.extend(page.objects.into_iter().filter_map(|object| {
                let name = object.key.as_str().strip_prefix(&self.prefix)?.to_owned();
                Some(Listed { name, bytes: object.size })
            }));
            if files.len() > FILES_MAX {
                let what = format!("{}: more than {FILES_MAX} objects", self.objects.bucket());
                return Err(io::Error::other(what));
            }
            after = page.next;
            if after.is_none() {
                return Ok(files);
            }
        }
    }

    fn folders(&self, prefix: &str) -> io::Result<Vec<String>> {
        let below = format!("{}{prefix}", self.prefix);
        self.again(async || self.objects.list_folders(&below).await)
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let Ok(key) = format!("{}{name}", self.prefix).parse::<ObjectKey>() else {
            return Ok(None);
        };
        let Some(body) = self.again(async || self.objects.read(&key, 0).await)? else {
            return Ok(None);
        };
        let (sender, arriving) = mpsc::channel(CHUNKS_AHEAD);
        let pumping = pump(self.objects.clone(), key, body, sender);
        let pumping = AbortOnDropHandle::new(self.runtime.spawn(pumping));
        let runtime = self.runtime.clone();
        Ok(Some(Box::new(Arriving {
            chunks: arriving,
            chunk: Bytes::new(),
            runtime,
            _pumping: pumping,
        })))
    }
}

impl Bucket {
    /// Makes a call, and makes it again where that may help.
    fn again<T>(&self, call: impl AsyncFn() -> Result<T, SinkError>) -> io::Result<T> {
        self.runtime.block_on(async {
            let mut waits = WAITS.into_iter();
            loop {
                match call().await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => wait(error, &mut waits).await?,
                }
            }
        })
    }
}

/// Waits before another attempt; the error where none would help or none is left.
async fn wait(error: SinkError, waits: &mut impl Iterator<Item = Duration>) -> io::Result<()> {
    let passes = match error.kind {
        SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Throttled => true,
        SinkErrorKind::Refused | SinkErrorKind::Full | SinkErrorKind::NeedsRestore => false,
    };
    let Some(wait) = waits.next().filter(|_| passes) else { return Err(io::Error::other(error)) };
    let asked = error.retry_after.unwrap_or(wait).min(WAIT_MAX);
    tokio::time::sleep(asked.max(wait)).await;
    Ok(())
}

/// Reads an object ahead, from where it broke off when it does.
async fn pump(
    objects: SharedObjects,
    key: ObjectKey,
    body: ObjectBody,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let total = body.object_bytes();
    let (mut body, mut at, mut waits) = (Some(body), 0, WAITS.into_iter());
    loop {
        let chunk = match &mut body {
            Some(body) => body.chunk().await,
            None => match objects.read(&key, at).await {
                Ok(Some(more)) if more.object_bytes() == total => {
                    body = Some(more);
                    continue;
                }
                Ok(_) => {
                    let what = format!("{key} changed while it was read");
                    Err(SinkError::new(NAME, SinkErrorKind::Refused, what))
                }
                Err(error) => Err(error),
            },
        };
        match chunk {
            Ok(None) => return,
            Ok(Some(chunk)) => {
                at += chunk.len() as u64;
                waits = WAITS.into_iter();
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                body = None;
                if let Err(error) = wait(error, &mut waits).await {
                    // A reader that is gone needs no error.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
    }
}

/// An object's bytes for who reads without `async`.
struct Arriving {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    runtime: Handle,
    _pumping: AbortOnDropHandle<()>,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.chunks.recv()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
