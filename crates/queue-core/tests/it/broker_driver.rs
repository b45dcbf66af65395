//! A driver over the emulator's broker, on tokio's clock, with faults by script: what a call does can
//! be refused, lost on the way back, slowed down or broken per entry.

mod by_hand;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use queue_core::driver::{Depth, EntryResults, QueueAttributes, ReceiveRequest};
use queue_core::{Clock, Driver, DriverError, EntryError, Outgoing, Received};
use sqs_emulator::operations::{Receive, VisibilityChange};
use sqs_emulator::{Broker, BrokerConfig, Caller, QueueArn, Request, Response, SqsError};
use tokio::sync::Notify;
use tokio::time::Instant;

use wire::{draft, entry, id, whole};

/// 2026-01-01, so that times look like times.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// One broker and its time: tokio's, so that a paused test chooses it.
pub(crate) struct World {
    broker: Mutex<Broker>,
    changed: Notify,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Receive,
    Settle,
    Extend,
    Send,
}

/// What a call was: for scripts to choose by, and for tests to look at afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) at: Duration,
    /// Of a receive what it asked for, of a batch its entries.
    pub(crate) size: usize,
    /// Of an extend, each entry's seconds.
    pub(crate) seconds: Vec<u64>,
}

/// What happens to a call.
pub(crate) enum Fault {
    None,
    /// It has no effect.
    Refuse(DriverError),
    /// It has its effect, the answer is lost.
    LoseAnswer(DriverError),
    /// One entry has no effect.
    Entry(usize, EntryError),
    /// The messages received are visible again at once: others, or we, get them a second time.
    Duplicate,
    Slow(Duration),
    /// Never answers.
    Hang,
    Panic,
}

type Script = Box<dyn FnMut(&Call) -> Fault + Send>;

pub(crate) struct BrokerQueue {
    world: Arc<World>,
    name: String,
    arn: QueueArn,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    /// Receipts handed out, with their bodies.
    handed_out: Mutex<Vec<(String, String)>>,
    /// Bodies whose next extension says that the lease is lost.
    losing: Mutex<Vec<String>>,
}

impl std::fmt::Debug for BrokerQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            broker: Mutex::new(Broker::new(BrokerConfig { seed, ..BrokerConfig::default() })),
            changed: Notify::new(),
            started: Instant::now(),
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn now_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.elapsed().as_millis()).unwrap()
    }

    fn call(&self, request: Request) -> Result<Response, SqsError> {
        // A receive makes nothing visible; waking the others for it would go round in circles.
        let wakes = !matches!(request, Request::ReceiveMessage(_));
        let answer = self.broker.lock().unwrap().call(self.now_ms(), &Caller::default(), request);
        if wakes {
            self.changed.notify_waiters();
        }
        answer
    }

    /// A queue with that retention and, with `redrive`, a dead-letter queue behind it.
    pub(crate) fn queue(
        self: &Arc<Self>,
        name: &str,
        retention: Duration,
        redrive: Option<(&BrokerQueue, u32)>,
    ) -> Arc<BrokerQueue> {
        let mut attributes = BTreeMap::from([
            ("MessageRetentionPeriod".to_owned(), retention.as_secs().to_string()),
            ("VisibilityTimeout".to_owned(), "30".to_owned()),
        ]);
        if name.strip_suffix(".fifo").is_some() {
            attributes.insert("FifoQueue".to_owned(), "true".to_owned());
        }
        if let Some((dlq, receives)) = redrive {
            let policy = serde_json::json!({
                "deadLetterTargetArn": dlq.arn.as_str(), "maxReceiveCount": receives });
            attributes.insert("RedrivePolicy".to_owned(), policy.to_string());
        }
        let name = name.to_owned();
        let created = self.call(Request::CreateQueue {
            name: Some(name.clone()),
            attributes,
            tags: BTreeMap::new(),
        });
        let Ok(Response::Queue(arn)) = created else { panic!("{created:?}") };
        Arc::new(BrokerQueue {
            world: Arc::clone(self),
            name,
            arn,
            script: Mutex::new(Box::new(|_| Fault::None)),
            calls: Mutex::default(),
            handed_out: Mutex::default(),
            losing: Mutex::default(),
        })
    }
}

impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms()).unwrap()
    }
}

