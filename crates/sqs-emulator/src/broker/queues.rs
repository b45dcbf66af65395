//! Queues themselves: create, find, list, delete, purge, attributes and tags.

use std::collections::BTreeMap;

use super::Broker;
use crate::attributes::redrive::RedrivePolicy;
use crate::attributes::{self, Settings};
use crate::effects::Effect;
use crate::errors::{ErrorKind, SqsError};
use crate::limits::{QUEUE_NAME_CHARS_MAX, TAGS_MAX};
use crate::model::{Caller, QueueArn, QueueId};
use crate::operations::{QueueRef, Request, Response};
use crate::queue::Queue;

type Texts = BTreeMap<String, String>;

impl Broker {
    /// The calls about queues rather than messages.
    pub(super) fn call_on_queues(
        &mut self,
        now: i64,
        caller: &Caller,
        request: Request,
    ) -> Result<Response, SqsError> {
        match request {
            Request::CreateQueue { name, attributes, tags } => {
                self.create(now, caller, name, &attributes, tags)
            }
            Request::DeleteQueue { queue } => {
                let queue = self.queue_id(&queue)?;
                self.commit(Effect::QueueDeleted { queue, at: now });
                Ok(Response::Done)
            }
            Request::GetQueueUrl { name, owner } => self.find(caller, name, owner),
            Request::ListQueues { prefix, next, max } => self.list(caller, prefix, next, max),
            Request::ListDeadLetterSourceQueues { queue, next, max } => {
                self.list_sources(&queue, next, max)
            }
            Request::PurgeQueue { queue } => self.purge(now, &queue),
            Request::GetQueueAttributes { queue, names } => self.attributes(now, &queue, &names),
            Request::SetQueueAttributes { queue, attributes } => {
                self.set_attributes(now, &queue, &attributes)
            }
            Request::ListQueueTags { queue } => {
                Ok(Response::Tags(self.queue_at(now, &queue)?.tags.clone()))
            }
            Request::TagQueue { queue, tags } => self.tag(now, &queue, tags),
            Request::UntagQueue { queue, keys } => {
                let queue = self.queue_at(now, &queue)?;
                let (queue, mut tags) = (queue.id, queue.tags.clone());
                if keys.is_empty() {
                    return Err(SqsError::invalid(
                        "Tag keys must be between 1 and 128 characters in length.",
                    ));
                }
                tags.retain(|key, _| !keys.contains(key));
                self.commit(Effect::TagsSet { queue, tags });
                Ok(Response::Done)
            }
            Request::AddPermission { queue, label, accounts, actions } => {
                self.add_permission(now, &queue, label, &accounts, &actions)
            }
            Request::RemovePermission { queue, label } => {
                self.remove_permission(now, &queue, label)
            }
            _ => Err(SqsError::new(ErrorKind::UnknownOperation, "")),
        }
    }

    fn create(
        &mut self,
        now: i64,
        caller: &Caller,
        name: Option<String>,
        wanted: &Texts,
        tags: Texts,
    ) -> Result<Response, SqsError> {
        let name = name.ok_or_else(no_name)?;
        let fifo = wanted.get("FifoQueue").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        check_name(&name, fifo)?;
        let canonical = attributes::canonical(wanted, fifo)?;
        check_tags(&name, &tags)?;
        let arn = caller.queue(&name);
        if let Some(queue) = self.names.get(&arn).and_then(|id| self.queues.get(id)) {
            let differs = canonical.iter().find(|(name, value)| {
                queue.settings.text(name).unwrap_or_default() != value.as_str()
            });
            return match differs {
                None => Ok(Response::Queue(arn)),
                Some((name, _)) => Err(SqsError::new(
                    ErrorKind::QueueNameExists,
                    format!(
                        "A queue already exists with the same name and a different value for \
                         attribute {name}"
                    ),
                )),
            };
        }
        attributes::check_throughput(&canonical, None)?;
        let settings = Settings::new(&canonical);
        self.check_redrive(&arn, fifo, settings.redrive.as_ref())?;
        let interval = self.config.recreate_interval_ms;
        self.deleted.retain(|_, at| now - *at < interval);
        if self.deleted.contains_key(&arn) {
            return Err(SqsError::new(
                ErrorKind::QueueDeletedRecently,
                "You must wait 60 seconds after deleting a queue before you can create another \
                 with the same name.",
            ));
        }
        let queue = QueueId(self.last_queue + 1);
        self.commit(Effect::QueueCreated {
            queue,
            arn: arn.clone(),
            attributes: canonical,
            tags,
            at: now,
        });
        Ok(Response::Queue(arn))
    }

