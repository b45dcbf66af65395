//! Message move tasks: a dead-letter queue's messages go back where they came from, or elsewhere, at
//! a chosen rate. Work is done in small steps when time passes, so that no call waits behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Broker;
use crate::effects::{Effect, MoveTask};
use crate::errors::{ErrorKind, SqsError};
use crate::limits::{
    MOVE_RATE, MOVE_TASK_RESULTS, MOVE_TASKS_KEPT, MOVE_TASKS_RUNNING_MAX, MOVES_PER_STEP_MAX,
};
use crate::model::{Message, QueueArn, QueueId};
use crate::operations::{MoveStatus, MoveTaskView, Response};

/// Why a task fails when a message does not say where it came from.
pub(crate) const NO_SOURCE: &str = "CouldNotDetermineMessageSource";
/// Why a task fails when a queue it needs is gone.
pub(crate) const NO_QUEUE: &str = "AWS.SimpleQueueService.NonExistentQueue";

impl Broker {
    pub(super) fn start_move(
        &mut self,
        now: i64,
        source: Option<String>,
        destination: Option<String>,
        rate: Option<i64>,
    ) -> Result<Response, SqsError> {
        let source = self.move_source(source)?;
        if let Some(rate) = rate.filter(|rate| !MOVE_RATE.contains(rate)) {
            let reason = "Value must be between 1 and 500, if provided.";
            return Err(SqsError::value(rate, "MaxNumberOfMessagesPerSecond", reason));
        }
        if !self.sources.contains_key(&source) {
            return Err(SqsError::invalid(
                "Source queue must be configured as a Dead Letter Queue.",
            ));
        }
        let destination = match destination {
            None => None,
            Some(text) => {
                let arn = QueueArn::parse(&text).filter(|arn| self.names.contains_key(arn));
                Some(arn.ok_or_else(|| SqsError::not_found("DestinationArn"))?)
            }
        };
        if destination.as_ref().is_some_and(|to| self.is_fifo(to) != self.is_fifo(&source)) {
            return Err(SqsError::invalid(
                "Destination queue must be same type of queue as the source.",
            ));
        }
        if self.running(&source).is_some() {
            return Err(SqsError::invalid(
                "There is already a task running. Only one active task is allowed for a source \
                 queue arn at a given time.",
            ));
        }
        let near = |task: &&MoveTask| {
            task.source.account() == source.account() && task.source.region() == source.region()
        };
        if self.running_tasks().filter(near).count() >= MOVE_TASKS_RUNNING_MAX {
            return Err(SqsError::new(
                ErrorKind::OverLimit,
                format!(
                    "The maximum number of active move tasks is reached: {MOVE_TASKS_RUNNING_MAX}."
                ),
            ));
        }
        let (visible, ..) = self.queue_at(now, &Some(source.clone()))?.depth();
        let task = MoveTask {
            id: self.random.uuid(),
            source,
            destination,
            rate,
            moved: 0,
            to_move: u64::try_from(visible).unwrap_or(u64::MAX),
            status: MoveStatus::Running,
            failure: None,
            started_at: now,
        };
        let handle = handle(&task);
        self.commit(Effect::MoveTask(Box::new(task)));
        Ok(Response::MoveStarted(handle))
    }

    pub(super) fn cancel_move(
        &mut self,
        now: i64,
        handle: Option<String>,
    ) -> Result<Response, SqsError> {
        let handle = handle.ok_or_else(|| SqsError::missing("TaskHandle"))?;
        let (id, source) = read_handle(&handle)
            .ok_or_else(|| SqsError::invalid("Value for parameter TaskHandle is invalid."))?;
        let exists = QueueArn::parse(&source).is_some_and(|arn| self.names.contains_key(&arn));
        if !exists {
            return Err(SqsError::not_found("SourceArn"));
        }
        self.step_moves(now);
        let task = id.and_then(|id| self.tasks.get(&id));
        let task = task.filter(|task| task.status == MoveStatus::Running).cloned();
        let mut task =
            task.ok_or_else(|| SqsError::new(ErrorKind::ResourceNotFound, "Task does not exist."))?;
        task.status = MoveStatus::Cancelled;
        let moved = task.moved;
        self.commit(Effect::MoveTask(Box::new(task)));
        Ok(Response::MoveCancelled(moved))
    }

    pub(super) fn list_moves(
        &mut self,
        now: i64,
        source: Option<String>,
        max: Option<i64>,
    ) -> Result<Response, SqsError> {
        let source = self.move_source(source)?;
        if let Some(max) = max.filter(|max| !MOVE_TASK_RESULTS.contains(max)) {
            let reason = "Value must be between 1 and 10, if provided.";
            return Err(SqsError::value(max, "MaxResults", reason));
        }
        self.step_moves(now);
        let limit = usize::try_from(max.unwrap_or(1)).unwrap_or(1);
        let ids = self.tasks_by_source.get(&source).into_iter().flatten().rev();
        let tasks = ids.filter_map(|id| self.tasks.get(id)).take(limit).map(view).collect();
        Ok(Response::MoveTasks(tasks))
    }

    /// Moves what each running task may have moved by now, a bounded number at a time.
    pub(super) fn step_moves(&mut self, now: i64) {
        let running: Vec<Uuid> = self.running_tasks().map(|task| task.id).collect();
        for id in running {
            if let Some(task) = self.tasks.get(&id).cloned() {
                self.step_move(now, task);
            }
        }
    }

    /// When a running task may move its next message; tasks without a rate go on at once.
    pub(super) fn next_move_step(&self) -> Option<i64> {
        self.running_tasks().map(next_step).min()
    }

