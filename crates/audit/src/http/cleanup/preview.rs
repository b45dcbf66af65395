//! The dry run of a cleanup: the plan that its run would make, from the same stream and by the same rules,
//! as counts for a person, and the token that starts it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use contracts::LogId;
use contracts::audit::lifecycle::Then;
use contracts::errors::{INTERNAL, OVERLOADED};
use edge::{Problem, Scope};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::token::Shown;
use super::{Asked, rules_sha256};
use crate::archive::selection::rules_of;
use crate::http::SIMULATIONS_MAX;
use crate::http::access::Read;
use crate::retention::plan::{ActionTally, Place, Tally};
use crate::retention::{Filter, Plan, Planner, RuleSet};
use crate::store::{self, Fed, policies};

/// What a dry run may take; one that needs longer covers the oldest logs only, and has no token.
const PREVIEW_TIME: Duration = Duration::from_secs(20);

/// What a cleanup would do.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Preview {
    /// True: nothing was archived or deleted.
    dry_run: bool,
    /// Which logs.
    #[schema(value_type = crate::http::openapi::retention::FilterBody)]
    filter: Filter,
    /// Of them, those recorded at this time or later.
    #[schema(value_type = Option<String>)]
    from: Option<DateTime<Utc>>,
    /// Of them, those recorded before this time.
    #[schema(value_type = String)]
    before: DateTime<Utc>,
    /// The time that it was judged by.
    #[schema(value_type = String)]
    as_of: DateTime<Utc>,
    /// Whether every such log was looked at. If not, these are the oldest, up to `covers_until`, and there
    /// is no token: ask for less, with that time as `before`.
    complete: bool,
    /// The last log looked at, where not all were.
    #[schema(value_type = Option<String>)]
    covers_until: Option<DateTime<Utc>>,
    /// Logs that go.
    events: u64,
    /// Bytes of their records.
    bytes: u64,
    /// The oldest of them.
    #[schema(value_type = Option<String>)]
    oldest: Option<DateTime<Utc>>,
    /// The newest of them.
    #[schema(value_type = Option<String>)]
    newest: Option<DateTime<Utc>>,
    /// Those that go by action, the 20 most frequent.
    #[schema(value_type = Vec<Object>)]
    by_action: Vec<ActionTally>,
    /// Those of all other actions.
    #[schema(value_type = Object)]
    other_actions: Tally,
    /// Logs that match and stay, since a legal hold keeps them.
    held: u64,
    /// Logs that match and stay, since a policy's legal minimum is not over.
    below_legal_minimum: u64,
    /// Logs that match and stay, since a legal maximum contradicts a minimum.
    conflicts: u64,
    /// Which policies and holds were asked.
    rules_fingerprint: String,
    /// Starts this very cleanup, with this key; absent where nothing goes.
    confirm: Option<String>,
    /// How long it does.
    #[schema(value_type = Option<String>)]
    confirm_until: Option<DateTime<Utc>>,
}

impl Asked<'_> {
    /// Looks at everything and changes nothing.
    pub(super) async fn preview(&self) -> Result<Preview, Problem> {
        let Ok(_permit) = self.api.simulations.try_acquire() else {
            let detail = format!("{SIMULATIONS_MAX} simulations are being made");
            return Err(Problem::new(OVERLOADED, detail).retry_after(5));
        };
        let (tenant, now) = (&self.principal.tenant, self.now);
        let found =
            self.api.read(self.principal, Scope::LogsCleanup, |mut transaction| async move {
                let rules = policies::rules(&mut transaction, tenant, now).await?;
                Ok((rules, store::snapshot_xmin(&mut transaction).await?))
            });
        let (rules, snapshot_xmin) = found.await?;
        let plan = self.plan(&rules, snapshot_xmin).await?;
        let preview = self.shown(plan, &rules);
        let told = json!({ "cleanup": self.told(), "events": preview.events,
                           "held": preview.held,
                           "below_legal_minimum": preview.below_legal_minimum });
        let read = Read::new("flotilla.cleanup.previewed", self.principal, self.info);
        self.api.access.store(&read, told).await?;
        Ok(preview)
    }

    /// As the run will plan it, but for the id of the rule that stands for the request.
    async fn plan(&self, rules: &RuleSet, snapshot_xmin: u64) -> Result<Plan, Problem> {
        let (tenant, until) = (&self.principal.tenant, Instant::now() + PREVIEW_TIME);
        let rule = (Uuid::nil(), Then::ArchiveAndDelete);
        let rules = rules_of(rule, rules.clone(), self.draft.filter.clone());
        let planner = Planner::new(tenant, Arc::new(rules), rule.0, self.now, snapshot_xmin);
        let planner = planner.map(|planner| planner.before(self.draft.before));
        let mut planner =
            planner.ok_or_else(|| Problem::new(INTERNAL, "the rules lack the request's"))?;
        let start = |recorded_at| Place { recorded_at, id: LogId(Uuid::nil()) };
        let mut after = self.draft.from.map(start);
        loop {
            let feeding = &mut planner;
            let fed = self.api.read(
                self.principal,
                Scope::LogsCleanup,
                move |mut transaction| async move {
                    store::feed(&mut transaction, tenant, feeding, after).await
                },
            );
            match fed.await? {
                Fed::End => return Ok(planner.finish(true)),
                Fed::Full => return Ok(planner.finish(false)),
                Fed::More(_) if Instant::now() >= until => return Ok(planner.finish(false)),
                Fed::More(place) => after = Some(place),
            }
        }
    }

    fn shown(&self, plan: Plan, rules: &RuleSet) -> Preview {
        let shown = Shown {
            as_of: self.now,
            snapshot_xmin: plan.snapshot_xmin,
            events: plan.events,
            bytes: plan.bytes,
            request: self.draft.fingerprint(),
            rules: rules_sha256(rules),
        };
        let confirmable = plan.complete && plan.events > 0;
        Preview {
            dry_run: true,
            filter: self.draft.filter.clone(),
            from: self.draft.from,
            before: self.draft.before,
            as_of: self.now,
            complete: plan.complete,
            covers_until: plan.covers_until,
            events: plan.events,
            bytes: plan.bytes,
            oldest: plan.oldest,
            newest: plan.newest,
            by_action: plan.by_action,
            other_actions: plan.other_actions,
            held: plan.staying.held,
            below_legal_minimum: plan.staying.by_floor,
            conflicts: plan.staying.conflicts,
            rules_fingerprint: rules.fingerprint(),
            confirm: confirmable.then(|| self.seal.token(&shown)),
            confirm_until: confirmable.then(|| shown.expires_at()),
        }
    }
}