    fn find(
        &self,
        caller: &Caller,
        name: Option<String>,
        owner: Option<String>,
    ) -> Result<Response, SqsError> {
        let name = name.ok_or_else(no_name)?;
        let account = owner.unwrap_or_else(|| caller.account.to_string());
        let arn = QueueArn::new(&caller.region, &account, &name);
        if self.names.contains_key(&arn) {
            Ok(Response::Queue(arn))
        } else {
            Err(SqsError::no_such_queue())
        }
    }

    fn purge(&mut self, now: i64, queue: &QueueRef) -> Result<Response, SqsError> {
        let interval = self.config.purge_interval_ms;
        let queue = self.queue_at(now, queue)?;
        if queue.purged_at.is_some_and(|at| now - at < interval) {
            return Err(SqsError::new(
                ErrorKind::PurgeQueueInProgress,
                format!(
                    "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                    queue.arn.name()
                ),
            ));
        }
        let queue = queue.id;
        self.commit(Effect::Purged { queue, at: now });
        Ok(Response::Done)
    }

    fn attributes(
        &mut self,
        now: i64,
        queue: &QueueRef,
        names: &[String],
    ) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        if let Some(name) = names.iter().find(|name| !attributes::is_known(name)) {
            return Err(SqsError::unknown_attribute(name));
        }
        let mut values = describe(queue);
        if !names.iter().any(|name| name == "All") {
            values.retain(|known, _| names.iter().any(|name| name == known));
        }
        Ok(Response::Attributes(values))
    }

    fn set_attributes(
        &mut self,
        now: i64,
        queue: &QueueRef,
        wanted: &Texts,
    ) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        let (id, arn, fifo) = (queue.id, queue.arn.clone(), queue.settings.fifo);
        let canonical = attributes::canonical(wanted, fifo)?;
        attributes::check_throughput(&canonical, Some(&queue.settings))?;
        let redrive = canonical.get("RedrivePolicy").filter(|text| !text.is_empty());
        let redrive = redrive.map(|text| RedrivePolicy::parse(text)).transpose()?;
        self.check_redrive(&arn, fifo, redrive.as_ref())?;
        self.commit(Effect::AttributesSet { queue: id, attributes: canonical, at: now });
        Ok(Response::Done)
    }

    fn tag(&mut self, now: i64, queue: &QueueRef, tags: Texts) -> Result<Response, SqsError> {
        let queue = self.queue_at(now, queue)?;
        if tags.is_empty() {
            return Err(SqsError::missing("Tags"));
        }
        let mut all = queue.tags.clone();
        all.extend(tags);
        check_tags(queue.arn.name(), &all)?;
        let queue = queue.id;
        self.commit(Effect::TagsSet { queue, tags: all });
        Ok(Response::Done)
    }

    /// A dead-letter queue has to exist, be of the same kind, account and region, and allow it.
    fn check_redrive(
        &self,
        source: &QueueArn,
        fifo: bool,
        policy: Option<&RedrivePolicy>,
    ) -> Result<(), SqsError> {
        let Some(policy) = policy else { return Ok(()) };
        let wrong = |reason: &str| Err(SqsError::value(policy, "RedrivePolicy", reason));
        let target = self.names.get(&policy.target).and_then(|id| self.queues.get(id));
        let (target_fifo, allowed) = match target {
            Some(target) => (target.settings.fifo, target.settings.allow.allows(source)),
            None if policy.target == *source => (fifo, true),
            None => return wrong("Dead letter target does not exist."),
        };
        if policy.target.region() != source.region() || policy.target.account() != source.account()
        {
            return wrong(
                "Dead-letter queue must be in the same account and region as the source.",
            );
        }
        if target_fifo != fifo {
            return wrong("Dead-letter queue must be same type of queue as the source.");
        }
        if allowed {
            Ok(())
        } else {
            wrong("Queue does not have permission to redrive to the dead letter queue.")
        }
    }

    /// The effects about queues rather than messages.
    pub(super) fn apply_to_queues(&mut self, effect: Effect) {
        match effect {
            Effect::QueueCreated { queue, arn, attributes, tags, at } => {
                self.last_queue = self.last_queue.max(queue.0);
                let rules = self.config.rules();
                let settings = Settings::new(&attributes);
                let mut made = Queue::new(queue, arn.clone(), settings, rules, at);
                made.tags = tags;
                self.link(&arn, made.settings.redrive.as_ref());
                self.names.insert(arn, queue);
                self.queues.insert(queue, made);
            }
            Effect::QueueDeleted { queue, at } => {
                self.touch(queue);
                if let Some(gone) = self.queues.remove(&queue) {
                    self.unlink(&gone.arn, gone.settings.redrive.as_ref());
                    self.names.remove(&gone.arn);
                    for task in self.tasks_by_source.remove(&gone.arn).unwrap_or_default() {
                        self.tasks.remove(&task);
                    }
                    if self.config.recreate_interval_ms > 0 {
                        self.deleted.insert(gone.arn, at);
                    }
                }
            }
            Effect::AttributesSet { queue, attributes, at } => {
                self.apply_attributes(queue, &attributes, at);
            }
            Effect::TagsSet { queue, tags } => self.on(queue, |queue| queue.tags = tags),
            Effect::Purged { queue, at } => self.on(queue, |queue| queue.purge(at)),
            _ => {}
        }
    }

    fn apply_attributes(&mut self, id: QueueId, attributes: &Texts, at: i64) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let (arn, before) = (queue.arn.clone(), queue.settings.redrive.clone());
        let delay = queue.settings.delay;
        queue.settings.apply(attributes);
        queue.modified_at = at;
        let after = queue.settings.redrive.clone();
        if queue.settings.fifo && queue.settings.delay != delay {
            queue.redelay(queue.settings.delay * 1_000);
        }
        self.touch(id);
        self.unlink(&arn, before.as_ref());
        self.link(&arn, after.as_ref());
    }

    fn link(&mut self, source: &QueueArn, policy: Option<&RedrivePolicy>) {
        if let Some(policy) = policy {
            self.sources.entry(policy.target.clone()).or_default().insert(source.clone());
        }
    }

    fn unlink(&mut self, source: &QueueArn, policy: Option<&RedrivePolicy>) {
        let Some(policy) = policy else { return };
        if let Some(sources) = self.sources.get_mut(&policy.target) {
            sources.remove(source);
            if sources.is_empty() {
                self.sources.remove(&policy.target);
            }
        }
    }
}

