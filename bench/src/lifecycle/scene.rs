//! What archive and cleanup are measured on: PostgreSQL and `sqs-local` of their own, a directory in the
//! bucket's place, rows of past hours, and runs of a policy as the retention worker starts them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use audit::archive::{Keys, Sealer, SealerConfig};
use audit::lifecycle::request::unit_id;
use audit::lifecycle::unit::NewWork;
use audit::lifecycle::{Basis, KeyRange, NewRun, NewUnit, Run, Tally, Unit};
use audit::retention::plan::{Plan, Planner};
use audit::retention::{Filter, RulePolicy, RuleSet, Term};
use audit::store::{self, Fed, Planned, UNITS_ADDED_MAX, signing_keys};
use audit::workers::archive::{ArchiveWorker, Parts};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use contracts::audit::lifecycle::{
    ArchiveByPolicy, ArchiveMessage, CleanupArchived, CleanupMessage, RunId, Then,
};
use contracts::{Envelope, Message};
use database::{Database, Role};
use evidence::{Codec, MemorySigner, Signer};
use queue_core::SystemClock;
use serde_json::json;
use sinks::objects::{ArchiveConfig, Files, SharedObjects};
use uuid::Uuid;

use super::corpus::KEY;
use crate::sqs::SqsLocal;
use crate::{machine, postgres, samples};

/// The policy keeps logs for so long; all rows are older.
const KEPT_DAYS: u32 = 30;
const VERSION: u64 = 1;

/// Everything.
pub struct Scene {
    /// The queues' server.
    pub server: SqsLocal,
    /// May do everything.
    pub owner: Database,
    /// The workers' pool.
    pub worker: Database,
    /// The archive.
    pub objects: SharedObjects,
    postgres: local_services::Postgres,
    signer: Arc<dyn Signer>,
    policy: Uuid,
    /// When the first log was accepted.
    pub(super) from: DateTime<Utc>,
    folder: tempfile::TempDir,
}

/// A run that was started.
pub struct Started {
    /// Its id.
    pub id: RunId,
    /// Its units, by number.
    pub units: Vec<NewUnit>,
}

/// A message, ready to be sent.
pub struct Ready {
    /// Its id.
    pub id: u128,
    /// Its text.
    pub body: String,
}

impl Scene {
    /// Starts what is needed, with place for logs of so many hours.
    pub async fn start(hours: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let postgres = local_services::Postgres::start(&folder.path().join("postgres")).await?;
        let owner = Database::connect(&postgres::config(&postgres.url())?, Role::Owner)?;
        owner.migrate().await?;
        let hour = machine::now().duration_trunc(TimeDelta::hours(1))?;
        let to = hour - TimeDelta::days(i64::from(KEPT_DAYS) + 1);
        let from = to - TimeDelta::hours(i64::try_from(hours)?);
        database::partitions::ensure_range(owner.pool(), from, to).await?;
        // Self-audit is of now.
        database::partitions::ensure_ahead(owner.pool(), machine::now(), 14).await?;
        let signer: Arc<dyn Signer> = Arc::new(MemorySigner::from_seed(KEY.0, &KEY.1)?);
        let (id, text) = (signer.key().id(), signer.key().to_string());
        let mut connection = owner.pool().acquire().await?;
        signing_keys::put_key(&mut connection, &id, &text, "first", "bench").await?;
        drop(connection);
        let worker = Database::connect(&postgres::config(&postgres.url())?, Role::Worker)?;
        let objects: SharedObjects = Arc::new(Files::new(folder.path().join("archive")));
        let (server, policy) = (SqsLocal::start().await?, Uuid::new_v4());
        Ok(Self { server, owner, worker, objects, postgres, signer, policy, from, folder })
    }

    /// Where the database is.
    pub fn url(&self) -> String {
        self.postgres.url()
    }

    /// The directory that is the archive.
    pub fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// A folder for what else there is.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Ends everything.
    pub async fn end(self) -> anyhow::Result<()> {
        self.owner.close().await;
        self.worker.close().await;
        Ok(self.postgres.stop().await?)
    }

    /// The archive worker on all of it.
    pub fn archive_worker(&self) -> ArchiveWorker {
        ArchiveWorker::new(Parts {
            database: self.worker.clone(),
            objects: SharedObjects::clone(&self.objects),
            clock: Arc::new(SystemClock),
            stored_as: ArchiveConfig::default(),
            spool: std::env::temp_dir(),
        })
    }

    /// What signs and stores manifests.
    pub fn sealer(&self) -> Sealer {
        let keys: Keys = [Arc::clone(&self.signer)].into_iter().collect();
        let objects = SharedObjects::clone(&self.objects);
        let clock = Arc::new(SystemClock);
        Sealer::new(&self.worker, keys, objects, clock, SealerConfig::default())
    }

    /// Until every document is signed and in the store.
    pub async fn sealed(&self) -> anyhow::Result<()> {
        let sealer = self.sealer();
        loop {
            let pass = sealer.pass().await?;
            ensure!(pass.stalled == 0, "the sealer stalled: {pass:?}");
            if pass.unstored == 0 {
                return Ok(());
            }
        }
    }