    fn running_tasks(&self) -> impl Iterator<Item = &MoveTask> {
        let latest = self.tasks_by_source.values().filter_map(|ids| self.tasks.get(ids.last()?));
        latest.filter(|task| task.status == MoveStatus::Running)
    }

    fn is_fifo(&self, arn: &QueueArn) -> bool {
        let queue = self.names.get(arn).and_then(|id| self.queues.get(id));
        queue.is_some_and(|queue| queue.settings.fifo)
    }

    fn running(&self, source: &QueueArn) -> Option<&MoveTask> {
        let latest = self.tasks.get(self.tasks_by_source.get(source)?.last()?)?;
        (latest.status == MoveStatus::Running).then_some(latest)
    }

    fn step_move(&mut self, now: i64, mut task: MoveTask) {
        let before = task.moved;
        let allowed = allowed(&task, now).min(MOVES_PER_STEP_MAX as u64);
        let Some(&from) = self.names.get(&task.source) else {
            task.status = MoveStatus::Failed;
            task.failure = Some(NO_QUEUE);
            return self.commit(Effect::MoveTask(Box::new(task)));
        };
        self.on(from, |queue| queue.advance(now));
        for _ in 0..allowed {
            let next = self.queues.get(&from).and_then(|queue| queue.next(None));
            let Some(seq) = next else {
                task.status = MoveStatus::Completed;
                break;
            };
            match self.destination(&task, from, seq) {
                Ok(to) => self.move_one(now, from, seq, to),
                Err(failure) => {
                    task.status = MoveStatus::Failed;
                    task.failure = Some(failure);
                    break;
                }
            }
            task.moved += 1;
        }
        if task.moved != before || task.status != MoveStatus::Running {
            self.commit(Effect::MoveTask(Box::new(task)));
        }
    }

    fn destination(
        &self,
        task: &MoveTask,
        from: QueueId,
        seq: u64,
    ) -> Result<QueueId, &'static str> {
        let source = self.queues.get(&from).and_then(|queue| queue.slot(seq)?.source.as_deref());
        let arn = match &task.destination {
            Some(arn) => arn.clone(),
            None => source.and_then(QueueArn::parse).ok_or(NO_SOURCE)?,
        };
        self.names.get(&arn).copied().ok_or(NO_QUEUE)
    }

    /// A moved message is a new one: new id, new time, no receives.
    fn move_one(&mut self, now: i64, from: QueueId, seq: u64, to: QueueId) {
        let Some(slot) = self.queues.get(&from).and_then(|queue| queue.slot(seq)) else { return };
        let message = Message::clone(&slot.message);
        let id = self.random.uuid();
        self.commit(Effect::Deleted { queue: from, seq });
        self.store_new(now, to, Message { id, ..message }, 0);
    }

    pub(super) fn apply_move_task(&mut self, task: MoveTask) {
        let ids = self.tasks_by_source.entry(task.source.clone()).or_default();
        if !ids.contains(&task.id) {
            ids.push(task.id);
            if ids.len() > MOVE_TASKS_KEPT {
                self.tasks.remove(&ids.remove(0));
            }
        }
        self.tasks.insert(task.id, task);
    }

    fn move_source(&self, source: Option<String>) -> Result<QueueArn, SqsError> {
        let source = source.ok_or_else(|| SqsError::missing("SourceArn"))?;
        let arn = QueueArn::parse(&source).ok_or_else(|| {
            SqsError::invalid(
                "You must use this format to specify the SourceArn: \
                 arn:<partition>:<service>:<region>:<account-id>:<resource-id>",
            )
        })?;
        if self.names.contains_key(&arn) { Ok(arn) } else { Err(SqsError::not_found("SourceArn")) }
    }
}

/// How many messages a task may move now, beyond what it has moved.
fn allowed(task: &MoveTask, now: i64) -> u64 {
    let Some(rate) = task.rate else { return u64::MAX };
    let elapsed = (now - task.started_at).max(0);
    let by_now = u64::try_from(elapsed * rate / 1_000).unwrap_or(0) + 1;
    by_now.saturating_sub(task.moved)
}

fn next_step(task: &MoveTask) -> i64 {
    let moved = i64::try_from(task.moved).unwrap_or(i64::MAX);
    match task.rate {
        None => task.started_at,
        Some(rate) => task.started_at + (moved * 1_000 + rate - 1) / rate,
    }
}

fn handle(task: &MoveTask) -> String {
    let content = json!({ "taskId": task.id, "sourceArn": task.source.as_str() });
    STANDARD.encode(content.to_string())
}

/// The task's id, when it is one, and its source.
fn read_handle(handle: &str) -> Option<(Option<Uuid>, String)> {
    let content: Value = serde_json::from_slice(&STANDARD.decode(handle).ok()?).ok()?;
    let id = content.get("taskId")?.as_str()?.parse().ok();
    Some((id, content.get("sourceArn")?.as_str()?.to_owned()))
}

fn view(task: &MoveTask) -> MoveTaskView {
    MoveTaskView {
        handle: (task.status == MoveStatus::Running).then(|| handle(task)),
        status: task.status,
        source: task.source.clone(),
        destination: task.destination.clone(),
        rate: task.rate,
        moved: task.moved,
        to_move: task.to_move,
        failure: task.failure,
        started_at_ms: task.started_at,
    }
}

/// The failure a log names, as its constant.
pub(crate) fn failure(text: &str) -> Option<&'static str> {
    [NO_SOURCE, NO_QUEUE].into_iter().find(|known| *known == text)
}
