//! SQS as a pure state machine: a call, the time and the state give a reply and a new state. No clock,
//! no IO, no threads, no hidden randomness: the same calls at the same times with the same seed give
//! the same replies, ids and handles included.
//!
//! Calls are decided in the files below, one concern each, and take effect through [`Effect`]s only,
//! which is also what the log on disk holds. What can still surprise: a receive is a change (it
//! leases), and time passes for a queue when it is touched, not by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::attributes::Settings;
use crate::effects::decoding::{DecodeError, Reader};
use crate::effects::encoding;
use crate::effects::{Effect, MoveTask};
use crate::errors::SqsError;
use crate::limits;
use crate::model::{Caller, QueueArn, QueueId};
use crate::operations::{QueueRef, Receive, Request, Response};
use crate::queue::{Queue, Rules, dedup};

mod batches;
mod checks;
pub mod inspect;
mod listing;
mod moves;
mod permissions;
mod queues;
mod random;
mod receives;
mod redrive;
mod sends;
mod settles;

pub(crate) use moves::failure as move_failure;
pub(crate) use random::Random;

/// What can be chosen about a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Where ids and handles come from.
    pub seed: u64,
    /// Milliseconds between two purges of a queue; 0 allows them at any time.
    pub purge_interval_ms: i64,
    /// Milliseconds until a deleted queue's name is free again; 0 frees it at once.
    pub recreate_interval_ms: i64,
    /// Messages in flight per queue.
    pub in_flight_max: usize,
    /// Messages of a FIFO queue, from the oldest, among which a receive looks for a group.
    pub fifo_lookahead: usize,
    /// Whether noisy tenants of a standard queue wait behind quiet ones.
    pub fair_queues: bool,
}

impl Default for BrokerConfig {
    /// SQS, except that purging and creating again need no minute's wait.
    fn default() -> Self {
        Self {
            seed: 0,
            purge_interval_ms: 0,
            recreate_interval_ms: 0,
            in_flight_max: limits::IN_FLIGHT_MAX,
            fifo_lookahead: limits::FIFO_LOOKAHEAD,
            fair_queues: true,
        }
    }
}

impl BrokerConfig {
    /// SQS with its minutes of waiting after a purge and after a delete.
    #[must_use]
    pub fn strict(self) -> Self {
        Self {
            purge_interval_ms: limits::PURGE_INTERVAL_MS,
            recreate_interval_ms: limits::PURGE_INTERVAL_MS,
            ..self
        }
    }

    fn rules(&self) -> Rules {
        Rules { fair: self.fair_queues, lookahead: self.fifo_lookahead.max(1) }
    }
}

/// A receive that may wait for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPoll {
    /// On which queue.
    pub queue: QueueId,
    /// How long at most, milliseconds.
    pub wait_ms: i64,
}

/// The state of every queue of every account and region.
#[derive(Clone, Debug)]
pub struct Broker {
    config: BrokerConfig,
    random: Random,
    queues: HashMap<QueueId, Queue>,
    names: BTreeMap<QueueArn, QueueId>,
    /// Dead-letter queues with the queues that name them.
    sources: BTreeMap<QueueArn, BTreeSet<QueueArn>>,
    /// When queues were deleted, for the recreate interval.
    deleted: BTreeMap<QueueArn, i64>,
    tasks: BTreeMap<Uuid, MoveTask>,
    /// Tasks of each source, oldest first.
    tasks_by_source: BTreeMap<QueueArn, Vec<Uuid>>,
    last_queue: u64,
    last_seq: u64,
    journal: Option<Vec<u8>>,
    touched: Vec<QueueId>,
}

impl Broker {
    /// An empty broker.
    pub fn new(config: BrokerConfig) -> Self {
        Self {
            config,
            random: Random::new(config.seed),
            queues: HashMap::new(),
            names: BTreeMap::new(),
            sources: BTreeMap::new(),
            deleted: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tasks_by_source: BTreeMap::new(),
            last_queue: 0,
            last_seq: 0,
            journal: None,
            touched: Vec::new(),
        }
    }

