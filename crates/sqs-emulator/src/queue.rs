//! One queue: its messages, which of them are visible, delayed or leased, and when that changes.
//! Both kinds of queue share this; what differs is which visible message comes next (`order`).
//! Every operation is O(log n); nothing here decides whether a call is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::attributes::Settings;
use crate::effects::Stored;
use crate::model::{Message, QueueArn, QueueId};

pub(crate) mod attempts;
pub(crate) mod dedup;
pub(crate) mod fifo;
pub(crate) mod order;
pub(crate) mod receipts;
pub(crate) mod standard;

pub(crate) use dedup::DedupKey;
pub(crate) use order::{Kind, Rules};

use attempts::Attempts;
use dedup::DedupWindow;
use order::Order;

/// A message and what has happened to it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) message: Arc<Message>,
    pub(crate) kind: Kind,
    pub(crate) sent_at: i64,
    pub(crate) visible_at: i64,
    pub(crate) receives: u32,
    pub(crate) first_received_at: Option<i64>,
    pub(crate) leased_at: i64,
    pub(crate) nonce: u64,
    pub(crate) source: Option<Arc<str>>,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) arn: QueueArn,
    pub(crate) settings: Settings,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) created_at: i64,
    pub(crate) modified_at: i64,
    pub(crate) purged_at: Option<i64>,
    pub(crate) dedup: DedupWindow,
    pub(crate) attempts: Attempts,
    /// By number, which is their age in this queue.
    slots: BTreeMap<u64, Slot>,
    /// Delayed and leased messages by the time they become visible.
    hidden: BTreeSet<(i64, u64)>,
    /// All messages by the time their retention counts from.
    ages: BTreeSet<(i64, u64)>,
    order: Order,
    leased: usize,
}

impl Queue {
    pub(crate) fn new(
        id: QueueId,
        arn: QueueArn,
        settings: Settings,
        rules: Rules,
        at: i64,
    ) -> Self {
        let order = Order::new(settings.fifo, rules);
        Self {
            id,
            arn,
            settings,
            tags: BTreeMap::new(),
            created_at: at,
            modified_at: at,
            purged_at: None,
            dedup: DedupWindow::default(),
            attempts: Attempts::default(),
            slots: BTreeMap::new(),
            hidden: BTreeSet::new(),
            ages: BTreeSet::new(),
            order,
            leased: 0,
        }
    }

    pub(crate) fn slot(&self, seq: u64) -> Option<&Slot> {
        self.slots.get(&seq)
    }

    /// Messages that a receive could get, at least one when it could get any. On FIFO queues it
    /// counts groups.
    pub(crate) fn ready(&self) -> usize {
        self.order.ready()
    }

    /// Visible, leased and delayed messages.
    pub(crate) fn depth(&self) -> (usize, usize, usize) {
        let hidden = self.hidden.len();
        (self.slots.len() - hidden, self.leased, hidden - self.leased)
    }

