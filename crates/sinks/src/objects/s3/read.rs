//! Reading from S3: whole, a range, or as a stream.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use futures_util::{Stream, stream};

use super::errors::absent;
use super::{S3, size};
use crate::error::{SinkError, SinkErrorKind};
use crate::objects::{NAME, ObjectBody, ObjectKey, admit_range};

impl S3 {
    async fn ask(
        &self,
        key: &ObjectKey,
        range: Option<String>,
    ) -> Result<Option<GetObjectOutput>, SinkError> {
        let call = self.client.get_object().bucket(&self.bucket).key(key.as_str());
        match call.set_range(range).send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(super) async fn whole(
        &self,
        key: &ObjectKey,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        let Some(answer) = self.ask(key, None).await? else { return Ok(None) };
        let expected = size(answer.content_length());
        if expected > bytes_max {
            let text = format!("{key} has {expected} bytes, expected are at most {bytes_max}");
            return Err(self.refused(&text));
        }
        self.collect(key, answer, expected).await.map(Some)
    }

    pub(super) async fn range(
        &self,
        key: &ObjectKey,
        from: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, SinkError> {
        admit_range(&self.bucket, key, len)?;
        let range = format!("bytes={from}-{}", from.saturating_add(len - 1));
        let Some(answer) = self.ask(key, Some(range)).await? else { return Ok(None) };
        let (got, length) = (answer.content_range().and_then(parse_range), answer.content_length());
        match got {
            Some((begin, _)) if begin == from && size(length) == len => {
                self.collect(key, answer, len).await.map(Some)
            }
            Some((begin, total)) if begin == from && size(length) < len => Err(self.refused(
                &format!("{key} has {total} bytes, asked for are {len} from byte {from}"),
            )),
            _ => Err(self.unreadable("is not the range that was asked for")),
        }
    }

    pub(super) async fn stream(
        &self,
        key: &ObjectKey,
        from: u64,
    ) -> Result<Option<ObjectBody>, SinkError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let Some(answer) = self.ask(key, range).await? else { return Ok(None) };
        let left = size(answer.content_length());
        let total = match answer.content_range().and_then(parse_range) {
            Some((begin, total)) if begin == from && from + left == total => total,
            None if from == 0 => left,
            _ => return Err(self.unreadable("is not the range that was asked for")),
        };
        let chunks = self.chunks(answer);
        Ok(Some(ObjectBody::new(key.clone(), total, left, self.timeouts.idle, chunks)))
    }

    /// All of a body of known length, within the time for so many bytes: the SDK's own limit ends with
    /// the head of the answer.
    async fn collect(
        &self,
        key: &ObjectKey,
        answer: GetObjectOutput,
        expected: u64,
    ) -> Result<Vec<u8>, SinkError> {
        let (idle, limit) = (self.timeouts.idle, self.limit(expected));
        let chunks = self.chunks(answer);
        let mut body = ObjectBody::new(key.clone(), expected, expected, idle, chunks);
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        let read = async {
            while let Some(chunk) = body.chunk().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let late = || {
            let text = format!("{}: no whole answer within {limit:?}", self.bucket);
            SinkError::new(NAME, SinkErrorKind::Timeout, text)
        };
        tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(late()))?;
        Ok(bytes)
    }

    fn chunks(
        &self,
        answer: GetObjectOutput,
    ) -> impl Stream<Item = Result<Bytes, SinkError>> + Send + 'static {
        let bucket = self.bucket.clone();
        stream::unfold((answer.body, bucket), async |(mut body, bucket)| {
            let chunk = body.next().await?.map_err(|error| {
                let text = format!("{bucket}: the answer broke off: {error}");
                SinkError::new(NAME, SinkErrorKind::Unavailable, text)
            });
            Some((chunk, (body, bucket)))
        })
    }
}

/// Where a range begins, and the whole object's size: `bytes 0-9/100`.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (begin, _) = range.split_once('-')?;
    Some((begin.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn a_range_says_where_it_begins_and_the_whole_size() {
        assert_eq!(parse_range("bytes 7-9/100"), Some((7, 100)));
        for bad in ["", "bytes */100", "bytes 7-9/*", "7-9/100"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
