//! One reader's buffer: bounded by items and bytes. A reader that is too slow loses items, and is
//! told so at exactly that place; nothing is ever left out in silence.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Signal;

/// Items that a reader may be behind.
pub const BUFFER_ITEMS_MAX: usize = 256;
/// Bytes that a reader may be behind. Readers of one tenant share the bytes of an item.
pub const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    signals: VecDeque<Signal<Bytes>>,
    bytes: usize,
    /// Items are dropped until the reader has seen the gap at the end.
    overflowed: bool,
    closed: bool,
}

/// Written by the listener, read by one reader.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    ready: Notify,
}

impl Buffer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, or a gap in its place when there is no room.
    pub(super) fn push(&self, item: Bytes) {
        let mut state = self.state();
        if state.overflowed {
            return;
        }
        let full = state.signals.len() >= BUFFER_ITEMS_MAX
            || (state.bytes + item.len() > BUFFER_BYTES_MAX && !state.signals.is_empty());
        if full {
            state.overflowed = true;
            drop(state);
            return self.gap();
        }
        state.bytes += item.len();
        state.signals.push_back(Signal::Item(item));
        drop(state);
        self.ready.notify_one();
    }

    /// Tells the reader that something may be missing here.
    pub(super) fn gap(&self) {
        let mut state = self.state();
        if !matches!(state.signals.back(), Some(Signal::Gap)) {
            state.signals.push_back(Signal::Gap);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_one();
    }

    /// The next signal; `None` after the last one of a closed buffer.
    pub(super) async fn next(&self) -> Option<Signal<Bytes>> {
        loop {
            {
                let mut state = self.state();
                if let Some(signal) = state.signals.pop_front() {
                    match &signal {
                        Signal::Item(item) => state.bytes -= item.len(),
                        Signal::Gap if state.signals.is_empty() => state.overflowed = false,
                        Signal::Gap => {}
                    }
                    return Some(signal);
                }
                if state.closed {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES_MAX, BUFFER_ITEMS_MAX, Buffer, Signal};
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    /// The next signal that is there now; an inner `None` is a gap.
    #[expect(clippy::option_option, reason = "nothing, a gap and an item are three things")]
    fn take(buffer: &Buffer) -> Option<Option<Bytes>> {
        match buffer.next().now_or_never() {
            Some(Some(Signal::Item(item))) => Some(Some(item)),
            Some(Some(Signal::Gap)) => Some(None),
            _ => None,
        }
    }

    #[test]
    fn an_item_too_many_becomes_a_gap_and_then_it_goes_on() {
        let buffer = Buffer::default();
        for n in 0..BUFFER_ITEMS_MAX + 3 {
            buffer.push(Bytes::from(n.to_string()));
        }
        for n in 0..BUFFER_ITEMS_MAX {
            assert_eq!(take(&buffer), Some(Some(Bytes::from(n.to_string()))));
        }
        assert_eq!(take(&buffer), Some(None));
        assert_eq!(take(&buffer), None);
        buffer.push(Bytes::from_static(b"next"));
        assert_eq!(take(&buffer), Some(Some(Bytes::from_static(b"next"))));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let buffer = Buffer::default();
        buffer.push(Bytes::from(vec![0; BUFFER_BYTES_MAX]));
        buffer.push(Bytes::from_static(b"x"));
        assert_eq!(take(&buffer).unwrap().unwrap().len(), BUFFER_BYTES_MAX);
        assert_eq!(take(&buffer), Some(None));
    }

    #[test]
    fn closing_lets_the_reader_finish() {
        let buffer = Buffer::default();
        buffer.push(Bytes::from_static(b"last"));
        buffer.close();
        assert!(take(&buffer).is_some());
        assert!(buffer.next().now_or_never().unwrap().is_none());
    }

    proptest! {
        /// Whatever the order of writing and reading: two items that the reader sees with no gap
        /// between them were written one right after the other.
        #[test]
        fn nothing_is_left_out_in_silence(steps in prop::collection::vec(0_usize..400, 0..12)) {
            let buffer = Buffer::default();
            let (mut written, mut expected) = (0_usize, Some(0_usize));
            for (turn, count) in steps.into_iter().enumerate() {
                for _ in 0..count {
                    if turn % 2 == 0 {
                        buffer.push(Bytes::from(written.to_string()));
                        written += 1;
                    } else {
                        match take(&buffer) {
                            Some(Some(item)) => {
                                let n: usize = std::str::from_utf8(&item).unwrap().parse().unwrap();
                                if let Some(expected) = expected {
                                    prop_assert_eq!(n, expected);
                                }
                                expected = Some(n + 1);
                            }
                            Some(None) => expected = None,
                            None => {
                                if let Some(expected) = expected {
                                    prop_assert_eq!(expected, written);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
