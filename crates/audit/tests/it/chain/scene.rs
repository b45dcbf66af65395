//! What the chain's tests stand on: a database, a directory in the bucket's place, a clock that is set.

use std::path::Path;
use std::sync::{Arc, Mutex};

use audit::archive::chain;
use audit::archive::{AppendError, Keys, Sealer, SealerConfig};
use audit::store::signing_keys;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use database::{Database, Role};
use evidence::document::{Basis, Body, ChainEnd, Manifest, object_name};
use evidence::object::ObjectWriter;
use evidence::source::Directory;
use evidence::verify::{Options, Report, verify};
use evidence::{Codec, MemorySigner, Signer};
use queue_core::Clock;
use sinks::objects::{Files, Objects, Write};
use testkit::TestDatabase;
use uuid::Uuid;

pub(crate) fn signer(seed: u8) -> Arc<dyn Signer> {
    Arc::new(MemorySigner::from_seed("audit.example.com", &[seed; 32]).unwrap())
}

pub(crate) fn tenant(name: &str) -> Tenant {
    name.parse().unwrap()
}

/// A clock that a test sets.
#[derive(Debug)]
pub(crate) struct SetClock(Mutex<DateTime<Utc>>);

impl SetClock {
    pub(crate) fn new() -> Arc<Self> {
        // PostgreSQL dates what it marks by its own clock.
        Arc::new(Self(Mutex::new(queue_core::SystemClock.now())))
    }

    pub(crate) fn turn(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

pub(crate) struct Scene {
    pub(crate) database: TestDatabase,
    pub(crate) worker: Database,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Arc<Files>,
    pub(crate) clock: Arc<SetClock>,
    made: Mutex<u64>,
}

impl Scene {
    /// With one key.
    pub(crate) async fn new() -> Self {
        let scene = Self::without_key().await;
        scene.key(1, "first").await;
        scene
    }

    pub(crate) async fn without_key() -> Self {
        let database = TestDatabase::new().await;
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Files::new(dir.path()));
        let (worker, clock) = (database.connect(Role::Worker), SetClock::new());
        Self { database, worker, dir, store, clock, made: Mutex::new(0) }
    }

    /// A key signs from now on.
    pub(crate) async fn key(&self, seed: u8, reason: &str) {
        let owner = self.database.connect(Role::Owner);
        let (mut connection, signer) = (owner.pool().acquire().await.unwrap(), signer(seed));
        let key = signer.key();
        let (id, text) = (key.id(), key.to_string());
        assert!(signing_keys::put_key(&mut connection, &id, &text, reason, "test").await.unwrap());
    }

    pub(crate) fn sealer(&self, seeds: &[u8]) -> Sealer {
        let keys: Keys = seeds.iter().map(|seed| signer(*seed)).collect();
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Sealer::new(&self.worker, keys, store, clock, SealerConfig::default())
    }

    /// Archives a few events of its own, in one transaction with their manifest.
    pub(crate) async fn archive(&self, of: &str) -> Result<ChainEnd, AppendError> {
        let body = self.manifest(of).await;
        let mut transaction = self.worker.pool().begin().await.unwrap();
        let end = chain::append(&mut transaction, &tenant(of), body, self.clock.now()).await?;
        transaction.commit().await.unwrap();
        Ok(end)
    }

    /// Puts an object and makes its manifest.
    pub(crate) async fn manifest(&self, of: &str) -> Body {
        let number = {
            let mut made = self.made.lock().unwrap();
            *made += 1;
            *made
        };
        let (hour, tenant) = ("2026-01-31T22:00:00Z".parse().unwrap(), tenant(of));
        let mut writer = ObjectWriter::new(Vec::new(), Codec::Gzip, &tenant);
        for n in 0..3 {
            let high = 0x0194_0000_0000_7000;
            let id = Uuid::from_u64_pair(high, 0x8000_0000_0000_0000 | (number * 10 + n));
            let line = format!(
                r#"{{"id":"{id}","tenant":"{of}","recorded_at":"2026-01-31T22:59:00.000000Z","class":"30d","source":{{}},"event":{{}}}}"#
            );
            writer.push(&[7; 16], line.as_bytes()).unwrap();
        }
        let (bytes, contents) = writer.finish().unwrap();
        let part = u32::try_from(number).unwrap();
        let object = object_name(&tenant, hour, part, Codec::Gzip);
        self.store.put(&object.parse().unwrap(), bytes, Write::IfAbsent).await.unwrap();
        Body::Manifest(Box::new(Manifest {
            object,
            unit: format!("unit-{number}").try_into().unwrap(),
            basis: Basis::Policy { id: "p-1".into(), version: 3 },
            contents,
            locked_until: None,
            supersedes: None,
        }))
    }

    /// The store takes no document and shows none, or does again: a file stands where its folder was.
    pub(crate) fn away(&self, away: bool) {
        let (here, aside) = (self.dir.path().join("proof"), self.dir.path().join("aside"));
        if away {
            std::fs::rename(&here, &aside).unwrap();
            std::fs::write(&here, "in the way").unwrap();
        } else {
            std::fs::remove_file(&here).unwrap();
            std::fs::rename(&aside, &here).unwrap();
        }
    }

    /// What a verifier says who has the store's files and this key.
    pub(crate) fn verify(&self, seed: u8) -> Report {
        verify_dir(self.dir.path(), seed)
    }
}

pub(crate) fn verify_dir(dir: &Path, seed: u8) -> Report {
    let source = Directory::open(dir).unwrap();
    let keys = [signer(seed).key().clone()];
    verify(&source, &keys, &Options::default(), |_| ()).unwrap()
}
