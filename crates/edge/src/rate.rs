//! The rate of each key: a token bucket, whose state the `RateLimit` headers tell
//! (draft-ietf-httpapi-ratelimit-headers). Per process: N tasks together allow N times as much.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// Buckets kept at most. Only valid keys get one, so this is never near; full ones go first.
pub const BUCKETS_MAX: usize = 100_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// All keys' buckets.
pub struct RateLimiter {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<Arc<str>, Bucket>>,
}

/// What a request found in its key's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests left at once.
    pub remaining: u32,
    /// Whole seconds until the bucket is full again.
    pub full_in_secs: u32,
    /// `None` when the request may go on; else whole seconds until one may.
    pub wait_secs: Option<u32>,
}

impl RateLimiter {
    /// `per_second` sustained, `burst` at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            burst: f64::from(burst.max(1)),
            buckets: Mutex::default(),
        }
    }

    /// Takes one token of the key's bucket.
    pub fn take(&self, key_id: &Arc<str>, now: Instant) -> Quota {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(key_id) {
            // A bucket that would be full by now says the same as one that is not there.
            let (burst, rate) = (self.burst, self.per_second);
            buckets.retain(|_, bucket| refilled(*bucket, now, rate, burst) < burst);
        }
        let bucket =
            buckets.entry(Arc::clone(key_id)).or_insert(Bucket { tokens: self.burst, at: now });
        bucket.tokens = refilled(*bucket, now, self.per_second, self.burst);
        bucket.at = now;
        let taken = bucket.tokens >= 1.0;
        if taken {
            bucket.tokens -= 1.0;
        }
        Quota {
            remaining: whole(bucket.tokens.floor()),
            full_in_secs: whole(((self.burst - bucket.tokens) / self.per_second).ceil()),
            wait_secs: (!taken)
                .then(|| whole(((1.0 - bucket.tokens) / self.per_second).ceil()).max(1)),
        }
    }

    /// Writes the `RateLimit-Policy` and `RateLimit` headers.
    pub fn write_headers(&self, quota: Quota, headers: &mut HeaderMap) {
        let window = whole((self.burst / self.per_second).ceil()).max(1);
        let policy = format!("\"key\";q={};w={window}", whole(self.burst));
        let limit = format!("\"key\";r={};t={}", quota.remaining, quota.full_in_secs);
        for (name, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

fn refilled(bucket: Bucket, now: Instant, per_second: f64, burst: f64) -> f64 {
    let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.tokens + passed * per_second).min(burst)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both ends are clamped to what a u32 holds"
)]
fn whole(value: f64) -> u32 {
    value.clamp(0.0, f64::from(u32::MAX)) as u32
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimiter")
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate_per_key() {
        let limiter = RateLimiter::new(10, 20);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for left in (0..20).rev() {
            let quota = limiter.take(&a, Instant::now());
            assert_eq!((quota.remaining, quota.wait_secs), (left, None));
        }
        let refused = limiter.take(&a, Instant::now());
        assert_eq!(refused, Quota { remaining: 0, full_in_secs: 2, wait_secs: Some(1) });
        assert_eq!(limiter.take(&b, Instant::now()).wait_secs, None, "keys share nothing");
        tokio::time::advance(Duration::from_millis(99)).await;
        assert!(limiter.take(&a, Instant::now()).wait_secs.is_some());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(limiter.take(&a, Instant::now()).wait_secs.is_none());
        assert!(limiter.take(&a, Instant::now()).wait_secs.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn headers_tell_policy_and_rest() {
        let limiter = RateLimiter::new(10, 20);
        let quota = limiter.take(&"a".into(), Instant::now());
        let mut headers = HeaderMap::new();
        limiter.write_headers(quota, &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=20;w=2");
        assert_eq!(headers["ratelimit"], "\"key\";r=19;t=1");
    }
}
