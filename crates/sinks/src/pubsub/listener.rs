//! Listening: one connection for all readers of a process, in a task of its own. It comes back by
//! itself, catches up from the streams, and tells readers of a gap wherever that does not prove
//! that they have everything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use rand::Rng as _;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::buffer::Buffer;
use super::publisher::{Publisher, failed};
use super::topic::{EntryId, Published, Topic, Verdict, judge};
use super::{NAME, SinkError, SinkErrorKind};

/// Readers of one process at most.
pub const READERS_MAX: usize = 10_000;
/// Channels of one SUBSCRIBE.
const CHANNELS_AT_ONCE: usize = 256;
/// How often a silent connection is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(3);
/// Times that a stream is read before its readers are sent to the database instead.
const READS_MAX: u32 = 3;
/// First and longest wait before connecting again; in between they double, with jitter.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

struct Reader {
    number: u64,
    buffer: Arc<Buffer>,
    /// Not told yet that its subscription is in force.
    fresh: bool,
}

#[derive(Default)]
struct Listened {
    readers: Vec<Reader>,
    /// The subscription is in force on the connection of now.
    active: bool,
    /// The last entry that readers got; `None` after a gap.
    last: Option<EntryId>,
}

impl Listened {
    fn deliver(&mut self, id: EntryId, item: &Bytes) {
        for reader in &self.readers {
            reader.buffer.push(item.clone());
        }
        self.last = Some(id);
    }

    fn gap(&mut self) {
        for reader in &mut self.readers {
            reader.buffer.gap();
            reader.fresh = false;
        }
        self.last = None;
    }
}

