//! Keys through a store that can be changed, slowed and broken; time is virtual.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use contracts::RetentionClass;
use database::api_keys::ApiKey;

use super::revoked::REVOKED_MAX;
use super::*;
use crate::key::{GeneratedKey, generate};

#[derive(Default)]
struct Double {
    keys: Mutex<HashMap<String, FoundKey>>,
    down: AtomicBool,
    hangs: AtomicBool,
    slow: AtomicBool,
    asked: AtomicUsize,
    touched: Mutex<Vec<String>>,
}

#[async_trait]
impl KeyStore for Double {
    async fn find(&self, key_id: &str) -> Result<Option<FoundKey>, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.slow.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err("connection refused".into());
        }
        Ok(locked(&self.keys).get(key_id).cloned())
    }

    async fn touch(&self, key_ids: &[String], _at: DateTime<Utc>) -> Result<(), String> {
        if self.down.load(Ordering::SeqCst) {
            return Err("connection refused".into());
        }
        locked(&self.touched).extend_from_slice(key_ids);
        Ok(())
    }
}

impl Double {
    fn change(&self, key: &GeneratedKey, change: impl FnOnce(&mut FoundKey)) {
        change(locked(&self.keys).get_mut(&key.key_id).unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }
}

fn setup() -> (Arc<Double>, Authenticator, GeneratedKey) {
    let store = Arc::new(Double::default());
    let key = generate("live");
    let found = FoundKey {
        key: ApiKey {
            key_id: key.key_id.clone(),
            tenant: "acme".parse().unwrap(),
            env: "live".into(),
            secret_sha256: key.secret_sha256,
            scopes: vec!["logs:write".into(), "orders:write".into()],
            name: "test".into(),
            created_at: Noon.now(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        },
        default_class: RetentionClass::Days30,
        sandbox: false,
        tenant_state: TenantState::Active,
    };
    locked(&store.keys).insert(key.key_id.clone(), found);
    let authenticator = Authenticator::new(Arc::clone(&store) as _, Arc::new(Noon));
    (store, authenticator, key)
}

async fn try_key(authenticator: &Authenticator, text: &str) -> Result<Principal, (u16, String)> {
    let header = HeaderValue::from_str(&format!("Bearer {text}")).unwrap();
    let answer = authenticator.authenticate(Some(&header)).await;
    answer.map_err(|problem| (problem.code.status, problem.detail))
}

async fn refusal(authenticator: &Authenticator, text: &str) -> (u16, String) {
    try_key(authenticator, text).await.expect_err("the key was taken")
}

#[tokio::test(start_paused = true)]
async fn a_valid_key_gives_tenant_class_and_known_scopes() {
    let (store, authenticator, key) = setup();
    let principal = try_key(&authenticator, &key.text).await.unwrap();
    assert_eq!(principal.tenant.as_str(), "acme");
    assert_eq!(principal.class, RetentionClass::Days30);
    assert_eq!(&*principal.scopes, [Scope::LogsWrite]);
    assert!(principal.require(Scope::LogsWrite).is_ok());
    let refused = principal.require(Scope::LogsErase).unwrap_err();
    assert_eq!((refused.code.status, refused.detail.contains("logs:erase")), (403, true));
    authenticator.flush_touched().await;
    assert_eq!(*locked(&store.touched), [key.key_id.as_str()]);
}

#[tokio::test(start_paused = true)]
async fn missing_malformed_unknown_and_wrong_keys_are_401() {
    let (_store, authenticator, key) = setup();
    let none = authenticator.authenticate(None).await.unwrap_err();
    assert_eq!(none.code.status, 401);
    let basic = HeaderValue::from_static("Basic Zm9vOmJhcg==");
    assert_eq!(authenticator.authenticate(Some(&basic)).await.unwrap_err().code.status, 401);
    let binary = HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    assert_eq!(authenticator.authenticate(Some(&binary)).await.unwrap_err().code.status, 401);
    assert_eq!(refusal(&authenticator, "flt_live_x").await.0, 401);
    let unknown = refusal(&authenticator, &generate("live").text).await;
    let wrong = format!("flt_live_{}_{}", key.key_id, "A".repeat(43));
    assert_eq!(refusal(&authenticator, &wrong).await, unknown, "an id can be told from outside");
    let other_env = key.text.replace("flt_live_", "flt_test_");
    assert_eq!(refusal(&authenticator, &other_env).await, unknown);
}

#[tokio::test(start_paused = true)]
async fn expired_revoked_and_suspended_are_told() {
    let (store, authenticator, key) = setup();
    store.change(&key, |found| found.key.expires_at = Some(Noon.now()));
    assert!(refusal(&authenticator, &key.text).await.1.contains("expired at 2026-03-01T12:00:00Z"));
    tokio::time::advance(FRESH).await;
    let later = Noon.now() + chrono::TimeDelta::seconds(1);
    store.change(&key, |found| found.key.expires_at = Some(later));
    try_key(&authenticator, &key.text).await.unwrap();
    tokio::time::advance(FRESH).await;
    store.change(&key, |found| found.tenant_state = TenantState::Suspended);
    assert_eq!(refusal(&authenticator, &key.text).await.0, 403);
    tokio::time::advance(FRESH).await;
    store.change(&key, |found| found.key.revoked_at = Some(Noon.now()));
    assert!(refusal(&authenticator, &key.text).await.1.contains("revoked"));
}

#[tokio::test(start_paused = true)]
async fn one_question_in_thirty_seconds() {
    let (store, authenticator, key) = setup();
    for _ in 0..100 {
        try_key(&authenticator, &key.text).await.unwrap();
    }
    assert_eq!(store.asked(), 1);
    store.change(&key, |found| found.key.revoked_at = Some(Noon.now()));
    tokio::time::advance(FRESH.saturating_sub(Duration::from_millis(1))).await;
    try_key(&authenticator, &key.text).await.unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(refusal(&authenticator, &key.text).await.0, 401);
    assert_eq!(store.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_announced_revocation_takes_effect_at_once_and_stays() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    authenticator.revoke(&key.key_id);
    assert!(refusal(&authenticator, &key.text).await.1.contains("revoked"));
    store.down.store(true, Ordering::SeqCst);
    tokio::time::advance(FRESH).await;
    assert!(refusal(&authenticator, &key.text).await.1.contains("revoked"));
    assert!(authenticator.recheck(&key.key_id).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_announced_revocation_is_forgotten_when_no_answer_can_be_older() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    authenticator.revoke(&key.key_id);
    store.down.store(true, Ordering::SeqCst);
    tokio::time::advance(USABLE).await;
    locked(&authenticator.revoked).age(Instant::now());
    assert_eq!(locked(&authenticator.revoked).len(), 1, "not a moment before");
    refusal(&authenticator, &key.text).await;
    let writing = tokio::time::timeout(2 * TOUCH_EVERY, authenticator.run());
    assert!(writing.await.is_err());
    assert_eq!(locked(&authenticator.revoked).len(), 0);
    assert_eq!(refusal(&authenticator, &key.text).await.0, 503, "nothing older is used");
    store.down.store(false, Ordering::SeqCst);
    store.change(&key, |found| found.key.revoked_at = Some(Noon.now()));
    tokio::time::advance(OUTAGE_PAUSE).await;
    assert!(refusal(&authenticator, &key.text).await.1.contains("revoked"));
}

#[tokio::test(start_paused = true)]
async fn more_revocations_than_can_be_remembered_make_every_answer_void() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    authenticator.revoke(&key.key_id);
    for n in 1..REVOKED_MAX {
        authenticator.revoke(&format!("k{n}"));
    }
    assert_eq!(locked(&authenticator.revoked).len(), REVOKED_MAX);
    assert!(refusal(&authenticator, &key.text).await.1.contains("revoked"));
    authenticator.revoke("one-more");
    assert_eq!(locked(&authenticator.revoked).len(), 0);
    store.down.store(true, Ordering::SeqCst);
    assert_eq!(refusal(&authenticator, &key.text).await.0, 503);
    store.down.store(false, Ordering::SeqCst);
    tokio::time::advance(OUTAGE_PAUSE).await;
    store.change(&key, |found| found.key.revoked_at = Some(Noon.now()));
    assert_eq!(refusal(&authenticator, &key.text).await.0, 401);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_on_its_way_when_all_became_void_is_not_used() {
    let (store, authenticator, key) = setup();
    store.slow.store(true, Ordering::SeqCst);
    let overflow = async {
        tokio::task::yield_now().await;
        assert_eq!(store.asked(), 1);
        for n in 0..=REVOKED_MAX {
            authenticator.revoke(&format!("k{n}"));
        }
    };
    let (answer, ()) = tokio::join!(refusal(&authenticator, &key.text), overflow);
    assert_eq!(answer.0, 503);
    try_key(&authenticator, &key.text).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn distrust_asks_again() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    store.change(&key, |found| found.key.revoked_at = Some(Noon.now()));
    authenticator.distrust();
    assert_eq!(refusal(&authenticator, &key.text).await.0, 401);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_outlived_for_ten_minutes() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    tokio::time::advance(USABLE.saturating_sub(Duration::from_secs(2))).await;
    try_key(&authenticator, &key.text).await.unwrap();
    let other = generate("live").text;
    assert_eq!(refusal(&authenticator, &other).await.0, 503, "unknown is not the same as absent");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(refusal(&authenticator, &key.text).await.0, 503);
    store.down.store(false, Ordering::SeqCst);
    tokio::time::advance(OUTAGE_PAUSE).await;
    try_key(&authenticator, &key.text).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_costs_two_seconds_once_a_second() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    store.hangs.store(true, Ordering::SeqCst);
    tokio::time::advance(FRESH).await;
    let started = Instant::now();
    try_key(&authenticator, &key.text).await.unwrap();
    assert_eq!(started.elapsed(), LOOKUP_TIMEOUT);
    for _ in 0..100 {
        try_key(&authenticator, &key.text).await.unwrap();
    }
    assert_eq!(started.elapsed(), LOOKUP_TIMEOUT, "requests wait for an outage they know of");
    assert_eq!(store.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn last_use_is_written_later_when_it_cannot_be_now() {
    let (store, authenticator, key) = setup();
    try_key(&authenticator, &key.text).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    authenticator.flush_touched().await;
    store.down.store(false, Ordering::SeqCst);
    authenticator.flush_touched().await;
    assert_eq!(*locked(&store.touched), [key.key_id.as_str()]);
}
