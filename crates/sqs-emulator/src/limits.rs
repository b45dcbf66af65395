//! Every limit of SQS that the emulator keeps, in one place. The figures are the quotas of the
//! Amazon SQS Developer Guide (2025-08, when messages grew to 1 MiB) unless a line says otherwise.

use std::ops::RangeInclusive;

/// Entries per batch call.
pub const BATCH_ENTRIES_MAX: usize = 10;
/// Bytes of one message and of one batch: body plus attribute names, types and values.
pub const MESSAGE_BYTES_MAX: usize = 1_048_576;
/// What `MaximumMessageSize` may be set to, bytes.
pub const MESSAGE_BYTES: RangeInclusive<i64> = 1_024..=1_048_576;
/// Message attributes of one message.
pub const MESSAGE_ATTRIBUTES_MAX: usize = 10;
/// Bytes of a message attribute's name, and of its type.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 256;
/// Characters of a batch entry id.
pub const BATCH_ID_CHARS_MAX: usize = 80;
/// Characters of a group, deduplication or attempt id.
pub const FIFO_ID_CHARS_MAX: usize = 128;
/// Characters of a queue name, `.fifo` included.
pub const QUEUE_NAME_CHARS_MAX: usize = 80;
/// Seconds of `DelaySeconds`.
pub const DELAY_SECONDS: RangeInclusive<i64> = 0..=900;
/// Seconds of `MessageRetentionPeriod`.
pub const RETENTION_SECONDS: RangeInclusive<i64> = 60..=1_209_600;
/// Seconds of `VisibilityTimeout`.
pub const VISIBILITY_SECONDS: RangeInclusive<i64> = 0..=43_200;
/// Seconds of `WaitTimeSeconds`.
pub const WAIT_SECONDS: RangeInclusive<i64> = 0..=20;
/// Seconds of `KmsDataKeyReusePeriodSeconds`.
pub const KMS_REUSE_SECONDS: RangeInclusive<i64> = 60..=86_400;
/// `maxReceiveCount` of a redrive policy.
pub const RECEIVE_COUNT: RangeInclusive<i64> = 1..=1_000;
/// `MaxNumberOfMessages` of a receive.
pub const RECEIVE_MESSAGES: RangeInclusive<i64> = 1..=10;
/// `MaxResults` of the listing calls.
pub const LIST_RESULTS: RangeInclusive<i64> = 1..=1_000;
/// `MaxResults` of `ListMessageMoveTasks`.
pub const MOVE_TASK_RESULTS: RangeInclusive<i64> = 1..=10;
/// `MaxNumberOfMessagesPerSecond` of a move task.
pub const MOVE_RATE: RangeInclusive<i64> = 1..=500;
/// Tags of one queue.
pub const TAGS_MAX: usize = 50;
/// Source ARNs of a `byQueue` redrive allow policy.
pub const REDRIVE_SOURCES_MAX: usize = 10;
/// Actions of one `AddPermission`.
pub const PERMISSION_ACTIONS_MAX: usize = 7;
/// Messages in flight on one queue, either kind (FIFO was raised from 20,000).
pub const IN_FLIGHT_MAX: usize = 120_000;
/// Messages of a FIFO queue, from the oldest, among which a receive looks for a group.
pub const FIFO_LOOKAHEAD: usize = 120_000;
/// How long a deduplication id is remembered, milliseconds from the first send.
pub const DEDUPLICATION_WINDOW_MS: i64 = 300_000;
/// How long a receive attempt can be repeated, milliseconds.
pub const RECEIVE_ATTEMPT_WINDOW_MS: i64 = 300_000;
/// Receive attempts remembered per queue (ours: memory stays bounded within the window).
pub const RECEIVE_ATTEMPTS_MAX: usize = 10_000;
/// Milliseconds between two purges, and between deleting a queue and creating it again.
pub const PURGE_INTERVAL_MS: i64 = 60_000;
/// Messages that one receive may send to the dead-letter queue (ours: bounds one call's work).
pub const REDRIVES_PER_RECEIVE_MAX: usize = 1_000;
/// Move tasks of one account and region that run at once.
pub const MOVE_TASKS_RUNNING_MAX: usize = 100;
/// Messages that one step of a move task moves (ours: bounds the time between two calls).
pub const MOVES_PER_STEP_MAX: usize = 256;
/// Finished move tasks remembered per queue.
pub const MOVE_TASKS_KEPT: usize = 10;
/// Bytes of one HTTP request body: a full batch, every byte escaped as `\u00XX`, and its frame.
pub const REQUEST_BYTES_MAX: usize = 8 * 1_048_576;
/// Parameters of one form (ours): ten entries of ten attributes have some five hundred.
pub const FORM_FIELDS_MAX: usize = 10_000;
/// Parts of one parameter's name (ours): `Entries.member.1.MessageAttributes.entry.1.Value.DataType`.
pub const FORM_DEPTH_MAX: usize = 10;