    pub(crate) fn leased(&self) -> usize {
        self.leased
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_visible_at(&self) -> Option<i64> {
        self.hidden.first().map(|(at, _)| *at)
    }

    /// The visible message that comes next; `after` is the one the same receive took before it.
    pub(crate) fn next(&self, after: Option<(u64, &Arc<str>)>) -> Option<u64> {
        self.order.next(after)
    }

    pub(crate) fn store(&mut self, stored: Stored) {
        let slot = Slot {
            message: stored.message,
            kind: stored.kind,
            sent_at: stored.sent_at,
            visible_at: stored.visible_at,
            receives: stored.receives,
            first_received_at: stored.first_received_at,
            leased_at: stored.leased_at,
            nonce: stored.nonce,
            source: stored.source,
        };
        let seq = stored.seq;
        if slot.kind != Kind::Visible {
            self.hidden.insert((slot.visible_at, seq));
        }
        self.leased += usize::from(slot.kind == Kind::Leased);
        self.ages.insert((slot.sent_at, seq));
        self.order.set(seq, slot.message.group.as_ref(), None, Some(slot.kind));
        self.order.sent(slot.message.group.as_ref(), slot.sent_at);
        self.slots.insert(seq, slot);
    }

    /// Leases a message until then. It stays hidden at least until the next [`Queue::advance`], so
    /// that a receive with a lease of zero does not get it twice.
    pub(crate) fn lease(&mut self, seq: u64, at: i64, until: i64, nonce: u64) {
        let Some(slot) = self.slots.get_mut(&seq) else { return };
        slot.receives += 1;
        slot.first_received_at.get_or_insert(at);
        slot.leased_at = at;
        slot.nonce = nonce;
        self.place(seq, Kind::Leased, until);
    }

    /// Moves the end of a message's lease, also of one that has run out.
    pub(crate) fn set_visibility(&mut self, seq: u64, until: i64) {
        self.place(seq, Kind::Leased, until);
    }

    pub(crate) fn remove(&mut self, seq: u64) -> Option<Slot> {
        let slot = self.slots.remove(&seq)?;
        if slot.kind != Kind::Visible {
            self.hidden.remove(&(slot.visible_at, seq));
        }
        self.leased -= usize::from(slot.kind == Kind::Leased);
        self.ages.remove(&(slot.sent_at, seq));
        self.order.set(seq, slot.message.group.as_ref(), Some(slot.kind), None);
        Some(slot)
    }

    /// Lets time pass: ends delays and leases, drops what retention has ended.
    pub(crate) fn advance(&mut self, now: i64) {
        while let Some(&(at, seq)) = self.hidden.first() {
            if at > now {
                break;
            }
            self.place(seq, Kind::Visible, at);
        }
        let horizon = now - self.settings.retention * 1_000;
        while let Some(&(at, seq)) = self.ages.first() {
            if at > horizon {
                break;
            }
            self.remove(seq);
        }
        self.order.advance(now);
    }

    pub(crate) fn purge(&mut self, at: i64) {
        self.slots.clear();
        self.hidden.clear();
        self.ages.clear();
        self.order = self.order.emptied();
        self.leased = 0;
        self.dedup.clear();
        self.attempts.clear();
        self.purged_at = Some(at);
    }

    /// A FIFO queue's new delay also holds for what is already delayed.
    pub(crate) fn redelay(&mut self, delay_ms: i64) {
        let delayed: Vec<(u64, i64)> = self
            .hidden
            .iter()
            .filter_map(|(_, seq)| {
                let slot = self.slots.get(seq).filter(|slot| slot.kind == Kind::Delayed)?;
                Some((*seq, slot.sent_at + delay_ms))
            })
            .collect();
        for (seq, visible_at) in delayed {
            self.place(seq, Kind::Delayed, visible_at);
        }
    }

    /// Every message in order of age, for snapshots.
    pub(crate) fn stored(&self) -> impl Iterator<Item = Stored> + '_ {
        self.slots.iter().map(|(&seq, slot)| Stored {
            seq,
            message: Arc::clone(&slot.message),
            kind: slot.kind,
            sent_at: slot.sent_at,
            visible_at: slot.visible_at,
            receives: slot.receives,
            first_received_at: slot.first_received_at,
            leased_at: slot.leased_at,
            nonce: slot.nonce,
            source: slot.source.clone(),
        })
    }

    /// Messages from that number on.
    pub(crate) fn slots_from(&self, seq: u64) -> impl Iterator<Item = (u64, &Slot)> {
        self.slots.range(seq..).map(|(seq, slot)| (*seq, slot))
    }

    /// The latest time that anything here says has passed.
    pub(crate) fn latest_at(&self) -> i64 {
        let sent = self.ages.last().map_or(i64::MIN, |(at, _)| *at);
        let leased = self.slots.values().map(|slot| slot.leased_at).max().unwrap_or(i64::MIN);
        let original = self.dedup.latest_at().unwrap_or(i64::MIN);
        self.modified_at.max(sent).max(leased).max(original)
    }

    /// When the oldest message was sent.
    pub(crate) fn oldest_at(&self) -> Option<i64> {
        self.ages.first().map(|(at, _)| *at)
    }

    fn place(&mut self, seq: u64, kind: Kind, visible_at: i64) {
        let Some(slot) = self.slots.get_mut(&seq) else { return };
        let from = slot.kind;
        if from != Kind::Visible {
            self.hidden.remove(&(slot.visible_at, seq));
        }
        self.leased -= usize::from(from == Kind::Leased);
        slot.kind = kind;
        slot.visible_at = visible_at;
        if kind != Kind::Visible {
            self.hidden.insert((visible_at, seq));
        }
        self.leased += usize::from(kind == Kind::Leased);
        self.order.set(seq, slot.message.group.as_ref(), Some(from), Some(kind));
    }
}
