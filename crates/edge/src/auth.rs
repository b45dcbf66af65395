//! Checks API keys. What a key may do is cached for 30 s, so that a request costs no query; while
//! PostgreSQL is down what was known stays usable for 10 minutes; a revocation that is announced
//! takes effect at once.
//!
//! What can still go wrong: a revocation that is not announced (Redis down) takes up to
//! [`FRESH`] to be seen, and up to [`USABLE`] when PostgreSQL is down as well.

mod cache;
mod revoked;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use contracts::errors::{DATABASE_UNAVAILABLE, FORBIDDEN, UNAUTHENTICATED};
use database::api_keys::FoundKey;
use database::tenants::TenantState;
use database::{Database, api_keys};
use http::HeaderValue;
use queue_core::Clock;
use tokio::time::Instant;

use crate::key::PresentedKey;
use crate::principal::{Principal, Scope};
use crate::problem::Problem;
use cache::{Cache, Seen};
use revoked::Revoked;

/// How long what is known of a key is used without asking again.
pub const FRESH: Duration = Duration::from_secs(30);
/// How long it is used when PostgreSQL does not answer.
pub const USABLE: Duration = Duration::from_secs(600);
/// A look-up that takes longer has failed.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed look-up nobody asks again for this long.
pub const OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// How often the last use of keys is written.
pub const TOUCH_EVERY: Duration = Duration::from_secs(30);
/// Look-ups at the same time at most: unknown keys must not take all of the pool.
const LOOKUPS_MAX: usize = 4;
/// Keys whose use is remembered until it is written.
const TOUCHED_MAX: usize = 10_000;

/// Where keys are kept.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The key of that id, with its tenant's policy; revoked and expired ones too.
    async fn find(&self, key_id: &str) -> Result<Option<FoundKey>, String>;

    /// Notes that these keys were used.
    async fn touch(&self, key_ids: &[String], at: DateTime<Utc>) -> Result<(), String>;
}

#[async_trait]
impl KeyStore for Database {
    async fn find(&self, key_id: &str) -> Result<Option<FoundKey>, String> {
        api_keys::find(self.pool(), key_id).await.map_err(|error| error.to_string())
    }

    async fn touch(&self, key_ids: &[String], at: DateTime<Utc>) -> Result<(), String> {
        api_keys::touch(self.pool(), key_ids, at).await.map_err(|error| error.to_string())
    }
}

/// A key as this process knows it.
#[derive(Debug)]
pub(crate) struct Known {
    found: FoundKey,
    scopes: Arc<[Scope]>,
    key_id: Arc<str>,
}

/// Checks keys for one process.
pub struct Authenticator {
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache>,
    revoked: Mutex<Revoked>,
    touched: Mutex<HashSet<Arc<str>>>,
    lookups: tokio::sync::Semaphore,
    outage_until: Mutex<Option<Instant>>,
}

