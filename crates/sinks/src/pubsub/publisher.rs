//! Publishing: into the capped stream and to the channel in one step of the server, so that both
//! have the same order and a listener can tell from a message what stood before it.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::StreamRangeReply;

use super::config::FeedConfig;
use super::topic::{EntryId, Topic};
use super::{NAME, SinkError, SinkErrorKind};

/// Items of one call to the server at most.
const ITEMS_MAX: usize = 128;
/// Bytes of one call to the server at most, unless one item alone is longer.
const BYTES_MAX: usize = 1024 * 1024;
/// A topic that nobody writes to for this long gives its memory back; who comes later backfills.
const IDLE: Duration = Duration::from_secs(3_600);
/// Entries read at once when a listener catches up.
const PAGE: usize = 256;

/// KEYS: the stream. ARGV: the channel, how many entries to keep, milliseconds to keep them, items.
const PUBLISH: &str = r"
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local before = newest[1] and newest[1][1] or '-'
for i = 4, #ARGV do
  local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[i])
  redis.call('PUBLISH', ARGV[1], before .. ' ' .. id .. '\n' .. ARGV[i])
  before = id
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return before
";

/// The connection for calls that answer at once.
#[derive(Clone)]
pub(super) struct Publisher {
    connection: ConnectionManager,
    script: redis::Script,
    keep: u64,
    timeout: Duration,
}

impl Publisher {
    pub(super) fn new(client: redis::Client, config: &FeedConfig) -> Result<Self, SinkError> {
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.timeout()))
            .set_response_timeout(Some(config.timeout()))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client, settings)
            .map_err(|error| failed(&error))?;
        Ok(Self {
            connection,
            script: redis::Script::new(PUBLISH),
            keep: config.feed_stream_max,
            timeout: config.timeout(),
        })
    }

    /// A call, given up in time even when the connection has to be made first.
    async fn timed<T>(
        &self,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, SinkError> {
        let late = |_| {
            let why = format!("no answer within {:?}", self.timeout);
            SinkError::new(NAME, SinkErrorKind::Timeout, why)
        };
        let answer = tokio::time::timeout(self.timeout, call).await.map_err(late)?;
        answer.map_err(|error| failed(&error))
    }

    /// Publishes items, in their order within each topic.
    pub(super) async fn publish(&self, items: Vec<(Topic, Vec<u8>)>) -> Result<(), SinkError> {
        let mut order = Vec::new();
        let mut topics: HashMap<Topic, Vec<Vec<u8>>> = HashMap::new();
        for (topic, item) in items {
            topics
                .entry(topic)
                .or_insert_with_key(|topic| {
                    order.push(topic.clone());
                    Vec::new()
                })
                .push(item);
        }
        for topic in order {
            let items = topics.remove(&topic).unwrap_or_default();
            let mut rest = items.as_slice();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(chunk_len(rest));
                self.publish_chunk(&topic, chunk).await?;
                rest = after;
            }
        }
        Ok(())
    }

    async fn publish_chunk(&self, topic: &Topic, items: &[Vec<u8>]) -> Result<(), SinkError> {
        let mut call = self.script.key(topic.stream());
        let idle = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
        call.arg(topic.channel()).arg(self.keep).arg(idle);
        for item in items {
            call.arg(item.as_slice());
        }
        let mut connection = self.connection.clone();
        self.timed(call.invoke_async::<String>(&mut connection)).await.map(|_| ())
    }

    /// Empties a topic's stream. Trimmed, not deleted: a stream that begins anew may give an id of
    /// this millisecond a second time, and a listener would take the new entry for the one it has.
    pub(super) async fn forget(&self, topic: &Topic) -> Result<(), SinkError> {
        let mut connection = self.connection.clone();
        let mut call = redis::cmd("XTRIM");
        call.arg(topic.stream()).arg("MAXLEN").arg("=").arg(0);
        self.timed(call.query_async::<u64>(&mut connection)).await.map(|_| ())
    }

    /// What a topic's stream holds after `last`, at most [`PAGE`]; `None` when `last` itself is
    /// gone, so that nothing is proved. `last` is read with its successors in one step.
    pub(super) async fn after(
        &self,
        topic: &Topic,
        last: EntryId,
    ) -> Result<Option<Vec<(EntryId, Vec<u8>)>>, SinkError> {
        let mut connection = self.connection.clone();
        let mut call = redis::cmd("XRANGE");
        call.arg(topic.stream()).arg(last.to_string()).arg("+").arg("COUNT").arg(PAGE + 1);
        let reply: StreamRangeReply = self.timed(call.query_async(&mut connection)).await?;
        let mut entries = reply.ids.into_iter().map(|entry| {
            let payload: Option<Vec<u8>> = entry.get("e");
            entry.id.parse::<EntryId>().ok().zip(payload)
        });
        match entries.next() {
            Some(Some((first, _))) if first == last => Ok(entries.collect()),
            _ => Ok(None),
        }
    }

    /// Asks the server whether it works and takes writes.
    pub(super) async fn ping(&self) -> Result<(), SinkError> {
        let mut connection = self.connection.clone();
        let role: redis::Value = {
            let call = redis::cmd("ROLE");
            self.timed(call.query_async(&mut connection)).await?
        };
        let is_replica = matches!(&role, redis::Value::Array(fields)
            if matches!(fields.first(), Some(redis::Value::BulkString(name)) if name == b"slave"));
        if is_replica {
            let why = "the server is a replica and takes no writes; point REDIS_URL at the primary";
            return Err(SinkError::new(NAME, SinkErrorKind::Refused, why));
        }
        Ok(())
    }
}

fn chunk_len(items: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(ITEMS_MAX).take_while(|item| {
        bytes += item.len();
        bytes <= BYTES_MAX
    });
    fits.count().max(1)
}

pub(super) fn failed(error: &redis::RedisError) -> SinkError {
    let kind = if error.is_timeout() { SinkErrorKind::Timeout } else { SinkErrorKind::Unavailable };
    SinkError::new(NAME, kind, error.to_string())
}