    /// Decides one call at that time (milliseconds since the epoch). A receive returns what is there
    /// now, whatever its wait time: waiting is the caller's, see [`Broker::long_poll`].
    pub fn call(
        &mut self,
        now_ms: i64,
        caller: &Caller,
        request: Request,
    ) -> Result<Response, SqsError> {
        match request {
            Request::SendMessage { queue, draft } => self.send(now_ms, caller, &queue, *draft),
            Request::SendMessageBatch { queue, entries } => {
                self.send_batch(now_ms, caller, &queue, entries)
            }
            Request::ReceiveMessage(receive) => self.receive(now_ms, &receive),
            Request::DeleteMessage { queue, receipt } => {
                self.delete(now_ms, &queue, receipt.as_deref())
            }
            Request::DeleteMessageBatch { queue, entries } => {
                self.delete_batch(now_ms, &queue, entries)
            }
            Request::ChangeMessageVisibility { queue, change } => {
                self.change_visibility(now_ms, &queue, &change)
            }
            Request::ChangeMessageVisibilityBatch { queue, entries } => {
                self.change_visibility_batch(now_ms, &queue, entries)
            }
            Request::StartMessageMoveTask { source, destination, rate } => {
                self.start_move(now_ms, source, destination, rate)
            }
            Request::CancelMessageMoveTask { handle } => self.cancel_move(now_ms, handle),
            Request::ListMessageMoveTasks { source, max } => self.list_moves(now_ms, source, max),
            request => self.call_on_queues(now_ms, caller, request),
        }
    }

    /// Where and how long a receive may wait; `None` when it does not wait.
    pub fn long_poll(&self, receive: &Receive) -> Option<LongPoll> {
        let queue = self.names.get(receive.queue.as_ref()?)?;
        let settings = &self.queues.get(queue)?.settings;
        let wait_ms = receive.wait_seconds.unwrap_or(settings.wait) * 1_000;
        (wait_ms > 0).then_some(LongPoll { queue: *queue, wait_ms })
    }

    /// Messages that a receive on that queue could get at that time: at least one when it could get
    /// any (on FIFO queues available groups are counted), zero when it would come back empty.
    pub fn ready(&mut self, now_ms: i64, queue: QueueId) -> usize {
        let in_flight_max = self.config.in_flight_max;
        self.queues.get_mut(&queue).map_or(0, |queue| {
            queue.advance(now_ms);
            queue.ready().min(in_flight_max.saturating_sub(queue.leased()))
        })
    }

    /// When a delay or a lease on that queue ends next, so that a receive may get more than now.
    pub fn next_wake(&self, queue: QueueId) -> Option<i64> {
        self.queues.get(&queue)?.next_visible_at()
    }

    /// Does what time alone starts: move tasks go on.
    pub fn advance(&mut self, now_ms: i64) {
        self.step_moves(now_ms);
    }

    /// When [`Broker::advance`] has something to do next.
    pub fn next_due(&self) -> Option<i64> {
        self.next_move_step()
    }

