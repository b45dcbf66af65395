//! One suite for the ledger in memory and the one in PostgreSQL: an effect and its entry commit
//! together, one holder at a time, and what was interrupted is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use database::effects::{self, ClaimError, EFFECTS_TERM, PostgresEffects};
use database::{Database, Role, sqlx};
use queue_core::effects::{Begun, Claim, EffectKey, Effects, EffectsError, Outcome};
use queue_core::{Clock, MemoryEffects};
use testkit::TestDatabase;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const LEASE: Duration = Duration::from_secs(30);
const WORKERS: usize = 8;

/// A ledger with a table of effects beside it.
#[async_trait]
trait Scene: Send + Sync {
    fn ledger(&self) -> &dyn Effects;

    /// In one transaction: claims, does the effect when it is new, and commits or dies.
    async fn attempt(&self, key: &EffectKey, outcome: &str, commit: bool) -> Result<Claim, String>;

    /// Effects that are there.
    async fn done(&self, key: &EffectKey) -> usize;

    /// Lets every lease run out.
    async fn expire(&self);
}

struct Memory {
    ledger: MemoryEffects,
    clock: Arc<Hand>,
}

/// A clock that is moved by hand.
#[derive(Debug)]
struct Hand(Mutex<DateTime<Utc>>);

impl Clock for Hand {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("a time")
    }
}

#[async_trait]
impl Scene for Memory {
    fn ledger(&self) -> &dyn Effects {
        &self.ledger
    }

    async fn attempt(&self, key: &EffectKey, outcome: &str, commit: bool) -> Result<Claim, String> {
        let mut transaction = self.ledger.transaction();
        let claim = transaction.claim(key).await.map_err(|error| error.to_string())?;
        if claim == Claim::New {
            transaction.write(key, outcome);
            transaction.record(key, &Outcome::new(outcome).expect("short"));
        }
        if commit {
            transaction.commit().map_err(|error| error.to_string())?;
        }
        Ok(claim)
    }

    async fn done(&self, key: &EffectKey) -> usize {
        self.ledger.effects().iter().filter(|(done, _)| done == key).count()
    }

    async fn expire(&self) {
        *self.clock.0.lock().expect("a time") += TimeDelta::days(1);
    }
}

struct Postgres {
    ledger: PostgresEffects,
    worker: Database,
    owner: Database,
    _database: TestDatabase,
}

#[async_trait]
impl Scene for Postgres {
    fn ledger(&self) -> &dyn Effects {
        &self.ledger
    }

    async fn attempt(&self, key: &EffectKey, outcome: &str, commit: bool) -> Result<Claim, String> {
        let mut transaction = self.worker.pool().begin().await.expect("begins");
        let claim = effects::claim(&mut transaction, key).await.map_err(|e| e.to_string())?;
        if claim == Claim::New {
            sqlx::query("INSERT INTO applied VALUES ($1)")
                .bind(key.to_string())
                .execute(&mut *transaction)
                .await
                .expect("the effect");
            let outcome = Outcome::new(outcome).expect("short");
            effects::record(&mut transaction, key, &outcome).await.expect("records");
        }
        if commit {
            transaction.commit().await.expect("commits");
        }
        Ok(claim)
    }

    async fn done(&self, key: &EffectKey) -> usize {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM applied WHERE key = $1")
            .bind(key.to_string())
            .fetch_one(self.owner.pool())
            .await
            .expect("counts");
        usize::try_from(count).expect("a count")
    }

    async fn expire(&self) {
        sqlx::query("UPDATE effects SET busy_until = clock_timestamp() - interval '1 microsecond' WHERE busy_until IS NOT NULL")
            .execute(self.owner.pool())
            .await
            .expect("expires");
    }
}

async fn scenes() -> Vec<(&'static str, Arc<dyn Scene>)> {
    let clock = Arc::new(Hand(Mutex::new(crate::now())));
    let memory = Memory { ledger: MemoryEffects::new(clock.clone()), clock };
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    sqlx::query("CREATE TABLE applied (key text)").execute(owner.pool()).await.expect("a table");
    sqlx::query("GRANT INSERT ON applied TO flotilla_worker")
        .execute(owner.pool())
        .await
        .expect("a grant");
    let worker = database.connect(Role::Worker);
    let ledger = PostgresEffects::new(&worker);
    let postgres = Postgres { ledger, worker, owner, _database: database };
    vec![("memory", Arc::new(memory)), ("postgres", Arc::new(postgres))]
}

