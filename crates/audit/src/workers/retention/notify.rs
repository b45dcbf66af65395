//! `POLICY_NOTIFICATION`: one target of a policy is told what became of a run, once by the ledger. Whether
//! it can be told changes nothing of the run; a target that takes nothing uses up its own message's
//! attempts and, since it is one tenant's and no part of ours, opens no breaker.

use contracts::audit::lifecycle::{PolicyNotification, RetentionMessage, RunEvent};
use contracts::errors::NOTIFY_REFUSED;
use queue_core::effects::{EffectKey, Outcome, once};
use queue_core::{Delivery, Error, Failure, Reason, Trouble};
use sinks::notify::{Notification, NotifyError, Severity};
use uuid::Uuid;

use super::{RetentionWorker, database};
use crate::crash::{CrashPoint, reach};
use crate::lifecycle::{Basis, Run};
use crate::retention::Policy;
use crate::store::{Large, policies};

/// In the ledger.
const SCOPE: &str = "retention.notify";

fn refused(message: String) -> Failure {
    Failure::Reject(Reason { code: NOTIFY_REFUSED, message })
}

/// A target that is down is its tenant's trouble.
fn failure(error: NotifyError) -> Failure {
    let (code, text) = (error.code(), error.to_string());
    match (error.trouble, error.retry_after) {
        (Trouble::UnknownOutcome | Trouble::Invalid, _) => error.into(),
        (_, Some(after)) => Failure::RetryAfter(Error::handling(code, text), after),
        (_, None) => Failure::Retry(Error::handling(code, text)),
    }
}

impl RetentionWorker {
    pub(super) async fn notify(
        &self,
        delivery: &Delivery<RetentionMessage>,
        message: &PolicyNotification,
    ) -> Result<(), Failure> {
        let tenant = &delivery.header.tenant;
        let run = self.run(tenant, message.run_id, Large::Neither).await?;
        let Basis::Policy { id, version, .. } = run.new.basis else {
            return Err(refused(format!("run {} is no policy's", message.run_id)));
        };
        let policy = {
            let mut connection =
                self.database.pool().acquire().await.map_err(|error| database(&error))?;
            policies::version(&mut connection, tenant, id, version).await
        };
        let policy = policy.map_err(|error| database(&error))?;
        let policy =
            policy.ok_or_else(|| refused(format!("policy {id} has no version {version}")))?;
        let wanted = usize::try_from(message.target).ok();
        let wanted = wanted.and_then(|at| policy.spec.notify.get(at)).ok_or_else(|| {
            refused(format!("version {version} of policy {id} has no target {}", message.target))
        })?;
        let target = self.targets.find(tenant, wanted).map_err(refused)?;
        let notification = notification(&run, &policy, message.event, self.now());
        let name = format!("{}/{}", notification.id, target.fingerprint());
        let key = EffectKey::named(SCOPE, tenant.clone(), &name);
        let told = async {
            let receipt = self.notifier.deliver(&notification, &target).await.map_err(failure)?;
            reach(CrashPoint::AfterNotified);
            Ok(Outcome::new(receipt.said).unwrap_or_default())
        };
        once(&*self.effects, delivery, &key, target.promise(), told).await?;
        Ok(())
    }
}

/// What people read.
fn notification(
    run: &Run,
    policy: &Policy,
    event: RunEvent,
    now: chrono::DateTime<chrono::Utc>,
) -> Notification {
    let name = &policy.spec.name;
    let why = run.failure.clone().unwrap_or_default();
    let (word, severity, title, text) = match event {
        RunEvent::Braked => (
            "braked",
            Severity::Warning,
            format!("Retention of {name} waits for an approval"),
            format!(
                "{why}\nLook at the run, then approve it with a key that neither wrote the \
                 policy nor started the run (fleetctl policies approve {} {}), or cancel it.",
                policy.id, run.new.id
            ),
        ),
        RunEvent::Done => {
            ("done", Severity::Info, format!("Retention of {name} is done"), String::new())
        }
        RunEvent::Failed => {
            ("failed", Severity::Critical, format!("Retention of {name} has failed"), why)
        }
    };
    let counters = &run.counters;
    let count = |what: &str, events: u64| (what.to_owned(), events.to_string());
    Notification {
        id: Uuid::new_v5(&run.new.id, word.as_bytes()),
        tenant: run.new.tenant.clone(),
        kind: format!("retention.run.{word}"),
        severity,
        title,
        text,
        fields: vec![
            ("policy".to_owned(), format!("{} version {}", policy.id, policy.version)),
            ("run".to_owned(), run.new.id.to_string()),
            count("planned", counters.planned.events),
            count("archived", counters.archived.events),
            count("deleted", counters.deleted.events),
            count("held", counters.held.events),
            count("gone", counters.gone.events),
            count("failed", counters.failed.events),
        ],
        link: None,
        correlation_id: run.new.correlation_id.clone(),
        at: run.ended_at.unwrap_or(now),
    }
}
