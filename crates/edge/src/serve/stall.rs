//! A stream whose writes must make progress: a client that stops reading loses its connection
//! instead of holding it, and what stands behind it, for ever. What it reads is told to the
//! connection's [`Pace`], which limits the other direction.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::pace::Pace;

/// See the module.
pub(super) struct StallGuard<T> {
    inner: T,
    pace: Arc<Pace>,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
    stalled: bool,
}

impl<T> StallGuard<T> {
    pub(super) fn new(inner: T, pace: Arc<Pace>, limit: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(limit));
        Self { inner, pace, limit, deadline, stalled: false }
    }

    fn check<R>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if progress.is_ready() {
            self.stalled = false;
            return progress;
        }
        if !self.stalled {
            self.stalled = true;
            self.deadline.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(self.deadline.as_mut().poll(cx));
        self.stalled = false;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StallGuard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pace.received();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallGuard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.check(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.check(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.inner).poll_flush(cx);
        self.check(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_cut_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut guard = StallGuard::new(near, Pace::new(), Duration::from_secs(5));
        let started = Instant::now();
        let error = guard.write_all(b"123456").await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));

        let read = async {
            let mut all = Vec::new();
            let mut byte = [0];
            while all.len() < 12 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                far.read_exact(&mut byte).await.unwrap();
                all.push(byte[0]);
            }
        };
        let (written, ()) = tokio::join!(guard.write_all(b"12345678"), read);
        written.unwrap();
    }
}
