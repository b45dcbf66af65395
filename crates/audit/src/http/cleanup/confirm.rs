//! Starting a cleanup that was shown: the run, its message and its audit entries in one transaction. The
//! run's id follows from the token, so a repeat finds what the first request started, however late.

use chrono::DateTime;
use contracts::audit::Requester;
use contracts::audit::lifecycle::{ArchiveByDate, ArchiveMessage, Then};
use contracts::errors::CONFIRM_STALE;
use edge::Problem;
use serde_json::json;
use sqlx::PgConnection;
use tokio::time::Instant;

use super::shown::{Job, job};
use super::token::Confirmed;
use super::{Asked, KIND, rules_sha256};
use crate::archive::outgoing;
use crate::http::problems;
use crate::http::rule_change::{self, none};
use crate::ingest::query_time;
use crate::lifecycle::request::Request;
use crate::lifecycle::{Basis, NewRun};
use crate::retention::RuleSet;
use crate::retention::policy::ArchiveSpec;
use crate::store::{self, Begun, Large, policies};

impl Asked<'_> {
    /// The run of that token.
    pub(super) async fn start(&self, token: &str, until: Instant) -> Result<Job, Problem> {
        let confirmed = self.seal.open(token, self.draft.fingerprint())?;
        let (tenant, shown) = (&self.principal.tenant, confirmed.shown);
        let requester = rule_change::requester(self.principal, self.info);
        let told = json!({ "cleanup": self.told(), "events": shown.events, "bytes": shown.bytes,
                           "as_of": shown.as_of });
        let entries = rule_change::entries(
            self.principal,
            &requester,
            "flotilla.cleanup.requested",
            (KIND, confirmed.run),
            (told, self.now),
        )?;
        let starting = async {
            let mut transaction = self.api.database.tenant(tenant).await?;
            let happened = match self.begin(&mut transaction, &confirmed, &requester).await? {
                Ok(happened) => happened,
                Err(problem) => return Ok(Err(problem)),
            };
            let run = confirmed.run;
            let run = store::run_with(&mut transaction, tenant, run, Large::Neither).await?;
            rule_change::commit(transaction, happened, &entries).await?;
            Ok(Ok((happened, run)))
        };
        let done = database::timed(query_time(until), starting).await;
        let (happened, run) = done.map_err(problems::database)??;
        if happened {
            rule_change::announce(self.api, self.info, entries).await;
        }
        run.and_then(job).ok_or_else(|| none(KIND))
    }

    /// Whether it is new; refused where it is not what was shown any more.
    async fn begin(
        &self,
        transaction: &mut PgConnection,
        confirmed: &Confirmed,
        requester: &Requester,
    ) -> Result<Result<bool, Problem>, sqlx::Error> {
        let (tenant, id) = (&self.principal.tenant, confirmed.run);
        if store::run_with(transaction, tenant, id, Large::Neither).await?.is_some() {
            return Ok(Ok(false));
        }
        if let Err(problem) = confirmed.shown.check_age(self.now) {
            return Ok(Err(problem));
        }
        let rules = policies::rules(transaction, tenant, self.now).await?;
        if rules_sha256(&rules) != confirmed.shown.rules {
            let text = "a policy or a hold is another one than in the dry run";
            return Ok(Err(Problem::new(CONFIRM_STALE, text)));
        }
        let run = self.run(confirmed, &rules, requester)?;
        if store::begin_run(transaction, &run).await? != Begun::New {
            return Ok(Ok(false));
        }
        let message = ArchiveMessage::ByDate(ArchiveByDate {
            run_id: id,
            from: self.draft.from.unwrap_or(DateTime::UNIX_EPOCH),
            to: self.draft.before,
            then: run.then,
            requester: requester.clone(),
        });
        let begin = outgoing::begin(tenant, &run.correlation_id, self.now);
        outgoing::put(transaction, &begin, &message, self.now).await?;
        Ok(Ok(true))
    }

    fn run(
        &self,
        confirmed: &Confirmed,
        rules: &RuleSet,
        requester: &Requester,
    ) -> Result<NewRun, sqlx::Error> {
        let request = Request::Time {
            from: self.draft.from.unwrap_or(DateTime::UNIX_EPOCH),
            to: self.draft.before,
            filter: self.draft.filter.clone(),
            snapshot_xmin: Some(confirmed.shown.snapshot_xmin),
        };
        let json = |value: Result<_, serde_json::Error>| {
            value.map_err(|error| sqlx::Error::Encode(Box::new(error)))
        };
        Ok(NewRun {
            id: confirmed.run,
            tenant: self.principal.tenant.clone(),
            basis: Basis::Request(json(serde_json::to_value(request))?),
            requester: json(serde_json::to_value(requester))?,
            then: Then::ArchiveAndDelete,
            archive: Some(json(serde_json::to_value(ArchiveSpec::default()))?),
            rules: Some(json(serde_json::to_value(rules))?),
            // Nobody's token lets a legal minimum end early.
            as_of: confirmed.shown.as_of.min(self.now),
            notify: 0,
            correlation_id: self.info.correlation_id.clone(),
        })
    }
}
