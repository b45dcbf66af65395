//! Duty 8: effects once. A handler runs an effect that no transaction holds; whatever interrupts it,
//! it is run again only where that is harmless.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::errors;
use queue_core::effects::{Begun, EffectKey, Effects, EffectsError, Entry, Outcome, Promise, once};
use queue_core::{Clock, Delivery, Error, Failure, MemoryEffects, Reason};

use crate::broker_driver::Kind;
use crate::rig::{Job, Rig, header};

const LEASE: Duration = Duration::from_secs(30);

fn ledger(rig: &Rig) -> Arc<MemoryEffects> {
    Arc::new(MemoryEffects::new(Arc::clone(&rig.world) as Arc<dyn Clock>))
}

fn key(id: u64) -> EffectKey {
    EffectKey::of_message("test.mail", &header(id))
}

fn receipt(id: &str) -> Outcome {
    Outcome::new(id).unwrap()
}

async fn mail(
    effects: &MemoryEffects,
    delivery: &Delivery<Job>,
    promise: Promise,
    effect: impl Future<Output = Result<Outcome, Failure>>,
) -> Result<(), Failure> {
    let key = EffectKey::of_message("test.mail", &delivery.header);
    once(effects, delivery, &key, promise, effect).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_sent_twice_is_one_effect() {
    let rig = Rig::new();
    rig.fill(0..5);
    rig.fill(0..5);
    let (effects, mails) = (ledger(&rig), Arc::new(AtomicUsize::new(0)));
    let running = rig.start({
        let mails = Arc::clone(&mails);
        move |delivery| {
            let (effects, mails) = (Arc::clone(&effects), Arc::clone(&mails));
            async move {
                mail(&effects, &delivery, Promise::Unknown, async {
                    // The other one of the same id meets it under way.
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    mails.fetch_add(1, Ordering::Relaxed);
                    Ok(receipt("receipt"))
                })
                .await
            }
        }
    });
    rig.until_empty().await;
    assert_eq!(mails.load(Ordering::Relaxed), 5);
    assert_eq!(rig.dlq.depth().visible, 0, "nobody was told to give up");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_effect_is_waited_for_without_an_attempt() {
    let rig = Rig::new();
    rig.fill(0..1);
    let effects = ledger(&rig);
    let Begun::Fresh(entry) = effects.begin(&key(0), "another process", LEASE).await.unwrap()
    else {
        panic!("fresh")
    };
    let failures = Arc::new(Mutex::new(Vec::new()));
    let (running, seen) = rig.start_noting({
        let (effects, failures) = (Arc::clone(&effects), Arc::clone(&failures));
        move |delivery| {
            failures.lock().unwrap().push(delivery.attempt.failures);
            let effects = Arc::clone(&effects);
            async move {
                mail(&effects, &delivery, Promise::Unknown, async { Ok(receipt("by us")) }).await
            }
        }
    });
    rig.until("met once", || seen.count() == 1).await;
    effects.complete(&entry, &Outcome::new("by the other").unwrap()).await.unwrap();
    rig.until_empty().await;
    assert_eq!(*failures.lock().unwrap(), [0, 0]);
    assert!(rig.world.elapsed() >= LEASE, "it waited until the other's lease would have ended");
    let known = effects.begin(&key(0), "later", LEASE).await.unwrap();
    assert_eq!(known, Begun::Done(Outcome::new("by the other").unwrap()));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_effect_is_repeated_or_told_by_the_sinks_promise() {
    for (promise, repeated) in [(Promise::Idempotent, 1), (Promise::Unknown, 0)] {
        let rig = Rig::new();
        let (effects, mails) = (ledger(&rig), Arc::new(AtomicUsize::new(0)));
        // Somebody died in the middle of it.
        effects.begin(&key(0), "worker 7", Duration::from_secs(1)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        rig.fill(0..1);
        let running = rig.start({
            let (effects, mails) = (Arc::clone(&effects), Arc::clone(&mails));
            move |delivery| {
                let (effects, mails) = (Arc::clone(&effects), Arc::clone(&mails));
                async move {
                    mail(&effects, &delivery, promise, async {
                        mails.fetch_add(1, Ordering::Relaxed);
                        Ok(receipt("again"))
                    })
                    .await
                }
            }
        });
        rig.until_empty().await;
        assert_eq!(mails.load(Ordering::Relaxed), repeated, "{promise:?}");
        let letters = rig.letters();
        assert_eq!(letters.len(), 1 - repeated, "{promise:?}");
        for letter in letters {
            assert_eq!(letter.code, "effect-unknown");
            assert!(letter.message.contains("worker 7"), "{}", letter.message);
            let command = format!("`fleetctl effects settle '{}' --done --reason WHY`", key(0));
            assert!(letter.message.contains(&command), "{}", letter.message);
        }
        if promise == Promise::Unknown {
            // Nobody holds it: who is told of it can settle it now.
            let after = effects.begin(&key(0), "later", LEASE).await.unwrap();
            assert!(matches!(&after, Begun::Abandoned { by, .. } if by == "worker 7"), "{after:?}");
        }
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_held_as_long_as_the_lease_and_not_longer() {
    let rig = Rig::new();
    rig.fill(0..1);
    let effects = ledger(&rig);
    let running = rig.start({
        let effects = Arc::clone(&effects);
        move |delivery| {
            let effects = Arc::clone(&effects);
            async move {
                mail(&effects, &delivery, Promise::Unknown, async {
                    for _ in 0..30 {
                        delivery.progress();
                        tokio::time::sleep(Duration::from_secs(10)).await;
                    }
                    std::future::pending().await
                })
                .await
            }
        }
    });
    rig.until("several leases long", || rig.world.elapsed() > LEASE * 9).await;
    let Begun::Busy(left) = effects.begin(&key(0), "another", LEASE).await.unwrap() else {
        panic!("the entry ended before the lease")
    };
    assert!(left <= LEASE, "{left:?}");
    running.crash().await;
    tokio::time::sleep(LEASE).await;
    let after = effects.begin(&key(0), "another", LEASE).await.unwrap();
    assert!(matches!(after, Begun::Abandoned { .. }), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_gives_the_entry_back_and_an_unknown_outcome_keeps_it() {
    let rig = Rig::new();
    let effects = ledger(&rig);
    let attempt = queue_core::Attempt { failures: 0, receives: 1, first_seen: rig.world.now() };
    let delivery = |id| Delivery::detached(header(id), Job(id), attempt);
    let down = Failure::Retry(Error::infrastructure(errors::INTERNAL, "down"));
    let failed = mail(&effects, &delivery(0), Promise::Unknown, async { Err(down) }).await;
    assert!(matches!(failed, Err(Failure::Retry(_))), "{failed:?}");
    let after = effects.begin(&key(0), "next", LEASE).await.unwrap();
    assert!(matches!(after, Begun::Fresh(_)), "{after:?}");

    let timeout = Failure::Unknown(Reason {
        code: errors::EFFECT_UNKNOWN,
        message: "no answer in time".into(),
    });
    let failed = mail(&effects, &delivery(1), Promise::Unknown, async { Err(timeout) }).await;
    assert!(matches!(failed, Err(Failure::Unknown(_))), "{failed:?}");
    let after = effects.begin(&key(1), "next", LEASE).await.unwrap();
    assert!(matches!(after, Begun::Busy(_)), "never taken for one that did not happen: {after:?}");
}

/// A ledger that loses its database in the middle.
struct Flaky {
    ledger: MemoryEffects,
    fails: AtomicUsize,
}

#[async_trait::async_trait]
impl Effects for Flaky {
    async fn begin(
        &self,
        key: &EffectKey,
        by: &str,
        lease: Duration,
    ) -> Result<Begun, EffectsError> {
        self.ledger.begin(key, by, lease).await
    }

    async fn extend(&self, entry: &Entry, lease: Duration) -> Result<(), EffectsError> {
        self.ledger.extend(entry, lease).await
    }

    async fn complete(&self, entry: &Entry, outcome: &Outcome) -> Result<(), EffectsError> {
        let left =
            self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Ok(_) => Err(EffectsError::Unavailable("cut off".into())),
            Err(_) => self.ledger.complete(entry, outcome).await,
        }
    }

    async fn release(&self, entry: &Entry) -> Result<(), EffectsError> {
        self.ledger.release(entry).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_noted_as_done_is_not_called_done() {
    let rig = Rig::new();
    let attempt = queue_core::Attempt { failures: 0, receives: 1, first_seen: rig.world.now() };
    for (fails, done) in [(2, true), (3, false)] {
        let flaky = Flaky {
            ledger: MemoryEffects::new(Arc::clone(&rig.world) as Arc<dyn Clock>),
            fails: AtomicUsize::new(fails),
        };
        let delivery = Delivery::detached(header(0), Job(0), attempt);
        let answer =
            once(&flaky, &delivery, &key(0), Promise::Unknown, async { Ok(receipt("x")) }).await;
        assert_eq!(answer.is_ok(), done, "{fails} failures: {answer:?}");
        if let Err(failure) = answer {
            let Failure::Retry(error) = failure else { panic!("{failure:?}") };
            assert_eq!(error.code.code, "database-unavailable");
            tokio::time::sleep(LEASE).await;
            let next = flaky.begin(&key(0), "next", LEASE).await.unwrap();
            assert!(matches!(next, Begun::Abandoned { .. }), "{next:?}");
        }
    }
    assert!(rig.queue.calls(Kind::Send).is_empty());
}