fn key(name: &str) -> EffectKey {
    EffectKey::named("test.effect", crate::tenant("acme"), name)
}

fn outcome(text: &str) -> Outcome {
    Outcome::new(text).expect("short")
}

/// Runs `call` in many tasks that start together.
async fn at_once<T, F>(scene: &Arc<dyn Scene>, call: impl Fn(Arc<dyn Scene>) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(WORKERS));
    let mut tasks = JoinSet::new();
    for _ in 0..WORKERS {
        let (barrier, call) = (Arc::clone(&barrier), call(Arc::clone(scene)));
        tasks.spawn(async move {
            barrier.wait().await;
            call.await
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_and_one_effect() {
    for (name, scene) in scenes().await {
        let claims = at_once(&scene, |scene| async move {
            scene.attempt(&key("one"), "receipt 7", true).await.expect("claims")
        })
        .await;
        let new = claims.iter().filter(|claim| **claim == Claim::New).count();
        let known = claims.iter().filter(|claim| **claim == Claim::Done(outcome("receipt 7")));
        assert_eq!((new, known.count()), (1, WORKERS - 1), "{name}: {claims:?}");
        assert_eq!(scene.done(&key("one")).await, 1, "{name}");
        // Another tenant's, another scope's and another name's are other effects.
        let others = [
            EffectKey::named("test.effect", crate::tenant("globex"), "one"),
            EffectKey::named("test.other", crate::tenant("acme"), "one"),
            key("two"),
        ];
        for other in others {
            assert_eq!(scene.attempt(&other, "", true).await, Ok(Claim::New), "{name}: {other}");
        }
    }
}

#[tokio::test]
async fn a_crash_between_effect_and_commit_leaves_neither() {
    for (name, scene) in scenes().await {
        assert_eq!(scene.attempt(&key("crash"), "lost", false).await, Ok(Claim::New), "{name}");
        assert_eq!(scene.done(&key("crash")).await, 0, "{name}");
        assert_eq!(scene.attempt(&key("crash"), "kept", true).await, Ok(Claim::New), "{name}");
        let again = scene.attempt(&key("crash"), "again", true).await;
        assert_eq!(again, Ok(Claim::Done(outcome("kept"))), "{name}");
        assert_eq!(scene.done(&key("crash")).await, 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_holder_at_a_time_and_the_rest_are_told_to_wait() {
    for (name, scene) in scenes().await {
        let begin = |scene: Arc<dyn Scene>| async move {
            scene.ledger().begin(&key("mail"), "somebody", LEASE).await.expect("begins")
        };
        let answers = at_once(&scene, begin).await;
        let fresh = answers.iter().filter(|answer| matches!(answer, Begun::Fresh(_))).count();
        let busy = answers.iter().filter(|b| matches!(b, Begun::Busy(left) if *left <= LEASE));
        assert_eq!((fresh, busy.count()), (1, WORKERS - 1), "{name}: {answers:?}");

        scene.expire().await;
        let answers = at_once(&scene, begin).await;
        let taken = answers.iter().filter(|b| matches!(b, Begun::Abandoned { .. })).count();
        let busy = answers.iter().filter(|b| matches!(b, Begun::Busy(_))).count();
        assert_eq!((taken, busy), (1, WORKERS - 1), "{name}: {answers:?}");
    }
}

#[tokio::test]
async fn what_was_completed_is_done_and_what_was_released_is_fresh() {
    for (name, scene) in scenes().await {
        let ledger = scene.ledger();
        let begin = async || ledger.begin(&key("k"), "w", LEASE).await.expect("begins");
        let Begun::Fresh(entry) = begin().await else { panic!("{name}: not fresh") };
        ledger.release(&entry).await.expect("releases");
        let Begun::Fresh(entry) = begin().await else { panic!("{name}: not fresh again") };
        ledger.extend(&entry, LEASE * 10).await.expect("extends");
        let Begun::Busy(left) = begin().await else { panic!("{name}: not busy") };
        assert!(left > LEASE * 9, "{name}: extended, {left:?} left");
        ledger.complete(&entry, &outcome("id 9")).await.expect("completes");
        ledger.complete(&entry, &outcome("id 9")).await.expect("a second time is no error");
        assert_eq!(begin().await, Begun::Done(outcome("id 9")), "{name}");
        scene.expire().await;
        assert_eq!(begin().await, Begun::Done(outcome("id 9")), "{name}: done does not expire so");
        // And no longer in progress.
        for late in [ledger.extend(&entry, LEASE).await, ledger.release(&entry).await] {
            assert_eq!(late, Err(EffectsError::Lost(key("k"))), "{name}");
        }
    }
}

#[tokio::test]
async fn a_holder_that_fell_silent_is_named_and_has_no_say_any_more() {
    for (name, scene) in scenes().await {
        let ledger = scene.ledger();
        let first = ledger.begin(&key("k"), "worker 1", LEASE).await.expect("begins");
        let Begun::Fresh(first) = first else { panic!("{name}: {first:?}") };
        scene.expire().await;
        let second = ledger.begin(&key("k"), "worker 2", LEASE).await.expect("begins");
        let Begun::Abandoned { entry: second, by, .. } = second else { panic!("{name}") };
        assert_eq!(by, "worker 1", "{name}");
        scene.expire().await;
        let third = ledger.begin(&key("k"), "worker 3", LEASE).await.expect("begins");
        let Begun::Abandoned { entry: third, by, .. } = third else { panic!("{name}") };
        assert_eq!(by, "worker 1", "{name}: the second may never have run it");
        assert_eq!(ledger.release(&second).await, Err(EffectsError::Lost(key("k"))), "{name}");
        for late in [
            ledger.extend(&first, LEASE).await,
            ledger.complete(&first, &Outcome::default()).await,
            ledger.release(&first).await,
        ] {
            assert_eq!(late, Err(EffectsError::Lost(key("k"))), "{name}");
        }
        ledger.complete(&third, &outcome("by the third")).await.expect("completes");
        let after = ledger.begin(&key("k"), "worker 4", LEASE).await;
        assert_eq!(after, Ok(Begun::Done(outcome("by the third"))), "{name}");
    }
}

#[tokio::test]
async fn a_scope_of_both_kinds_is_told() {
    for (name, scene) in scenes().await {
        scene.ledger().begin(&key("k"), "w", LEASE).await.expect("begins");
        let told = scene.attempt(&key("k"), "", true).await.expect_err("misused");
        assert!(
            told.contains("test.effect/acme/key:k") && told.contains("scope"),
            "{name}: {told}"
        );
    }
    let misused = ClaimError::Misused(EffectsError::Misused(key("k")));
    assert!(misused.to_string().contains("its own scope"));
}

#[tokio::test]
async fn keys_and_outcomes_of_any_text_and_length() {
    let long = "x".repeat(10_000);
    for (name, scene) in scenes().await {
        for text in ["", "\0", "ünïcode", long.as_str()] {
            let kept: String = text.chars().take(1_000).collect();
            assert_eq!(scene.attempt(&key(text), &kept, true).await, Ok(Claim::New), "{name}");
            let again = scene.attempt(&key(text), "", true).await;
            assert_eq!(again, Ok(Claim::Done(outcome(&kept))), "{name}");
        }
    }
    assert!(Outcome::new("x".repeat(4_096)).is_ok() && Outcome::new("x".repeat(4_097)).is_err());
}

#[test]
fn entries_outlive_every_redelivery() {
    let longest = contracts::catalogue::QUEUES
        .iter()
        .map(|spec| spec.retention_prod_secs * 2 + spec.dlq_retention_secs)
        .max();
    assert!(EFFECTS_TERM > Duration::from_secs(longest.expect("queues").into()));
    assert!(EFFECTS_TERM >= Duration::from_secs(60 * 86_400));
}
