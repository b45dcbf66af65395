//! Parked lines in memory, for tests and for trying a FIFO worker without a database: it forgets at
//! exit, so that what it held is lost. Bounded as every store is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{
    Admission, CLAIM, Decision, Due, EntryState, LineEntry, Marker, ParkDesk, ParkFigures,
    ParkLimits, ParkReason, ParkStore, ParkStoreError, ParkedGroup, ParkedMessage, Place,
};

/// A store that forgets.
#[derive(Debug, Default)]
pub struct MemoryParking {
    lines: Mutex<Lines>,
    limits: ParkLimits,
}

#[derive(Debug, Default)]
struct Lines {
    /// By queue and group.
    of: BTreeMap<(String, String), Line>,
    ids: i64,
}

#[derive(Debug)]
struct Line {
    reason: ParkReason,
    parked_at: DateTime<Utc>,
    releasing: bool,
    /// In order.
    entries: Vec<Entry>,
    claimed_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    marker: Marker,
    state: EntryState,
    lettered: bool,
    skipped: Option<String>,
    message: ParkedMessage,
}

impl MemoryParking {
    /// A store with other bounds.
    pub fn with_limits(limits: ParkLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    fn locked(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, lines: &Lines, queue: &str, group: &str) -> bool {
        let held =
            |line: &Line| line.entries.iter().filter(|e| e.state != EntryState::Gone).count();
        let of_queue: usize =
            lines.of.iter().filter(|((other, _), _)| other == queue).map(|(_, l)| held(l)).sum();
        let of_group = lines.of.get(&key(queue, group)).map_or(0, held);
        of_queue as u64 >= self.limits.queue_max || of_group as u64 >= self.limits.group_max
    }
}

fn key(queue: &str, group: &str) -> (String, String) {
    (queue.to_owned(), group.to_owned())
}

impl Line {
    fn find(&mut self, message: &ParkedMessage, marker: Option<Marker>) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| match marker {
            Some(marker) => entry.marker.id == marker.id,
            None => entry.message.message_id == message.message_id,
        })
    }

    /// The first that is still to be handled.
    fn first(&mut self) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.state.waits())
    }

    fn send_back(&mut self) {
        for entry in &mut self.entries {
            if entry.state.waits() {
                entry.state = EntryState::Waiting;
            }
        }
        self.claimed_until = None;
    }

    /// Nothing is left to do in it.
    fn may_open(&self) -> bool {
        self.releasing && self.entries.iter().all(|entry| entry.state == EntryState::Gone)
    }

    fn append(&mut self, id: i64, message: ParkedMessage, state: EntryState) {
        let marker = Marker { id, release: 0 };
        self.entries.push(Entry { marker, state, lettered: false, skipped: None, message });
    }
}

impl Lines {
    fn open_if_done(&mut self, queue: &str, group: &str) -> bool {
        let key = key(queue, group);
        let open = self.of.get(&key).is_some_and(Line::may_open);
        if open {
            self.of.remove(&key);
        }
        open
    }

    fn next_id(&mut self) -> i64 {
        self.ids += 1;
        self.ids
    }
}

/// What becomes of a message that the line knows.
fn known(line: &mut Line, marker: Option<Marker>, message: &ParkedMessage) -> Option<Admission> {
    let (releasing, reason) = (line.releasing, line.reason.clone());
    let first = line.first().map(|entry| entry.marker.id);
    let entry = line.find(message, marker)?;
    let release = marker.map_or(0, |marker| marker.release);
    if release != entry.marker.release {
        return Some(Admission::InLine);
    }
    Some(match entry.state {
        EntryState::Rejected if !entry.lettered => Admission::Unlettered(reason),
        EntryState::Sending | EntryState::Sent if releasing && first == Some(entry.marker.id) => {
            let ParkedMessage { body, attributes, .. } = entry.message.clone();
            Admission::Turn { body, attributes }
        }
        EntryState::Sending | EntryState::Sent => {
            entry.state = EntryState::Waiting;
            Admission::InLine
        }
        _ => Admission::InLine,
    })
}

