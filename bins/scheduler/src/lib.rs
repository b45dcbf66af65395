//! Everything that time starts: the partitions of the coming days and the end of empty ones, the ageing of
//! small tables, alerts and the slots of retention policies. Beside that, whether it is the active one or not,
//! it relays what waits in the outbox to the queues whose URL is set. Any number of schedulers may run; the one
//! that holds the lease in PostgreSQL works, the others wait to follow it.
//!
//! What it never does: delete a log, drop a partition that holds one, or do work that would not be harmless
//! twice (a holder that slept past its term may still be finishing something).

mod alerts;
pub mod config;
pub mod duties;
pub mod events;
pub mod queues;
mod reconcile;
mod retirement;
mod schedules;
pub mod supply;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::{App, BuildError, Context, Ended, Problem};
use chrono::{DateTime, Utc};
use database::leader::{self, Lease};
use database::outbox::{self, Relay};
use database::{Database, PostgresEffects, Role};
use queue_core::Clock;
use serde::Serialize;
use sinks::notify::Channels;
use sinks::notify::alerts::AlertSender;
use tokio_util::sync::CancellationToken;

pub use config::SchedulerConfig;

use crate::alerts::Alerts;
use crate::duties::Duties;
use crate::events::{FiguresLeft, LeaseCallFailed, LeaseGained, LeaseLost};
use crate::reconcile::Reconciling;
use crate::retirement::Retirement;
use crate::supply::PartitionSupply;

/// The lease all schedulers of a database compete for.
pub const LEASE: &str = "scheduler";
/// How long a drain waits for the duty at hand; an alert that takes longer is a doubt.
const FINISH_LIMIT: Duration = Duration::from_secs(10);
/// How long giving the lease back may hold up the end of the process; its term ends anyway.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// One scheduler.
#[derive(Debug)]
pub struct Scheduler {
    database: Database,
    config: SchedulerConfig,
    holder: String,
    alerts: Alerts,
    reconciling: Reconciling,
    state: Arc<State>,
}

/// What `/status` shows.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Snapshot>);

/// What a scheduler is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Whether it holds the lease.
    pub leading: bool,
    /// The lease's epoch while it does.
    pub epoch: Option<i64>,
    /// When each duty last ended well, by this process.
    pub partitions_at: Option<DateTime<Utc>>,
    /// As above.
    pub ageing_at: Option<DateTime<Utc>>,
    /// As above; only where large bodies are in a directory.
    pub sweep_at: Option<DateTime<Utc>>,
    /// As above.
    pub alerts_at: Option<DateTime<Utc>>,
    /// As above.
    pub schedules_at: Option<DateTime<Utc>>,
    /// As above.
    pub retirement_at: Option<DateTime<Utc>>,
    /// As above.
    pub attended_at: Option<DateTime<Utc>>,
    /// As above; only where an archive is configured.
    pub reconciled_at: Option<DateTime<Utc>>,
}

impl State {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App for Scheduler {
    const NAME: &'static str = "scheduler";
    const ABOUT: &'static str = "Makes partitions ahead of time, drops empty ones of long ago, ages out small tables, tells alerts, follows policies' schedules; one is active at a time.";
    type Config = SchedulerConfig;

    fn check(config: &Self::Config) -> Vec<Problem> {
        config.check()
    }

    async fn build(config: Self::Config, context: &Context) -> Result<Self, BuildError> {
        let database =
            Database::connect(&config.database, Role::Worker).map_err(BuildError::failed)?;
        let holder = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let scheduler = Self {
            alerts: alerts(&config, &database, &holder, context).await?,
            reconciling: Reconciling::open(&config, &database, context.clock()).await?,
            holder,
            state: Arc::default(),
            config,
            database: database.clone(),
        };
        context.readiness().register(Arc::new(database.clone()));
        context.readiness().register(Arc::new(PartitionSupply::new(database, context.clock())));
        let state = scheduler.state.clone();
        context.status().register("scheduler", move || serde_json::json!(state.snapshot()));
        Ok(scheduler)
    }