impl Authenticator {
    /// An authenticator over that store; `clock` dates expiry.
    pub fn new(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            cache: Mutex::default(),
            revoked: Mutex::default(),
            touched: Mutex::default(),
            lookups: tokio::sync::Semaphore::new(LOOKUPS_MAX),
            outage_until: Mutex::default(),
        }
    }

    /// Checks the value of an `Authorization` header.
    pub async fn authenticate(&self, header: Option<&HeaderValue>) -> Result<Principal, Problem> {
        let Some(header) = header else {
            return Err(refused("the request carries no API key"));
        };
        let presented = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, text)| PresentedKey::parse(text.trim()))
            .ok_or_else(|| {
                refused("the Authorization header is not `Bearer flt_{env}_{key id}_{secret}`")
            })?;
        let known = self.lookup(&presented.key_id).await?;
        // The same words for an unknown id and a wrong secret: neither is told apart from outside.
        let known = known
            .filter(|known| {
                presented.matches(&known.found.key.secret_sha256)
                    && presented.env == known.found.key.env
            })
            .ok_or_else(|| refused("the API key is not known"))?;
        self.admit(&known)
    }

    /// What a key may do now, without its secret: for what was authenticated before (a ticket, an
    /// open stream).
    pub async fn recheck(&self, key_id: &str) -> Result<Principal, Problem> {
        let known = self.lookup(key_id).await?;
        self.admit(&*known.ok_or_else(|| refused("the API key is not known"))?)
    }

    /// A key was revoked: from now on it is refused.
    pub fn revoke(&self, key_id: &str) {
        let now = Instant::now();
        if !locked(&self.revoked).insert(key_id, now) {
            tracing::warn!("too many keys were revoked at once: every key is looked up again");
            locked(&self.cache).void(now);
        }
    }

    /// Announcements may have been missed: every key is asked for again before it is believed.
    pub fn distrust(&self) {
        locked(&self.cache).distrust(Instant::now());
    }

    /// Writes the last use of keys, and forgets old revocations, until its future is dropped.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(TOUCH_EVERY).await;
            locked(&self.revoked).age(Instant::now());
            self.flush_touched().await;
        }
    }

    /// Writes the last use of keys. What cannot be written is written the next time.
    pub async fn flush_touched(&self) {
        let used: Vec<Arc<str>> = locked(&self.touched).drain().collect();
        if used.is_empty() {
            return;
        }
        let ids: Vec<String> = used.iter().map(ToString::to_string).collect();
        if let Err(error) = self.store.touch(&ids, self.clock.now()).await {
            tracing::debug!(%error, keys = ids.len(), "last use of keys not written");
            locked(&self.touched).extend(used);
        }
    }

    fn admit(&self, known: &Known) -> Result<Principal, Problem> {
        let key = &known.found.key;
        if key.revoked_at.is_some() || locked(&self.revoked).contains(&key.key_id) {
            return Err(refused("the API key was revoked"));
        }
        if let Some(at) = key.expires_at
            && at <= self.clock.now()
        {
            let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            return Err(refused(format!("the API key expired at {at}")));
        }
        if known.found.tenant_state != TenantState::Active {
            return Err(Problem::new(FORBIDDEN, "the tenant is suspended"));
        }
        let mut touched = locked(&self.touched);
        if touched.len() < TOUCHED_MAX {
            touched.insert(Arc::clone(&known.key_id));
        }
        drop(touched);
        Ok(Principal {
            tenant: key.tenant.clone(),
            key_id: Arc::clone(&known.key_id),
            scopes: Arc::clone(&known.scopes),
            class: known.found.default_class,
        })
    }

    async fn lookup(&self, key_id: &str) -> Result<Option<Arc<Known>>, Problem> {
        let seen = locked(&self.cache).get(key_id, Instant::now());
        match seen {
            Seen::Fresh(known) => return Ok(known),
            // Somebody is asking, or nobody answers: what is known serves meanwhile.
            Seen::Stale(known) if self.in_outage() || self.lookups.available_permits() == 0 => {
                return Ok(Some(known));
            }
            Seen::Nothing if self.in_outage() => return Err(unavailable()),
            Seen::Stale(_) | Seen::Nothing => {}
        }
        let Ok(_permit) = self.lookups.acquire().await else { return Err(unavailable()) };
        match locked(&self.cache).get(key_id, Instant::now()) {
            Seen::Fresh(known) => return Ok(known),
            Seen::Stale(known) if self.in_outage() => return Ok(Some(known)),
            Seen::Nothing if self.in_outage() => return Err(unavailable()),
            Seen::Stale(_) | Seen::Nothing => {}
        }
        self.ask(key_id).await
    }

    async fn ask(&self, key_id: &str) -> Result<Option<Arc<Known>>, Problem> {
        let asked_at = Instant::now();
        let answer = tokio::time::timeout(LOOKUP_TIMEOUT, self.store.find(key_id)).await;
        let error = match answer {
            Ok(Ok(found)) => {
                let known = found.map(|found| Arc::new(Known::new(found)));
                let kept = locked(&self.cache).put(key_id, known.clone(), asked_at);
                return if kept { Ok(known) } else { Err(unavailable()) };
            }
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()),
        };
        tracing::warn!(%error, "API key not looked up");
        *locked(&self.outage_until) = Some(Instant::now() + OUTAGE_PAUSE);
        match locked(&self.cache).get(key_id, Instant::now()) {
            Seen::Fresh(known) => Ok(known),
            Seen::Stale(known) => Ok(Some(known)),
            Seen::Nothing => Err(unavailable()),
        }
    }

    fn in_outage(&self) -> bool {
        locked(&self.outage_until).is_some_and(|until| Instant::now() < until)
    }
}

impl Known {
    fn new(found: FoundKey) -> Self {
        let scopes = found.key.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
        Self { key_id: found.key.key_id.as_str().into(), scopes, found }
    }
}

fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(UNAUTHENTICATED, detail)
}

fn unavailable() -> Problem {
    Problem::new(DATABASE_UNAVAILABLE, "the API key cannot be looked up now").retry_after(2)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}