    /// Plans a run over all logs and starts it.
    pub async fn run(&self, then: Then, codec: Codec) -> anyhow::Result<Started> {
        let (tenant, as_of) = (samples::tenant(), machine::now());
        let rules = RuleSet::new(vec![rule(self.policy, then)], Vec::new());
        let mut connection = self.worker.pool().acquire().await?;
        let xmin = self.snapshot().await?;
        let plan = self.plan(&rules, as_of, xmin).await?;
        let new = NewRun {
            id: Uuid::new_v4(),
            tenant: tenant.clone(),
            basis: Basis::Policy { id: self.policy, version: VERSION, slot: None },
            requester: json!({"key_id": "bench"}),
            then,
            archive: Some(json!({"codec": codec, "storage_class": "STANDARD"})),
            rules: None,
            as_of,
            notify: 0,
            correlation_id: "bench".into(),
        };
        store::begin_run(&mut connection, &new).await?;
        let kept = Planned {
            rules: serde_json::to_value(&rules)?,
            plan: serde_json::to_value(&plan)?,
            fingerprint: [7; 32],
            snapshot_xmin: xmin,
        };
        store::keep_plan(&mut connection, &tenant, new.id, &kept).await?;
        let units = units(new.id, &plan, codec);
        for units in units.chunks(UNITS_ADDED_MAX) {
            store::add_units(&mut connection, &tenant, new.id, units).await?;
        }
        store::start_run(&mut connection, &tenant, new.id).await?;
        Ok(Started { id: new.id, units })
    }

    async fn plan(&self, rules: &RuleSet, as_of: DateTime<Utc>, xmin: u64) -> anyhow::Result<Plan> {
        let (tenant, rules) = (samples::tenant(), Arc::new(rules.clone()));
        let planner = Planner::new(&tenant, rules, self.policy, as_of, xmin);
        let mut planner = planner.context("a policy of the rules")?;
        let (mut connection, mut after) = (self.worker.pool().acquire().await?, None);
        loop {
            match store::feed(&mut connection, &tenant, &mut planner, after).await? {
                Fed::More(place) => after = Some(place),
                Fed::End => return Ok(planner.finish(true)),
                Fed::Full => anyhow::bail!("more units than a plan takes"),
            }
        }
    }

    /// A snapshot that has all rows of before.
    async fn snapshot(&self) -> anyhow::Result<u64> {
        let mut connection = self.worker.pool().acquire().await?;
        let last: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
            .fetch_one(self.owner.pool())
            .await?;
        let last: u64 = last.parse()?;
        for _ in 0..1_000 {
            let xmin = store::snapshot_xmin(&mut connection).await?;
            if xmin > last {
                return Ok(xmin);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("a transaction of before does not end")
    }

    /// `ARCHIVE_BY_POLICY` of every unit.
    pub fn archive_messages(&self, run: &Started) -> anyhow::Result<Vec<Ready>> {
        let message = |unit: &NewUnit| {
            ready(&ArchiveMessage::ByPolicy(ArchiveByPolicy {
                run_id: run.id,
                unit_id: unit.id,
                policy_id: self.policy,
                policy_version: VERSION,
            }))
        };
        run.units.iter().map(message).collect()
    }

    /// `CLEANUP_ARCHIVED` of every unit that has a manifest.
    pub async fn cleanup_messages(&self, run: &Started) -> anyhow::Result<Vec<Ready>> {
        let units = self.units(run).await?;
        let sealed = units.iter().filter_map(|unit| Some((unit, unit.manifest?)));
        let messages = sealed.map(|(unit, manifest)| {
            ready(&CleanupMessage::Archived(CleanupArchived {
                run_id: unit.run_id,
                unit_id: unit.id,
                manifest_sequence: manifest.sequence,
                manifest_sha256: manifest.sha256.to_string(),
            }))
        });
        messages.collect()
    }

    /// The run's units as they stand.
    pub async fn units(&self, run: &Started) -> anyhow::Result<Vec<Unit>> {
        let (mut connection, mut found) = (self.worker.pool().acquire().await?, Vec::new());
        loop {
            let after = found.last().map_or(0, |unit: &Unit| unit.number);
            let tenant = samples::tenant();
            let page = store::units_of(&mut connection, &tenant, run.id, after, 500).await?;
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// The run as it stands.
    pub async fn state(&self, run: &Started) -> anyhow::Result<Run> {
        let mut connection = self.worker.pool().acquire().await?;
        let found = store::run(&mut connection, &samples::tenant(), run.id).await?;
        found.context("the run")
    }

    /// Ids of the events in the objects of a run's units, by the objects' own bytes.
    pub async fn archived(&self, run: &Started) -> anyhow::Result<Vec<u128>> {
        let mut ids = Vec::new();
        for unit in self.units(run).await? {
            let (Some(object), Some(codec)) = (&unit.object, unit.codec) else { continue };
            let file = std::fs::File::open(self.archive().join(object));
            let file = file.with_context(|| object.clone())?;
            let observed = evidence::object::survey(file, codec, |entry| {
                ids.push(entry.line.key.id.as_u128());
            })?;
            observed.contents.with_context(|| object.clone())?;
        }
        Ok(ids)
    }
}

fn rule(id: Uuid, then: Then) -> RulePolicy {
    RulePolicy {
        id,
        version: VERSION,
        name: "everything old".into(),
        filter: Filter::default(),
        keep: Term::of_days(KEPT_DAYS),
        then,
        priority: 0,
        legal_minimum: None,
        legal_maximum: None,
    }
}

fn units(run: RunId, plan: &Plan, codec: Codec) -> Vec<NewUnit> {
    let unit = |(number, unit): (u32, &audit::retention::Unit)| NewUnit {
        id: unit_id(run, number),
        number,
        work: NewWork::Archive(codec),
        range: KeyRange {
            class: unit.class,
            first: (unit.first.recorded_at, unit.first.id.0),
            last: (unit.last.recorded_at, unit.last.id.0),
        },
        planned: Tally { events: unit.tally.events, bytes: unit.tally.bytes },
    };
    (1..).zip(&plan.units).map(unit).collect()
}

fn ready<M: Message>(message: &M) -> anyhow::Result<Ready> {
    let header = samples::header(machine::now());
    let id = header.id.0.as_u128();
    let body = Envelope::wrap(header, message)?.to_json()?;
    Ok(Ready { id, body })
}
