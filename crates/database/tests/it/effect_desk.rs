//! What a person says of an effect that nobody knows the end of: only of such a one, once, kept with
//! its author, and stronger than a worker that was only asleep.

use std::time::Duration;

use database::Role;
use database::effects::desk::{
    EffectDesk, EffectEntry, EffectName, Ruling, Standing, Wanted, Word,
};
use database::effects::{self, PostgresEffects};
use queue_core::effects::{Begun, Claim, EffectKey, Effects, EffectsError, Entry, Outcome};
use testkit::TestDatabase;

const LEASE: Duration = Duration::from_secs(30);

struct Rig {
    database: TestDatabase,
    ledger: PostgresEffects,
    desk: EffectDesk,
}

impl Rig {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let worker = database.connect(Role::Worker);
        Self { ledger: PostgresEffects::new(&worker), desk: EffectDesk::new(&worker), database }
    }

    async fn begun(&self, key: &EffectKey, by: &str) -> Entry {
        match self.ledger.begin(key, by, LEASE).await.expect("begins") {
            Begun::Fresh(entry) | Begun::Abandoned { entry, .. } => entry,
            other => panic!("{other:?}"),
        }
    }

    /// An effect whose holder fell silent.
    async fn silent(&self, key: &EffectKey) -> Entry {
        let entry = self.begun(key, "worker 1").await;
        self.ledger.extend(&entry, Duration::ZERO).await.expect("lets go");
        entry
    }

    async fn entry(&self, key: &EffectKey) -> EffectEntry {
        self.desk.find(&named(key)).await.expect("looks").expect("is there")
    }

    async fn settle(&self, key: &EffectKey, epoch: i64, word: Word) -> bool {
        self.desk.settle(&named(key), epoch, &ruling(word)).await.expect("settles")
    }

    async fn open(&self, wanted: Wanted) -> Vec<(String, Standing)> {
        let open = self.desk.open(&wanted, 100).await.expect("lists");
        open.into_iter().map(|entry| (entry.effect, entry.standing)).collect()
    }
}

fn key(name: &str) -> EffectKey {
    EffectKey::named("test.mail", crate::tenant("acme"), name)
}

fn named(key: &EffectKey) -> EffectName {
    key.to_string().parse().expect("a name")
}

fn done(outcome: &str) -> Word {
    Word::Done(Outcome::new(outcome).expect("short"))
}

fn ruling(word: Word) -> Ruling {
    Ruling { word, reason: "asked the provider".into(), by: "zoe".into() }
}

#[tokio::test]
async fn what_a_person_says_happened_is_done_and_what_did_not_runs_again() {
    let rig = Rig::new().await;
    let (sent, lost) = (key("a/b'c"), key("lost"));
    for key in [&sent, &lost] {
        let epoch = rig.silent(key).await.epoch;
        assert_eq!(rig.entry(key).await.standing, Standing::Unknown);
        let word = if key == &sent { done("receipt 7") } else { Word::NotDone };
        assert!(rig.settle(key, epoch, word).await);
    }
    let after = rig.ledger.begin(&sent, "worker 2", LEASE).await;
    assert_eq!(after, Ok(Begun::Done(Outcome::new("receipt 7").expect("short"))));
    assert_eq!(rig.entry(&lost).await.standing, Standing::NotDone);
    let after = rig.ledger.begin(&lost, "worker 2", LEASE).await.expect("begins");
    let Begun::Fresh(entry) = after else { panic!("{after:?}") };
    let held = rig.entry(&lost).await;
    assert_eq!((held.standing, held.begun_by.as_str()), (Standing::InProgress, "worker 2"));
    assert!(held.held_secs.is_some_and(|left| left > 0.0 && left <= 30.0), "{held:?}");

    // Silent once more, it is in doubt once more: one word is for one run.
    rig.ledger.extend(&entry, Duration::ZERO).await.expect("lets go");
    let again = rig.ledger.begin(&lost, "worker 3", LEASE).await.expect("begins");
    assert!(matches!(&again, Begun::Abandoned { by, .. } if by == "worker 2"), "{again:?}");
    let said = rig.desk.decisions(&named(&lost), 10).await.expect("reads");
    assert_eq!(said.len(), 1);
    let said = &said[0];
    assert_eq!((said.decision.as_str(), said.decided_by.as_str()), ("not-done", "zoe"));
    assert_eq!((said.reason.as_str(), said.holder.as_str()), ("asked the provider", "worker 1"));
}

