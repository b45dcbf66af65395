//! `fleetctl audit reconcile`: PostgreSQL, search and the archive side by side, per tenant and hour, and the
//! chain of each tenant against the one that was published. It changes nothing but with `--repair`, and
//! deletes nothing but with `--apply-receipts`, after asking.

use std::collections::BTreeSet;
use std::sync::Arc;

use audit::archive::HeadsConfig;
use audit::reconcile::{
    Author, ChainState, Depth, Detail, FindingKind, Findings, Parts, ReconcileError, Reconciler,
    Window,
};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use contracts::Tenant;
use database::Role;
use evidence::VerifyKey;
use indicatif::ProgressBar;
use queue_core::{Clock as _, SystemClock};
use sinks::objects::ArchiveConfig;
use sinks::search::SearchConfig;

use super::shown::{Shown, verdict};
use crate::author::{author, words};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Settings, confirm};

/// Looked at by default.
const DAYS: i64 = 7;
/// Logs that are younger are on their way.
const SETTLED: TimeDelta = TimeDelta::hours(1);
/// Tenants that are asked for at once.
const TENANTS: i64 = 500;

/// Compares the stores.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl audit reconcile
  fleetctl audit reconcile --tenant acme --from 2026-01-01T00:00:00Z --repair
  fleetctl audit reconcile --repair --apply-receipts --reason 'restore of 2026-11-30'