    async fn run(self, context: Context, drain: CancellationToken) -> Result<Ended, BuildError> {
        tokio::join!(self.until(context.clock(), drain.clone()), self.relay(drain));
        Ok(Ended::Drained)
    }
}

async fn alerts(
    config: &SchedulerConfig,
    database: &Database,
    holder: &str,
    context: &Context,
) -> Result<Alerts, BuildError> {
    let channels = Channels::new(&config.notify, context.clock())
        .map_err(|invalid| BuildError::from(config::invalid(invalid)))?;
    let sender = AlertSender::new(
        Arc::new(channels),
        Arc::new(PostgresEffects::new(database)),
        config.alerts.targets(),
        format!("scheduler {holder}"),
    );
    Ok(Alerts {
        database: database.clone(),
        queues: config.queues.open(&config.aws).await?,
        sender,
        times: config.alerts.times(),
    })
}

impl Scheduler {
    /// Sends what the outbox holds, until `drain`. Any number of relays may run: of each queue one has
    /// its turn.
    async fn relay(&self, drain: CancellationToken) {
        let watched = self.alerts.queues.iter();
        let routes: Vec<_> = watched
            .map(|watched| (watched.spec, outbox::sender(Arc::clone(&watched.queue))))
            .collect();
        if routes.is_empty() {
            tracing::warn!(
                "no queue's URL is set here: what waits in the outbox is another's to send"
            );
            return;
        }
        Relay::new(&self.database, routes).run(drain).await;
    }

    /// Competes for the lease and works while it holds it, until `drain`.
    async fn until(&self, clock: Arc<dyn Clock>, drain: CancellationToken) {
        while !drain.is_cancelled() {
            let wait = tokio::select! {
                () = drain.cancelled() => return,
                lease = self.acquire() => match lease {
                    Some(lease) => {
                        Box::pin(self.lead(lease, &clock, &drain)).await;
                        Duration::ZERO
                    }
                    None => self.config.lease() / 3,
                },
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn acquire(&self) -> Option<Lease> {
        let pool = self.database.pool();
        match leader::acquire(pool, LEASE, &self.holder, self.config.lease()).await {
            Ok(lease) => lease,
            Err(error) => {
                LeaseCallFailed { doing: "take", error: &error }.emit();
                None
            }
        }
    }

    /// Works until the lease is lost or the process drains.
    async fn lead(&self, lease: Lease, clock: &Arc<dyn Clock>, drain: &CancellationToken) {
        LeaseGained { epoch: lease.epoch }.emit();
        self.state.change(|now| (now.leading, now.epoch) = (true, Some(lease.epoch)));
        let mut duties = Duties::new(
            self.database.clone(),
            self.config.claims.files(),
            self.alerts.clone(),
            clock.clone(),
            self.state.clone(),
        );
        let overdue = async {
            drain.cancelled().await;
            tokio::time::sleep(FINISH_LIMIT).await;
        };
        let interval = Duration::from_secs(self.config.scheduler_interval_secs);
        let schedules = schedules::perform(&self.database, clock, &self.state, (interval, drain));
        let retirement = Retirement {
            database: &self.database,
            clock,
            state: &self.state,
            drop_after: retirement::span(self.config.partition_drop_after),
        };
        let retirement = retirement.perform(interval, drain);
        let stores = self.reconciling.perform(clock, &self.state, drain);
        let lost = tokio::select! {
            _ = async { tokio::join!(duties.perform(interval, drain), schedules, retirement, stores) } => false,
            () = self.keep(&lease) => true,
            () = overdue => false,
        };
        self.state.change(|now| (now.leading, now.epoch) = (false, None));
        LeaseLost { epoch: lease.epoch, to_another: lost }.emit();
        if lost {
            let queues: Vec<_> = self.alerts.queues.iter().map(|watched| watched.spec).collect();
            FiguresLeft { queues: &queues }.emit();
        } else {
            // A failure leaves the lease to its term.
            tokio::time::timeout(RELEASE_LIMIT, lease.release(self.database.pool())).await.ok();
        }
    }

    /// Renews the lease; returns when it is lost, or may be since nobody could be asked for its
    /// whole term.
    async fn keep(&self, lease: &Lease) {
        let mut held_until = tokio::time::Instant::now() + lease.ttl;
        loop {
            tokio::time::sleep(lease.ttl / 3).await;
            // The new term runs from the server's answer, so at least from our asking.
            let asked = tokio::time::Instant::now();
            let renewal = tokio::time::timeout_at(held_until, lease.renew(self.database.pool()));
            match renewal.await {
                Ok(Ok(true)) => held_until = asked + lease.ttl,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => LeaseCallFailed { doing: "renew", error: &error }.emit(),
                Err(_elapsed) => {}
            }
            if tokio::time::Instant::now() >= held_until {
                return;
            }
        }
    }
}
