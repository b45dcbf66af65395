//! A message whose body is packed: opened before it is judged like any other, within a bound on what
//! is open at the same time. Its object goes only when the broker has confirmed that the message is
//! gone after its work was done; a dead letter refers to it still. What is left in its place tells a
//! late duplicate from a body that was lost.

use contracts::{Body, Claim, EnvelopeId, Header, Message, Schedule, Tenant};

use super::decode::{self, Undecodable, Why};
use super::fate::{Case, Fate};
use super::handle::Answer;
use super::{Core, Taken};
use crate::attempts::History;
use crate::claim::Unopened;
use crate::decide::Event;
use crate::events::{self, Outcome};
use crate::lease::Cause;
use crate::worker::Worker;

impl<W: Worker> Core<W> {
    /// Opens the body, carries the message on, and removes the object where that was its end.
    pub(super) async fn work_packed(
        &self,
        taken: &Taken,
        header: Header,
        body: Body,
        history: History,
    ) -> Fate {
        let (tenant, id) = (header.tenant.clone(), header.id);
        let claim = match &body {
            Body::Claim(claimed) => Some(claimed.claim.clone()),
            Body::Inline(_) | Body::Gzip(_) => None,
        };
        let case = Case::of(taken, Some(header.clone()), history, Schedule::STANDARD);
        let fate = if self.settler.processed(&taken.received.message_id) {
            self.apply(&case, Event::Arrived, "").await
        } else {
            self.open(case, header, &body).await
        };
        let done =
            matches!(fate, Fate::Over { outcome: Outcome::Settled | Outcome::Dropped, gone: true });
        if let Some(claim) = claim.filter(|_| done) {
            self.let_go(&tenant, &claim, id).await;
        }
        fate
    }

    async fn open(&self, mut case: Case<'_>, header: Header, body: &Body) -> Fate {
        let lease = case.held.lease();
        let opened = tokio::select! {
            biased;
            () = lease.cancelled().cancelled() => {
                let why = lease.cause().unwrap_or(Cause::Lost);
                return self.conclude(&mut case, Answer::Cancelled(why)).await;
            }
            () = self.drain.cancelled() => return self.apply(&case, Event::Drained, "").await,
            opened = self.unpacker.open(&header, body) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(Unopened::Settled) => {
                self.settler.remember(&case.received.message_id);
                return self.apply(&case, Event::Arrived, "").await;
            }
            Err(Unopened::Never(code, reason)) => {
                return self.apply(&case, Event::Undecodable(code), &reason).await;
            }
            Err(Unopened::NotHere(reason)) => {
                return self.apply(&case, Event::Unknown, &reason).await;
            }
            Err(Unopened::Later(failure)) => {
                return self.conclude(&mut case, Answer::Failed(failure)).await;
            }
        };
        match decode::unpacked::<W::Message>(header, &opened.body) {
            Ok(decoded) => {
                case.schedule = decoded.message.schedule();
                let fate = self.arrive(case, decoded).await;
                drop(opened.room);
                fate
            }
            Err(Undecodable { why: Why::Never(code), reason, .. }) => {
                self.apply(&case, Event::Undecodable(code), &reason).await
            }
            Err(Undecodable { why: Why::Unknown, reason, .. }) => {
                self.apply(&case, Event::Unknown, &reason).await
            }
        }
    }

    /// What cannot be marked now is left to the store's lifecycle rule.
    async fn let_go(&self, tenant: &Tenant, claim: &Claim, message: EnvelopeId) {
        if let Err(error) = self.unpacker.settle(tenant, claim, message).await {
            events::ObjectLeft { key: &claim.key, error: &error }.emit(&self.meters);
        }
    }
}