Exit codes: 0 nothing is left, 1 something is, 4 a chain is broken, 69 something does not answer.
The archive is that of ARCHIVE_BUCKET or ARCHIVE_DIR, heads also those of HEADS_BUCKET or HEADS_DIR. After a
restore of PostgreSQL stop the workers first.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Reconcile {
    /// Only this tenant; may be given again
    #[arg(long)]
    tenant: Vec<Tenant>,
    /// From this hour on (RFC 3339); by default 7 days back
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Before this hour (RFC 3339); by default the last whole hour, since younger logs are on their way
    #[arg(long)]
    to: Option<DateTime<Utc>>,
    /// Compare by ids, every hour: counts do not see one log too many beside one too few
    #[arg(long)]
    ids: bool,
    /// Put back what one store lacks and another proves
    #[arg(long)]
    repair: bool,
    /// Delete rows again that a restore brought back, where a signed receipt lists them
    #[arg(long, requires = "repair", requires = "reason")]
    apply_receipts: bool,
    /// Why, in words; it stands in the audit trail
    #[arg(long, value_parser = words)]
    reason: Option<String>,
    /// Who does it; by default the user of this terminal
    #[arg(long, value_parser = words)]
    by: Option<String>,
    /// Public key that is trusted besides those that PostgreSQL knows; may be given again
    #[arg(long, value_name = "KEY")]
    key: Vec<VerifyKey>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Reconcile {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let window = self.window()?;
        let reconciler = self.reconciler(settings).await?;
        if !reconciler.has_archive() && reconciler.knows_archive().await.map_err(failed)? {
            let hint = "set ARCHIVE_BUCKET or ARCHIVE_DIR as the workers have it";
            if self.repair {
                let text = "without the archive nobody can tell whether PostgreSQL was rolled back";
                return Err(Failure::config(text).hint(hint));
            }
            output.note(&format!("no archive is set: chains are not looked at; {hint}"));
        }
        if self.apply_receipts {
            let question = "Delete rows again that receipts list?";
            confirm(output, self.yes, question)?;
        }
        let author = Author {
            by: author(self.by.as_ref(), settings),
            reason: self.reason.clone().unwrap_or_else(|| "fleetctl audit reconcile".to_owned()),
        };
        let tenants = self.tenants(&reconciler).await?;
        let days = window.days().count() as u64;
        let bar = output.bar(Some(days.saturating_mul(tenants.len() as u64)));
        let mut shown = Vec::new();
        for tenant in &tenants {
            bar.set_message(tenant.to_string());
            shown.push(self.tenant(&reconciler, tenant, window, &author, &bar).await?);
        }
        bar.finish_and_clear();
        Shown::print(&shown, output);
        verdict(&shown, self.repair)
    }

    fn window(&self) -> Result<Window, Failure> {
        let now = SystemClock.now();
        let to = self.to.unwrap_or(now - SETTLED);
        let from = self.from.unwrap_or(to - TimeDelta::days(DAYS));
        let detail = if self.ids { Detail::Ids } else { Detail::Hours };
        let window = Window::new(from, to, detail);
        if window.from >= window.to {
            return Err(Failure::usage("there is no whole hour between --from and --to"));
        }
        Ok(window)
    }

    async fn reconciler(&self, settings: &Settings) -> Result<Reconciler, Failure> {
        let database = settings.database(Role::Worker)?;
        let owner = if self.repair { Some(settings.database(Role::Owner)?) } else { None };
        let search = sinks::search::open(&settings.read::<SearchConfig>()?, &database).await;
        let search = search.map_err(|error| Failure::config(format!("search: {error}")))?;
        search.probe().await.map_err(Failure::unavailable)?;
        let refreshed = search.refresh().await;
        refreshed.map_err(|error| Failure::unavailable(format!("search: {error}")))?;
        Ok(Reconciler::new(Parts {
            database,
            owner,
            objects: settings.read::<ArchiveConfig>()?.objects().await,
            heads: settings.read::<HeadsConfig>()?.objects().await,
            search,
            clock: Arc::new(SystemClock),
            keys: self.key.clone(),
        }))
    }

    /// Those that were named, or all that PostgreSQL or the archive knows.
    async fn tenants(&self, reconciler: &Reconciler) -> Result<BTreeSet<Tenant>, Failure> {
        if !self.tenant.is_empty() {
            return Ok(self.tenant.iter().cloned().collect());
        }
        let published = reconciler.published_tenants().await.map_err(failed)?;
        let mut tenants: BTreeSet<Tenant> = published.into_iter().collect();
        let mut after = String::new();
        loop {
            let page = reconciler.tenants(&after, TENANTS).await.map_err(failed)?;
            let Some(last) = page.last() else { return Ok(tenants) };
            last.as_str().clone_into(&mut after);
            tenants.extend(page);
        }
    }

    /// The chain first: a restore may have brought back what must not be found again.
    async fn tenant(
        &self,
        reconciler: &Reconciler,
        tenant: &Tenant,
        window: Window,
        author: &Author,
        bar: &ProgressBar,
    ) -> Result<Shown, Failure> {
        let mut shown = Shown::of(tenant);
        let mut findings = Findings::default();
        let mut whole = true;
        if reconciler.has_archive() {
            let standing = reconciler.standing(tenant, Depth::Whole, &mut findings);
            let standing = standing.await.map_err(failed)?;
            whole = standing.state == ChainState::Whole;
            if self.repair && standing.state != ChainState::Broken {
                let mended = self.mend(reconciler, tenant, author, &mut findings, &mut shown, bar);
                whole = mended.await?;
                if whole {
                    let numbers = &standing.unpublished;
                    let again = reconciler.publish_again(tenant, numbers, &mut findings).await;
                    whole = sound(again, tenant, &mut findings)?.is_some();
                }
            }
            shown.chain = Some(standing);
        }
        if whole && self.apply_receipts {
            let removed = reconciler.remove_proved(tenant, author, &mut findings).await;
            shown.removed = sound(removed, tenant, &mut findings)?;
        }
        for day in window.days() {
            let repair = self.repair && whole;
            let hours = reconciler.hours(tenant, day, repair, &mut findings).await;
            shown.hours.extend(hours.map_err(failed)?);
            bar.inc(1);
        }
        shown.findings = findings;
        Ok(shown)
    }

    /// Whether the chain is whole afterwards.
    async fn mend(
        &self,
        reconciler: &Reconciler,
        tenant: &Tenant,
        author: &Author,
        findings: &mut Findings,
        shown: &mut Shown,
        bar: &ProgressBar,
    ) -> Result<bool, Failure> {
        let watch = |done: u64, total: u64| {
            bar.set_message(format!("{tenant}: document {done} of {total} taken back"));
        };
        let mended = reconciler.mend(tenant, author, findings, &watch).await;
        let Some(mended) = sound(mended, tenant, findings)? else { return Ok(false) };
        shown.mended = mended;
        Ok(true)
    }
}

/// A chain that is broken is a finding, and the other tenants are looked at all the same.
fn sound<T>(
    done: Result<T, ReconcileError>,
    tenant: &Tenant,
    findings: &mut Findings,
) -> Result<Option<T>, Failure> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(ReconcileError::Broken(why)) => {
            findings.add(FindingKind::ChainBroken, tenant, &why);
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: ReconcileError) -> Failure {
    let text = error.to_string();
    match error {
        ReconcileError::Database(error) => Failure::database(&error),
        ReconcileError::Sink(_) => Failure::unavailable(text)
            .hint("check the archive's and the search engine's variables; what was done stands, run it again"),
        ReconcileError::NoKey(_) => {
            Failure::new(text).hint("--key KEY, as `fleetctl signing show` or an auditor has it")
        }
        ReconcileError::NoOwner(_) => Failure::new(text).hint("run it with --repair as the owner"),
        ReconcileError::Broken(_) | ReconcileError::Wrong(_) => Failure::new(text),
    }
}