/// What readers and the task share.
pub(super) struct Listener {
    client: redis::Client,
    publisher: Publisher,
    timeout: Duration,
    topics: Mutex<HashMap<Topic, Listened>>,
    numbers: AtomicU64,
    changed: Notify,
    in_force: AtomicBool,
    started: AtomicBool,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    pub(super) fn new(client: redis::Client, publisher: Publisher, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            client,
            publisher,
            timeout,
            topics: Mutex::default(),
            numbers: AtomicU64::new(0),
            changed: Notify::new(),
            in_force: AtomicBool::new(false),
            started: AtomicBool::new(false),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, Listened>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reader, and begins to listen with the first.
    pub(super) fn add(self: &Arc<Self>, topic: &Topic) -> Result<(u64, Arc<Buffer>), SinkError> {
        let full = |why| Err(SinkError::new(NAME, SinkErrorKind::Full, why));
        if self.closing.is_cancelled() {
            return full("the feed is closed");
        }
        let mut topics = self.topics();
        if topics.values().map(|listened| listened.readers.len()).sum::<usize>() >= READERS_MAX {
            return full("too many readers in this process");
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let buffer = Arc::new(Buffer::default());
        let listened = topics.entry(topic.clone()).or_default();
        if listened.active {
            buffer.gap();
        }
        let fresh = !listened.active;
        listened.readers.push(Reader { number, buffer: buffer.clone(), fresh });
        drop(topics);
        if !self.started.swap(true, Ordering::AcqRel) {
            self.tasks.spawn(self.clone().run());
        }
        self.changed.notify_one();
        Ok((number, buffer))
    }

    pub(super) fn remove(&self, topic: &Topic, number: u64) {
        let mut topics = self.topics();
        if let Some(listened) = topics.get_mut(topic) {
            listened.readers.retain(|reader| reader.number != number);
            if listened.readers.is_empty() {
                topics.remove(topic);
            }
        }
        drop(topics);
        self.changed.notify_one();
    }

    pub(super) fn is_listening(&self) -> bool {
        self.in_force.load(Ordering::Acquire)
    }

    /// Begins the end; the task finishes by itself.
    pub(super) fn cancel(&self) {
        self.closing.cancel();
        for listened in self.topics().values() {
            for reader in &listened.readers {
                reader.buffer.close();
            }
        }
    }

    pub(super) async fn close(&self) {
        self.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn run(self: Arc<Self>) {
        let closing = self.closing.clone();
        let mut failures = 0;
        loop {
            let session = async {
                let pubsub = timeout(self.timeout, self.client.get_async_pubsub()).await;
                let pubsub = pubsub.map_err(|_| "no answer in time".to_owned())?;
                let (sink, stream) = pubsub.map_err(|error| failed(&error).message)?.split();
                self.session(sink, stream).await
            };
            let ended = tokio::select! {
                () = closing.cancelled() => return,
                ended = session => ended,
            };
            let was_in_force = self.in_force.swap(false, Ordering::AcqRel);
            for listened in self.topics().values_mut() {
                listened.active = false;
            }
            if was_in_force {
                failures = 0;
            }
            if let Err(error) = ended
                && failures == 0
            {
                warn!(sink = NAME, error, "the live feed lost its connection; trying again");
            }
            failures += 1;
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(wait(failures)) => {}
            }
        }
    }

    /// Listens on one connection until it is lost.
    async fn session(&self, mut sink: PubSubSink, mut stream: PubSubStream) -> Result<(), String> {
        let mut subscribed = HashSet::new();
        let mut heartbeat = interval(PING_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.follow_readers(&mut sink, &mut subscribed).await?;
            if !self.in_force.swap(true, Ordering::AcqRel) {
                info!(sink = NAME, topics = subscribed.len(), "the live feed is listening");
            }
            tokio::select! {
                message = stream.next() => {
                    let message = message.ok_or("the server closed the connection")?;
                    self.receive(&message).await;
                }
                () = self.changed.notified() => {}
                _ = heartbeat.tick() => {
                    let pong = self.timed(sink.ping::<redis::Value>()).await;
                    pong.map_err(|error| format!("no answer to a ping: {error}"))?;
                }
            }
        }
    }

    async fn timed<T>(
        &self,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, String> {
        match timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Subscribes to what has readers and is not subscribed to, and the other way round.
    async fn follow_readers(
        &self,
        sink: &mut PubSubSink,
        subscribed: &mut HashSet<Topic>,
    ) -> Result<(), String> {
        let (missing, surplus): (Vec<Topic>, Vec<Topic>) = {
            let topics = self.topics();
            let missing = topics.keys().filter(|topic| !subscribed.contains(*topic));
            let surplus = subscribed.iter().filter(|topic| !topics.contains_key(*topic));
            (missing.cloned().collect(), surplus.cloned().collect())
        };
        for topics in surplus.chunks(CHANNELS_AT_ONCE) {
            let channels: Vec<&str> = topics.iter().map(Topic::channel).collect();
            self.timed(sink.unsubscribe(channels)).await?;
            for topic in topics {
                subscribed.remove(topic);
                // A reader may have come while we unsubscribed; it is not in force for it.
                if let Some(listened) = self.topics().get_mut(topic) {
                    listened.active = false;
                    self.changed.notify_one();
                }
            }
        }
        for topics in missing.chunks(CHANNELS_AT_ONCE) {
            let channels: Vec<&str> = topics.iter().map(Topic::channel).collect();
            self.timed(sink.subscribe(channels)).await?;
            for topic in topics {
                subscribed.insert(topic.clone());
                self.activate(topic).await;
            }
        }
        // A topic that lost its last reader and got a new one between two looks is subscribed but
        // new to us.
        let renewed: Vec<Topic> = {
            let topics = self.topics();
            let renewed =
                topics.iter().filter(|(topic, l)| !l.active && subscribed.contains(*topic));
            renewed.map(|(topic, _)| topic.clone()).collect()
        };
        for topic in renewed {
            self.activate(&topic).await;
        }
        Ok(())
    }

    /// The subscription is in force: what came before is read from the stream, or is a gap.
    async fn activate(&self, topic: &Topic) {
        self.catch_up(topic).await;
        if let Some(listened) = self.topics().get_mut(topic) {
            listened.active = true;
            for reader in &mut listened.readers {
                if std::mem::take(&mut reader.fresh) {
                    reader.buffer.gap();
                }
            }
        }
    }

    async fn receive(&self, message: &redis::Msg) {
        let topic = Topic::of_channel(message.get_channel_name());
        let bytes = message.get_payload_bytes();
        let verdict = {
            let mut topics = self.topics();
            let Some(listened) = topics.get_mut(&topic) else { return };
            let Some(published) = Published::read(bytes) else {
                // Somebody else publishes on our channel, or another version of us.
                listened.gap();
                return;
            };
            let verdict = judge(listened.last, &published);
            if verdict == Verdict::Next {
                listened.deliver(published.id, &Bytes::copy_from_slice(published.payload));
            }
            verdict
        };
        if verdict == Verdict::Hole {
            self.catch_up(&topic).await;
        }
    }

    /// Delivers what the stream holds after the last entry that readers have; a gap when it does
    /// not hold that entry any more, or cannot be read.
    async fn catch_up(&self, topic: &Topic) {
        loop {
            let last = self.topics().get(topic).and_then(|listened| listened.last);
            let page = match last {
                Some(last) => self.after(topic, last).await,
                None => None,
            };
            let mut topics = self.topics();
            let Some(listened) = topics.get_mut(topic) else { return };
            match page {
                None => return listened.gap(),
                Some(entries) if entries.is_empty() => return,
                Some(entries) => {
                    for (id, payload) in entries {
                        listened.deliver(id, &Bytes::from(payload));
                    }
                }
            }
        }
    }

    /// What the stream holds after an entry. The connection that reads it was lost with the
    /// other one and may come back a moment later, so it is asked more than once.
    async fn after(&self, topic: &Topic, last: EntryId) -> Option<Vec<(EntryId, Vec<u8>)>> {
        let mut tries = 1;
        loop {
            match self.publisher.after(topic, last).await {
                Ok(page) => return page,
                Err(_) if tries < READS_MAX => tries += 1,
                Err(error) => {
                    warn!(sink = NAME, %error, "the live feed cannot catch up; readers backfill");
                    return None;
                }
            }
        }
    }
}

/// How long to wait after that many failures in a row.
fn wait(failures: u32) -> Duration {
    let longest = WAIT_FIRST.saturating_mul(1 << failures.min(8)).min(WAIT_MAX);
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}