#[async_trait]
impl ParkStore for MemoryParking {
    async fn parked(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, ParkStoreError> {
        let lines = self.locked();
        Ok(groups.iter().map(|group| lines.of.contains_key(&key(queue, group))).collect())
    }

    async fn admit(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, ParkStoreError> {
        let mut lines = self.locked();
        let key = key(queue, &message.group);
        let Some(line) = lines.of.get_mut(&key) else {
            return Ok(if marker.is_some() { Admission::Done } else { Admission::Open });
        };
        if let Some(admission) = known(line, marker, message) {
            return Ok(admission);
        }
        if marker.is_some() {
            return Ok(Admission::Done);
        }
        if !line.releasing && self.full(&lines, queue, &message.group) {
            return Ok(Admission::Full);
        }
        let id = lines.next_id();
        if let Some(line) = lines.of.get_mut(&key) {
            line.append(id, message.clone(), EntryState::Waiting);
        }
        Ok(Admission::InLine)
    }

    async fn park(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        place: Place,
        reason: &ParkReason,
    ) -> Result<bool, ParkStoreError> {
        let mut lines = self.locked();
        let key = key(queue, &message.group);
        let is_known =
            lines.of.get_mut(&key).is_some_and(|line| line.find(message, marker).is_some());
        if !is_known && self.full(&lines, queue, &message.group) {
            return Ok(false);
        }
        let id = lines.next_id();
        let line = lines.of.entry(key).or_insert_with(|| Line {
            reason: reason.clone(),
            parked_at: message.first_seen,
            releasing: false,
            entries: Vec::new(),
            claimed_until: None,
        });
        (line.releasing, line.reason) = (false, reason.clone());
        line.send_back();
        let state = match place {
            Place::Rejected => EntryState::Rejected,
            Place::First => EntryState::Waiting,
        };
        match line.find(message, marker) {
            Some(entry) => (entry.state, entry.lettered) = (state, false),
            None => line.append(id, message.clone(), state),
        }
        Ok(true)
    }

    async fn lettered(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<(), ParkStoreError> {
        let mut lines = self.locked();
        if let Some(line) = lines.of.get_mut(&key(queue, &message.group)) {
            line.claimed_until = None;
            let releasing = line.releasing;
            if let Some(entry) = line.find(message, marker) {
                entry.lettered = true;
                let left = entry.state == EntryState::Rejected && releasing;
                if entry.state == EntryState::Skip || left {
                    entry.state = EntryState::Gone;
                }
            }
        }
        lines.open_if_done(queue, &message.group);
        Ok(())
    }

    async fn handled(
        &self,
        queue: &str,
        group: &str,
        marker: Marker,
    ) -> Result<bool, ParkStoreError> {
        let mut lines = self.locked();
        if let Some(line) = lines.of.get_mut(&key(queue, group)) {
            line.entries.retain(|entry| entry.marker.id != marker.id);
            line.claimed_until = None;
        }
        Ok(lines.open_if_done(queue, group))
    }

    async fn due(&self, queue: &str, max: usize) -> Result<Vec<Due>, ParkStoreError> {
        let mut lines = self.locked();
        let now = Instant::now();
        let mut due = Vec::new();
        for ((of_queue, _), line) in &mut lines.of {
            let claimed = line.claimed_until.is_some_and(|until| until > now);
            if of_queue != queue || claimed || due.len() == max {
                continue;
            }
            let releasing = line.releasing;
            let next = match line.entries.iter().position(|e| e.state == EntryState::Skip) {
                Some(at) => Some(at),
                None => line.entries.iter().position(|e| releasing && e.state.waits()),
            };
            let Some(entry) = next.map(|at| &mut line.entries[at]) else { continue };
            if entry.state == EntryState::Sent {
                continue;
            }
            if entry.state == EntryState::Waiting {
                entry.state = EntryState::Sending;
                entry.marker.release += 1;
            }
            due.push(Due {
                marker: entry.marker,
                message: entry.message.clone(),
                skipped: entry.skipped.clone().filter(|_| entry.state == EntryState::Skip),
            });
            line.claimed_until = Some(now + CLAIM);
        }
        Ok(due)
    }

    async fn sent(&self, queue: &str, group: &str, marker: Marker) -> Result<(), ParkStoreError> {
        let mut lines = self.locked();
        let Some(line) = lines.of.get_mut(&key(queue, group)) else { return Ok(()) };
        let entry = line.entries.iter_mut().find(|entry| entry.marker == marker);
        if let Some(entry) = entry.filter(|entry| entry.state == EntryState::Sending) {
            entry.state = EntryState::Sent;
            line.claimed_until = None;
        }
        Ok(())
    }

    async fn figures(&self, queue: &str) -> Result<ParkFigures, ParkStoreError> {
        let lines = self.locked();
        let of_queue = || lines.of.iter().filter(|((other, _), _)| other == queue);
        let held =
            |line: &Line| line.entries.iter().filter(|e| e.state != EntryState::Gone).count();
        Ok(ParkFigures {
            groups: of_queue().count() as u64,
            messages: of_queue().map(|(_, line)| held(line) as u64).sum(),
        })
    }
}

#[async_trait]
impl ParkDesk for MemoryParking {
    async fn groups(&self, queue: &str, max: usize) -> Result<Vec<ParkedGroup>, ParkStoreError> {
        let lines = self.locked();
        let count = |line: &Line, wanted: fn(EntryState) -> bool| {
            line.entries.iter().filter(|entry| wanted(entry.state)).count() as u64
        };
        let mut groups: Vec<ParkedGroup> = lines
            .of
            .iter()
            .filter(|((other, _), _)| other == queue)
            .map(|((queue, group), line)| ParkedGroup {
                queue: queue.clone(),
                group: group.clone(),
                reason: line.reason.clone(),
                parked_at: line.parked_at,
                releasing: line.releasing,
                waiting: count(line, EntryState::waits),
                rejected: count(line, |state| state == EntryState::Rejected),
            })
            .collect();
        groups.sort_by_key(|group| group.parked_at);
        groups.truncate(max);
        Ok(groups)
    }

    async fn line(
        &self,
        queue: &str,
        group: &str,
        max: usize,
    ) -> Result<Vec<LineEntry>, ParkStoreError> {
        let lines = self.locked();
        let entries = lines.of.get(&key(queue, group)).map_or(&[][..], |line| &line.entries);
        let shown = |entry: &Entry| LineEntry {
            id: entry.marker.id,
            state: entry.state,
            message: entry.message.clone(),
        };
        Ok(entries.iter().take(max).map(shown).collect())
    }

    async fn decide(
        &self,
        queue: &str,
        group: &str,
        decision: Decision,
    ) -> Result<bool, ParkStoreError> {
        let mut lines = self.locked();
        let Some(line) = lines.of.get_mut(&key(queue, group)) else { return Ok(false) };
        line.releasing = true;
        line.send_back();
        for entry in &mut line.entries {
            match (entry.state, decision) {
                (EntryState::Rejected, Decision::Replay) => entry.state = EntryState::Waiting,
                // One without a letter is left when it has it.
                (EntryState::Rejected, Decision::Release) if entry.lettered => {
                    entry.state = EntryState::Gone;
                }
                _ => {}
            }
        }
        lines.open_if_done(queue, group);
        Ok(true)
    }

    async fn skip(&self, queue: &str, id: i64, reason: &str) -> Result<bool, ParkStoreError> {
        let mut lines = self.locked();
        let of_queue = lines.of.iter_mut().filter(|((other, _), _)| other == queue);
        let mut entries = of_queue.flat_map(|(_, line)| &mut line.entries);
        let entry = entries.find(|entry| entry.marker.id == id);
        let Some(entry) = entry else { return Ok(false) };
        match entry.state {
            EntryState::Rejected if entry.lettered => entry.state = EntryState::Gone,
            EntryState::Waiting | EntryState::Rejected => entry.state = EntryState::Skip,
            _ => return Ok(false),
        }
        entry.skipped = Some(reason.to_owned());
        Ok(true)
    }
}
