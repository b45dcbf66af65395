//! The record of failures while its store is away: nothing is judged without its past, nothing is
//! forgotten, and what was kept is written when the store is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use contracts::errors;
use queue_core::attempts::{AttemptStoreError, History};
use queue_core::{AttemptStore, Error, Failure, MemoryAttempts, RecordedFailure};

use crate::rig::{QUEUE, Rig, handling, header, infrastructure};

/// A store that can be switched off.
#[derive(Default)]
struct Flaky {
    inner: MemoryAttempts,
    down: AtomicBool,
    /// A message was about to run alone.
    alone: AtomicBool,
}

impl Flaky {
    fn check(&self) -> Result<(), AttemptStoreError> {
        if self.down.load(Ordering::Relaxed) {
            Err(AttemptStoreError("down".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl AttemptStore for Flaky {
    async fn record(
        &self,
        queue: &str,
        message: &str,
        failure: RecordedFailure,
    ) -> Result<History, AttemptStoreError> {
        self.check()?;
        self.alone.fetch_or(failure.code == errors::CRASH_LOOP.code, Ordering::Relaxed);
        self.inner.record(queue, message, failure).await
    }

    async fn load(&self, queue: &str, ids: &[String]) -> Result<Vec<History>, AttemptStoreError> {
        self.check()?;
        self.inner.load(queue, ids).await
    }

    async fn forget(&self, queue: &str, messages: &[String]) -> Result<(), AttemptStoreError> {
        self.check()?;
        self.inner.forget(queue, messages).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_store_that_is_down_loses_no_message_and_no_failure() {
    let mut rig = Rig::new();
    let store = with_store(&mut rig);
    rig.fill(0..5);
    store.down.store(true, Ordering::Relaxed);
    let (running, seen) = rig.start_noting(|_| async { Err(handling("broken")) });
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    assert_eq!(rig.dlq.depth().visible, 0, "nothing is judged without its past");
    assert_eq!(seen.count(), 5, "nor handled again");
    store.down.store(false, Ordering::Relaxed);
    rig.until("dead-lettered", || rig.dlq.depth().visible == 5).await;
    rig.until_empty().await;
    for letter in rig.letters() {
        let counted = letter.attempts.iter().filter(|a| a.counts).count();
        assert_eq!((letter.failures, counted), (3, 3), "{letter:?}");
    }
    assert_eq!(seen.count(), 15);
    running.stop().await;
}

fn with_store(rig: &mut Rig) -> Arc<Flaky> {
    let store = Arc::new(Flaky::default());
    rig.attempts = Arc::clone(&store) as Arc<dyn AttemptStore>;
    store
}

impl Flaky {
    async fn history(&self, id: u64) -> History {
        let id = header(id).id.to_string();
        self.inner.load(QUEUE.name, &[id]).await.unwrap().remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_written_when_the_store_is_back_so_that_a_crash_forgets_nothing() {
    let mut rig = Rig::new();
    let store = with_store(&mut rig);
    rig.fill(0..5);
    store.down.store(true, Ordering::Relaxed);
    let (running, seen) = rig.start_noting(|_| async {
        let error = Error::infrastructure(errors::INTERNAL, "the sink is away");
        Err(Failure::RetryAfter(error, Duration::from_secs(60)))
    });
    rig.until("handled, and none recorded", || seen.count() == 5).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    store.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(seen.count(), 5, "no message is back yet");
    running.crash().await;
    for id in 0..5 {
        let history = store.history(id).await;
        assert_eq!((history.failures, history.attempts.len()), (0, 1), "{history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_written_by_the_drain() {
    let mut rig = Rig::new();
    let store = with_store(&mut rig);
    rig.fill(0..1);
    store.down.store(true, Ordering::Relaxed);
    let (running, seen) = rig.start_noting(|_| async {
        let error = Error::infrastructure(errors::INTERNAL, "the sink is away");
        Err(Failure::RetryAfter(error, Duration::from_secs(600)))
    });
    rig.until("handled", || seen.count() == 1).await;
    // So long that the next try would come after the drain.
    tokio::time::sleep(Duration::from_secs(62)).await;
    store.down.store(false, Ordering::Relaxed);
    let report = running.stop().await;
    assert!(report.took < Duration::from_secs(28), "{report:?}");
    assert_eq!((seen.count(), store.history(0).await.attempts.len()), (1, 1));
}

/// Each receive ends with a message given back unjudged: that is no crash, in this process or in the
/// next one.
#[tokio::test(start_paused = true)]
async fn receives_during_an_outage_of_the_store_are_no_crash_loop() {
    let mut rig = Rig::new();
    let store = with_store(&mut rig);
    rig.fill(0..1);
    store.down.store(true, Ordering::Relaxed);
    let (running, seen) = rig.start_noting(|_| async { Err(infrastructure("the sink is away")) });
    rig.until("received over and over", || running.status.snapshot().totals.retried >= 10).await;
    assert_eq!(seen.count(), 1, "not handled without its past");
    store.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(35)).await;
    running.crash().await;
    let running = rig.start(|_| async { Ok(()) });
    rig.until("handled", || running.status.snapshot().totals.settled == 1).await;
    running.stop().await;
    assert_eq!((rig.dlq.depth().visible, store.alone.load(Ordering::Relaxed)), (0, false));
}
