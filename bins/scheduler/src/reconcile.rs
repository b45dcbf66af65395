//! Reconciliation by the hour: what `fleetctl audit reconcile` finds without `--repair`, for every tenant,
//! where an archive is configured. It mends nothing: a person decides after a restore. A chain that was
//! rolled back or is broken is an alert; the other differences are figures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use audit::reconcile::{
    ChainState, Depth, Detail, FindingKind, Parts, ReconcileError, Reconciler, TenantReport, Window,
};
use chassis::BuildError;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use database::alerts::{AlertKey, Severity, raise, resolve};
use database::{Database, sqlx};
use queue_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::State;
use crate::config::SchedulerConfig;
use crate::events::{AlertRaised, Differs, DutyFailed, Reconciled};

/// The duty's name in logs and metrics.
const DUTY: &str = "reconcile";
/// The first round waits so long at most: a scheduler that was started has others to do first.
const FIRST: Duration = Duration::from_secs(300);
/// Hours that are compared: a day of them, the last one ending so long ago.
const LOOK_BACK: TimeDelta = TimeDelta::hours(24);
/// Younger logs are on their way.
const SETTLED: TimeDelta = TimeDelta::hours(1);
/// One tenant; what hangs there keeps nobody else waiting for longer.
const TENANT_TIMEOUT: Duration = Duration::from_secs(600);
/// Tenants that are asked for at once.
const TENANTS: i64 = 500;

/// What the duty works on; nothing where no archive is configured.
#[derive(Debug)]
pub(crate) struct Reconciling {
    database: Database,
    reconciler: Option<Reconciler>,
    every: Duration,
}

impl Reconciling {
    pub(crate) async fn open(
        config: &SchedulerConfig,
        database: &Database,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let every = Duration::from_secs(config.scheduler_reconcile_secs);
        let database = database.clone();
        let Some(objects) = config.archive.objects().await else {
            return Ok(Self { database, reconciler: None, every });
        };
        let search = sinks::search::open(&config.search, &database).await;
        let parts = Parts {
            database: database.clone(),
            owner: None,
            objects: Some(objects),
            heads: config.heads.objects().await,
            search: search.map_err(BuildError::failed)?,
            clock,
            keys: Vec::new(),
        };
        Ok(Self { database, reconciler: Some(Reconciler::new(parts)), every })
    }

    /// Round after round until `drain`. It writes nothing but alerts, so dropping it leaves nothing half
    /// done.
    pub(crate) async fn perform(
        &self,
        clock: &Arc<dyn Clock>,
        state: &State,
        drain: &CancellationToken,
    ) {
        let Some(reconciler) = &self.reconciler else { return };
        let mut wait = self.every.min(FIRST);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let now = clock.now();
            tokio::select! {
                () = drain.cancelled() => return,
                well = self.round(reconciler, now) => if well {
                    state.change(|snapshot| snapshot.reconciled_at = Some(now));
                }
            }
            wait = self.every;
        }
    }

    /// Every tenant once; whether all of them could be looked at.
    async fn round(&self, reconciler: &Reconciler, now: DateTime<Utc>) -> bool {
        let tenants = match tenants(reconciler).await {
            Ok(tenants) => tenants,
            Err(error) => {
                DutyFailed { duty: DUTY, error: &error }.emit();
                return false;
            }
        };
        let window = Window::new(now - SETTLED - LOOK_BACK, now - SETTLED, Detail::Totals);
        let mut differences: BTreeMap<FindingKind, u64> = BTreeMap::new();
        let mut well = true;
        for tenant in &tenants {
            let look = reconciler.look(tenant, window, Depth::Tail);
            match tokio::time::timeout(TENANT_TIMEOUT, look).await {
                Ok(Ok(report)) => {
                    for (kind, count) in &report.findings.counts {
                        *differences.entry(*kind).or_default() += count.found;
                    }
                    well &= self.tell(&report, now).await;
                }
                Ok(Err(error)) => {
                    // Not knowing is no reason to raise or to resolve anything.
                    let error = format!("{tenant}: {error}");
                    DutyFailed { duty: DUTY, error: &error }.emit();
                    well = false;
                }
                Err(_elapsed) => {
                    let error = format!("{tenant}: not compared within {TENANT_TIMEOUT:?}");
                    DutyFailed { duty: DUTY, error: &error }.emit();
                    well = false;
                }
            }
        }
        Reconciled { tenants: tenants.len(), differences: &differences }.emit();
        well
    }

    async fn tell(&self, report: &TenantReport, now: DateTime<Utc>) -> bool {
        let tenant = &report.tenant;
        for (kind, count) in &report.findings.counts {
            Differs { tenant, kind: *kind, found: count.found }.emit();
        }
        let put = self.alert(report, now).await;
        put.inspect_err(|error| DutyFailed { duty: DUTY, error }.emit()).is_ok()
    }

    /// The sealer's alert of the same kind is another: either may be found without the other.
    async fn alert(&self, report: &TenantReport, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        let Some(chain) = &report.chain else { return Ok(()) };
        let tenant = &report.tenant;
        let key = AlertKey::new(tenant.clone(), "chain-broken", "published");
        let mut connection = self.database.pool().acquire().await?;
        let title = match chain.state {
            ChainState::Whole => return resolve(&mut connection, &key, now).await.map(drop),
            ChainState::RolledBack => format!(
                "The archive's chain of {tenant} was rolled back from {} to {}",
                chain.published, chain.database
            ),
            ChainState::Broken => format!("The archive's chain of {tenant} is broken"),
        };
        let of_chain =
            |kind| matches!(kind, FindingKind::ChainBroken | FindingKind::ChainRolledBack);
        let found = report.findings.shown.iter().find(|finding| of_chain(finding.kind));
        let text = format!(
            "{}. PostgreSQL was restored to an earlier point, or somebody wrote where only the sealer writes. \
             Stop the archive, cleanup and retention workers, then run `fleetctl audit reconcile --tenant \
             {tenant}`.",
            found.map_or("", |finding| finding.detail.as_str())
        );
        let words = [title.as_str(), text.as_str()];
        let raised = raise(&mut connection, &key, Severity::Critical, words, now).await?;
        AlertRaised { key: &key, title: &title, raised }.emit();
        Ok(())
    }
}

/// Those that PostgreSQL or the archive knows.
async fn tenants(reconciler: &Reconciler) -> Result<BTreeSet<Tenant>, ReconcileError> {
    let mut tenants: BTreeSet<Tenant> = reconciler.published_tenants().await?.into_iter().collect();
    let mut after = String::new();
    loop {
        let page = reconciler.tenants(&after, TENANTS).await?;
        let Some(last) = page.last() else { return Ok(tenants) };
        last.as_str().clone_into(&mut after);
        tenants.extend(page);
    }
}