    /// The queues on which messages may have become visible since the last time this was asked.
    pub fn take_touched(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.touched)
    }

    /// Whether that queue still exists.
    pub fn has_queue(&self, queue: QueueId) -> bool {
        self.queues.contains_key(&queue)
    }

    /// The latest time that the state says has passed: a clock that goes on from here does not go back.
    pub fn latest_ms(&self) -> Option<i64> {
        self.queues.values().map(Queue::latest_at).max()
    }

    /// From now on, every change is also written into a journal for [`Broker::take_journal`].
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// The changes since the last time, encoded; empty when there were none.
    pub fn take_journal(&mut self) -> Vec<u8> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Applies changes that [`Broker::take_journal`] or [`Broker::snapshot`] gave.
    pub fn replay(&mut self, changes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(changes);
        while let Some(effect) = reader.next_effect()? {
            self.apply(effect);
        }
        self.touched.clear();
        Ok(())
    }

    /// The whole state as changes to an empty broker, in pieces of some hundred kilobytes.
    pub fn snapshot(
        &self,
        mut piece: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        const PIECE_BYTES: usize = 256 * 1024;
        let mut buffer = Vec::new();
        for effect in self.effects() {
            encoding::encode(&effect, &mut buffer);
            if buffer.len() >= PIECE_BYTES {
                piece(&buffer)?;
                buffer.clear();
            }
        }
        if buffer.is_empty() { Ok(()) } else { piece(&buffer) }
    }

    /// The state as effects, lazily: messages are shared, not copied.
    fn effects(&self) -> impl Iterator<Item = Effect> + '_ {
        let counters = Effect::Counters { queue: self.last_queue, seq: self.last_seq };
        let queues =
            self.names.values().filter_map(|id| self.queues.get(id)).flat_map(queue_effects);
        let tasks = self.tasks_by_source.values().flatten();
        let tasks =
            tasks.filter_map(|id| Some(Effect::MoveTask(Box::new(self.tasks.get(id)?.clone()))));
        std::iter::once(counters).chain(queues).chain(tasks)
    }

    /// Writes an effect to the journal and lets it happen.
    fn commit(&mut self, effect: Effect) {
        if let Some(journal) = &mut self.journal {
            encoding::encode(&effect, journal);
        }
        self.apply(effect);
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Stored { queue, stored } => {
                self.last_seq = self.last_seq.max(stored.seq);
                self.touch(queue);
                self.on(queue, |queue| queue.store(*stored));
            }
            Effect::Leased { queue, seq, at, until, nonce } => {
                if until <= at {
                    self.touch(queue);
                }
                self.on(queue, |queue| queue.lease(seq, at, until, nonce));
            }
            Effect::VisibilityChanged { queue, seq, until } => {
                self.touch(queue);
                self.on(queue, |queue| queue.set_visibility(seq, until));
            }
            Effect::Deleted { queue, seq } => {
                // A deleted head may free its group.
                self.touch(queue);
                self.on(queue, |queue| {
                    queue.remove(seq);
                });
            }
            Effect::Deduplicated { queue, key, id, seq, at } => {
                self.on(queue, |queue| queue.dedup.insert(key, dedup::Original { id, seq, at }));
            }
            Effect::Counters { queue, seq } => {
                self.last_queue = self.last_queue.max(queue);
                self.last_seq = self.last_seq.max(seq);
            }
            Effect::MoveTask(task) => self.apply_move_task(*task),
            effect => self.apply_to_queues(effect),
        }
    }

    fn on(&mut self, queue: QueueId, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            change(queue);
        }
    }

    fn touch(&mut self, queue: QueueId) {
        if !self.touched.contains(&queue) {
            self.touched.push(queue);
        }
    }

    /// The queue a request names, with time passed up to now.
    fn queue_at(&mut self, now_ms: i64, queue: &QueueRef) -> Result<&mut Queue, SqsError> {
        let id = self.queue_id(queue)?;
        let queue = self.queues.get_mut(&id).ok_or_else(SqsError::no_such_queue)?;
        queue.advance(now_ms);
        Ok(queue)
    }

    fn queue_id(&self, queue: &QueueRef) -> Result<QueueId, SqsError> {
        let arn = queue.as_ref().ok_or_else(SqsError::no_such_queue)?;
        self.names.get(arn).copied().ok_or_else(SqsError::no_such_queue)
    }

    fn next_seq(&self) -> u64 {
        self.last_seq + 1
    }
}

fn queue_effects(queue: &Queue) -> impl Iterator<Item = Effect> + '_ {
    let id = queue.id;
    let texts = queue.settings.texts().iter();
    let mut attributes: BTreeMap<String, String> =
        texts.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let read_scope = queue.settings.text("DeduplicationScope").map(str::to_owned);
    if let (true, Some(_)) = (queue.settings.fifo, &read_scope) {
        let fixed = Settings::scope_name(queue.settings.deduplication_per_group);
        attributes.insert("DeduplicationScope".to_owned(), fixed.to_owned());
    }
    let tags = queue.tags.clone();
    let created = Effect::QueueCreated {
        queue: id,
        arn: queue.arn.clone(),
        attributes,
        tags,
        at: queue.created_at,
    };
    let purged = queue.purged_at.map(|at| Effect::Purged { queue: id, at });
    let modified = Effect::AttributesSet {
        queue: id,
        attributes: read_scope
            .map(|scope| ("DeduplicationScope".to_owned(), scope))
            .into_iter()
            .collect(),
        at: queue.modified_at,
    };
    let dedup = queue.dedup.iter().map(move |(key, original)| Effect::Deduplicated {
        queue: id,
        key: key.clone(),
        id: original.id,
        seq: original.seq,
        at: original.at,
    });
    let stored =
        queue.stored().map(move |stored| Effect::Stored { queue: id, stored: Box::new(stored) });
    [Some(created), Some(modified), purged].into_iter().flatten().chain(dedup).chain(stored)
}