fn describe(queue: &Queue) -> BTreeMap<&'static str, String> {
    let (visible, leased, delayed) = queue.depth();
    let mut values: BTreeMap<&'static str, String> = queue.settings.texts().clone();
    values.insert("QueueArn", queue.arn.to_string());
    values.insert("ApproximateNumberOfMessages", visible.to_string());
    values.insert("ApproximateNumberOfMessagesNotVisible", leased.to_string());
    values.insert("ApproximateNumberOfMessagesDelayed", delayed.to_string());
    values.insert("CreatedTimestamp", (queue.created_at / 1_000).to_string());
    values.insert("LastModifiedTimestamp", (queue.modified_at / 1_000).to_string());
    values
}

fn no_name() -> SqsError {
    SqsError::invalid(
        "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
    )
}

fn check_name(name: &str, fifo: bool) -> Result<(), SqsError> {
    let stem = if fifo { name.strip_suffix(".fifo").unwrap_or_default() } else { name };
    let good = (1..=QUEUE_NAME_CHARS_MAX).contains(&name.len())
        && !stem.is_empty()
        && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if good {
        return Ok(());
    }
    Err(SqsError::invalid(if fifo {
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or \
         underscores, must end with .fifo suffix and be 1 to 80 in length"
    } else {
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    }))
}

fn check_tags(queue: &str, tags: &Texts) -> Result<(), SqsError> {
    if tags.len() > TAGS_MAX {
        return Err(SqsError::invalid(format!("Too many tags added for queue {queue}.")));
    }
    Ok(())
}