#[tokio::test]
async fn only_what_nobody_knows_is_settled_and_only_as_it_was_seen() {
    let rig = Rig::new().await;
    let held = key("held");
    let entry = rig.begun(&held, "worker 1").await;
    assert!(!rig.settle(&held, entry.epoch, Word::NotDone).await, "a delivery is at it");
    rig.ledger.complete(&entry, &Outcome::default()).await.expect("completes");
    assert!(!rig.settle(&held, entry.epoch, Word::NotDone).await, "it is done");
    assert_eq!(rig.entry(&held).await.standing, Standing::Done);

    let taken = key("taken");
    let seen = rig.silent(&taken).await.epoch;
    let entry = rig.begun(&taken, "worker 2").await;
    rig.ledger.extend(&entry, Duration::ZERO).await.expect("lets go");
    assert!(!rig.settle(&taken, seen, done("")).await, "another began since it was looked at");
    assert!(rig.settle(&taken, entry.epoch, Word::NotDone).await);
    assert!(!rig.settle(&taken, entry.epoch + 1, done("")).await, "settled already");
    assert!(!rig.settle(&key("nobody"), 1, done("")).await);
    for key in [held, key("nobody")] {
        assert_eq!(rig.desk.decisions(&named(&key), 10).await.expect("reads"), []);
    }
}

#[tokio::test]
async fn a_worker_that_was_only_asleep_has_no_say_after_not_done() {
    let rig = Rig::new().await;
    let asleep = rig.silent(&key("k")).await;
    assert!(rig.settle(&key("k"), asleep.epoch, Word::NotDone).await);
    for runs in [false, true] {
        if runs {
            rig.begun(&key("k"), "worker 2").await;
        }
        for late in [
            rig.ledger.extend(&asleep, LEASE).await,
            rig.ledger.complete(&asleep, &Outcome::default()).await,
            rig.ledger.release(&asleep).await,
        ] {
            assert_eq!(late, Err(EffectsError::Lost(key("k"))), "runs again: {runs}");
        }
    }
    assert_eq!(rig.entry(&key("k")).await.standing, Standing::InProgress);
}

#[tokio::test]
async fn the_list_names_what_waits_for_a_person() {
    let rig = Rig::new().await;
    rig.silent(&key("doubt")).await;
    rig.begun(&key("held"), "worker 1").await;
    let epoch = rig.silent(&key("again")).await.epoch;
    assert!(rig.settle(&key("again"), epoch, Word::NotDone).await);
    let worker = rig.database.connect(Role::Worker);
    let mut transaction = worker.pool().begin().await.expect("begins");
    let claimed = EffectKey::named("test.row", crate::tenant("acme"), "done");
    let claim = effects::claim(&mut transaction, &claimed).await.expect("claims");
    assert_eq!(claim, Claim::New);
    transaction.commit().await.expect("commits");

    let doubt = vec![(key("doubt").to_string(), Standing::Unknown)];
    assert_eq!(rig.open(Wanted::default()).await, doubt);
    let hour = Duration::from_hours(1);
    assert_eq!(rig.open(Wanted { silent_for: hour, ..Wanted::default() }).await, []);
    for (tenant, scope, found) in
        [("acme", "test.mail", 1), ("globex", "test.mail", 0), ("acme", "test.row", 0)]
    {
        let (tenant, scope) = (Some(tenant.to_owned()), Some(scope.to_owned()));
        let wanted = Wanted { tenant, scope, ..Wanted::default() };
        assert_eq!(rig.open(wanted).await.len(), found);
    }
    let all = rig.open(Wanted { all_open: true, ..Wanted::default() }).await;
    let standings: Vec<Standing> = all.into_iter().map(|(_, standing)| standing).collect();
    assert_eq!(standings, [Standing::Unknown, Standing::InProgress, Standing::NotDone]);
}

#[test]
fn a_name_reads_back_and_what_is_none_says_what_one_is() {
    for name in ["x", "a/b'c", "ünï", ""] {
        let key = key(name);
        assert_eq!(named(&key).to_string(), key.to_string());
    }
    for wrong in ["", "a", "a/b", "a//c", "/b/c", "a/b/"] {
        let error = wrong.parse::<EffectName>().expect_err(wrong);
        assert!(error.to_string().contains("SCOPE/TENANT/KEY"));
    }
}