impl BrokerQueue {
    /// From now on, what happens to each call.
    pub(crate) fn script(&self, script: impl FnMut(&Call) -> Fault + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// The next extension of the message with that body says that its lease is lost.
    pub(crate) fn lose(&self, body: &str) {
        self.losing.lock().unwrap().push(body.to_owned());
    }

    fn loses(&self, receipt: &str) -> bool {
        let handed_out = self.handed_out.lock().unwrap();
        let body = handed_out.iter().find(|(other, _)| other == receipt).map(|(_, body)| body);
        let mut losing = self.losing.lock().unwrap();
        let at = losing.iter().position(|other| Some(other) == body);
        at.map(|at| losing.remove(at)).is_some()
    }

    pub(crate) fn calls(&self, kind: Kind) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.kind == kind).cloned().collect()
    }

    /// Visible, in flight, delayed.
    pub(crate) fn depth(&self) -> Depth {
        let Ok(Response::Attributes(attributes)) = self.world.call(Request::GetQueueAttributes {
            queue: Some(self.arn.clone()),
            names: vec!["All".to_owned()],
        }) else {
            panic!("attributes")
        };
        let read = |name: &str| attributes[name].parse().unwrap();
        Depth {
            visible: read("ApproximateNumberOfMessages"),
            in_flight: read("ApproximateNumberOfMessagesNotVisible"),
            delayed: read("ApproximateNumberOfMessagesDelayed"),
        }
    }

    async fn fault(&self, kind: Kind, size: usize, seconds: Vec<u64>) -> Fault {
        let call = Call { kind, at: self.world.elapsed(), size, seconds };
        let fault = (self.script.lock().unwrap())(&call);
        self.calls.lock().unwrap().push(call);
        match fault {
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Fault::None
            }
            Fault::Hang => std::future::pending().await,
            Fault::Panic => panic!("the driver panics"),
            fault => fault,
        }
    }

    fn batch(
        &self,
        fault: Fault,
        entries: usize,
        request: impl Fn(&[usize]) -> Request,
    ) -> Result<EntryResults, DriverError> {
        let broken = match &fault {
            Fault::Refuse(error) => return Err(error.clone()),
            Fault::Entry(at, error) => Some((*at, error.clone())),
            _ => None,
        };
        let kept: Vec<usize> =
            (0..entries).filter(|at| broken.as_ref().is_none_or(|(b, _)| b != at)).collect();
        let mut results: EntryResults = vec![Ok(()); entries];
        if let Some((at, error)) = broken
            && at < entries
        {
            results[at] = Err(error);
        }
        if !kept.is_empty() {
            let answers = match self.world.call(request(&kept)).map_err(whole)? {
                Response::DoneBatch(done) => done.into_iter().map(|(_, r)| r).collect::<Vec<_>>(),
                Response::SentBatch(sent) => {
                    sent.into_iter().map(|(_, result)| result.map(drop)).collect()
                }
                other => panic!("{other:?}"),
            };
            for (at, answer) in kept.into_iter().zip(answers) {
                results[at] = answer.map_err(entry);
            }
        }
        match fault {
            Fault::LoseAnswer(error) => Err(error),
            _ => Ok(results),
        }
    }
}

#[async_trait]
impl Driver for BrokerQueue {
    fn queue(&self) -> &str {
        &self.name
    }

    async fn receive(&self, request: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        assert!(request.wait.subsec_nanos() == 0 && request.lease.subsec_nanos() == 0);
        let fault = self.fault(Kind::Receive, request.max, Vec::new()).await;
        if let Fault::Refuse(error) = fault {
            return Err(error);
        }
        let deadline = Instant::now() + request.wait;
        loop {
            let changed = self.world.changed.notified();
            let messages = self.take(i64::try_from(request.max).unwrap(), request.lease);
            if !messages.is_empty() || Instant::now() >= deadline {
                let receipts = messages.iter().map(|m| (m.receipt.clone(), m.body.clone()));
                self.handed_out.lock().unwrap().extend(receipts);
                if let Fault::Duplicate = fault {
                    for message in &messages {
                        self.expose(&message.receipt);
                    }
                }
                return match fault {
                    Fault::LoseAnswer(error) => Err(error),
                    _ => Ok(messages),
                };
            }
            let receive = Receive {
                queue: Some(self.arn.clone()),
                wait_seconds: Some(20),
                ..Receive::default()
            };
            let next = {
                let broker = self.world.broker.lock().unwrap();
                broker.long_poll(&receive).and_then(|poll| broker.next_wake(poll.queue))
            };
            let until = next.map_or(deadline, |at| {
                let after = u64::try_from(at - self.world.now_ms()).unwrap_or(0).max(1);
                deadline.min(Instant::now() + Duration::from_millis(after))
            });
            let _woken = tokio::time::timeout_at(until, changed).await;
        }
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        let fault = self.fault(Kind::Settle, receipts.len(), Vec::new()).await;
        self.batch(fault, receipts.len(), |kept| Request::DeleteMessageBatch {
            queue: Some(self.arn.clone()),
            entries: kept.iter().map(|at| (id(*at), Some(receipts[*at].clone()))).collect(),
        })
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        assert!(entries.iter().all(|(_, lease)| lease.subsec_nanos() == 0), "whole seconds");
        let seconds = entries.iter().map(|(_, lease)| lease.as_secs()).collect();
        let fault = match entries.iter().position(|(receipt, _)| self.loses(receipt)) {
            Some(at) => Fault::Entry(at, EntryError::LeaseLost("taken by somebody else".into())),
            None => self.fault(Kind::Extend, entries.len(), seconds).await,
        };
        let change = |at: usize| VisibilityChange {
            receipt: Some(entries[at].0.clone()),
            seconds: Some(i64::try_from(entries[at].1.as_secs()).unwrap()),
        };
        self.batch(fault, entries.len(), |kept| Request::ChangeMessageVisibilityBatch {
            queue: Some(self.arn.clone()),
            entries: kept.iter().map(|at| (id(*at), change(*at))).collect(),
        })
    }

    async fn send(&self, entries: &[Outgoing]) -> Result<EntryResults, DriverError> {
        let fault = self.fault(Kind::Send, entries.len(), Vec::new()).await;
        self.batch(fault, entries.len(), |kept| Request::SendMessageBatch {
            queue: Some(self.arn.clone()),
            entries: kept.iter().map(|at| (id(*at), draft(&entries[*at]))).collect(),
        })
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        let Ok(Response::Attributes(attributes)) = self.world.call(Request::GetQueueAttributes {
            queue: Some(self.arn.clone()),
            names: vec!["All".to_owned()],
        }) else {
            return Err(DriverError::Unavailable("attributes".into()));
        };
        let secs = |name: &str| Duration::from_secs(attributes[name].parse().unwrap());
        Ok(QueueAttributes {
            visibility: secs("VisibilityTimeout"),
            retention: secs("MessageRetentionPeriod"),
            depth: self.depth(),
            ..QueueAttributes::default()
        })
    }
}
