//! Faults on purpose: what a queue service does to its callers on a bad day, when a test asks for it.
//! By a header on one request, or by rules (`rules`) that hold for all. Everything is decided from the
//! request, a seed and counters, so that a run can be repeated.
//!
//! What this never does: reach into the broker. A fault is something that a caller of the real service
//! could meet, made from ordinary calls and from a connection that is closed.

mod choice;
pub mod rules;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::errors::{ErrorKind, SqsError};
use crate::hub::Hub;
use crate::model::{Caller, Delivery, QueueArn};
use crate::operations::{Request, Response, VisibilityChange};
use choice::Choice;
use rules::{Plan, PlanError, PlanView};

/// The request header that asks for faults on that one request.
pub const HEADER: &str = "x-sqs-fault";

/// Which faults are on.
#[derive(Debug)]
pub(crate) struct Faults {
    /// Whether requests may ask for faults by themselves.
    by_header: bool,
    /// Whether there are rules: read on every call.
    any: AtomicBool,
    plan: Mutex<Plan>,
}

/// What a call came to.
pub(crate) struct Called {
    pub(crate) result: Result<Response, SqsError>,
    /// The connection is to be closed without a reply.
    pub(crate) hang_up: bool,
}

impl Faults {
    pub(crate) fn new(by_header: bool, plan: Plan) -> Self {
        let any = AtomicBool::new(!plan.is_empty());
        Self { by_header, any, plan: Mutex::new(plan) }
    }

    /// From now on these rules, their counters at zero.
    pub(crate) fn replace(&self, text: &[u8]) -> Result<PlanView, PlanError> {
        let plan = Plan::parse(text)?;
        let view = plan.view();
        self.any.store(!plan.is_empty(), Ordering::Relaxed);
        *self.lock() = plan;
        Ok(view)
    }

    /// The rules and how often each was met.
    pub(crate) fn view(&self) -> PlanView {
        self.lock().view()
    }

    /// One call through whatever faults are on.
    pub(crate) async fn call(
        &self,
        hub: &Hub,
        caller: &Caller,
        request: Request,
        header: Option<&str>,
    ) -> Called {
        if header.is_none() && !self.any.load(Ordering::Relaxed) {
            return Called { result: hub.call(caller, request).await, hang_up: false };
        }
        match self.choose(&request, header) {
            Ok(choice) => self.call_with(hub, caller, request, choice).await,
            Err(error) => Called { result: Err(error), hang_up: false },
        }
    }

    async fn call_with(
        &self,
        hub: &Hub,
        caller: &Caller,
        request: Request,
        mut choice: Choice,
    ) -> Called {
        tokio::time::sleep(choice.latency).await;
        if let Some(error) = choice.refusal.take() {
            return Called { result: Err(error), hang_up: false };
        }
        let queue = choice::queue(&request).cloned();
        let result = hub.call(caller, request).await;
        if let (Some(queue), Ok(Response::Received(got, _))) = (&queue, &result)
            && !got.is_empty()
        {
            self.lock().choose_for_messages(queue, &mut choice);
            if choice.duplicate
                && let Err(error) = show_again(hub, caller, queue, got).await
            {
                return Called { result: Err(error), hang_up: false };
            }
            choice.lost_reply |= choice.ghost_receive;
        }
        Called { result, hang_up: choice.lost_reply }
    }

    /// What is done before the call; what depends on messages being there is chosen after it.
    fn choose(&self, request: &Request, header: Option<&str>) -> Result<Choice, SqsError> {
        let mut choice = Choice::default();
        if let Some(text) = header {
            if !self.by_header {
                return Err(SqsError::new(
                    ErrorKind::UnsupportedOperation,
                    format!(
                        "The header {HEADER} asks for a fault, but test controls are off: start \
                         sqs-local with --test-controls."
                    ),
                ));
            }
            choice::by_header(text, request, &mut choice)?;
        }
        self.lock().choose(request, &mut choice);
        Ok(choice)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes messages that were just handed out visible at once: the next receive gets them again, as a
/// standard queue may do.
async fn show_again(
    hub: &Hub,
    caller: &Caller,
    queue: &QueueArn,
    got: &[Delivery],
) -> Result<(), SqsError> {
    let change = |delivery: &Delivery| VisibilityChange {
        receipt: Some(delivery.receipt.clone()),
        seconds: Some(0),
    };
    let entries = got.iter().enumerate().map(|(n, got)| (n.to_string(), change(got))).collect();
    let request = Request::ChangeMessageVisibilityBatch { queue: Some(queue.clone()), entries };
    // An entry that fails was deleted meanwhile: there is nothing to show again.
    hub.call(caller, request).await.map(|_| ())
}
