//! Where a call meets the faults that are on, and how a reply is lost: hyper closes a connection whose
//! service fails.

use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;

use super::{App, dispatch};
use crate::errors::SqsError;
use crate::faults;
use crate::model::Caller;

/// Marks a reply that is not sent: its connection is closed instead.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply is lost on purpose")]
pub(super) struct HangUp;

pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, HangUp>> + Send>>;

/// The router as hyper calls it.
pub(super) fn hanging_up(
    router: Router,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = HangUp, Future = Answering>
{
    let router = TowerToHyperService::new(router);
    service_fn(move |request| {
        let answer = router.call(request);
        let answering: Answering = Box::pin(async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<HangUp>() {
                Some(hang_up) => Err(*hang_up),
                None => Ok(response),
            }
        });
        answering
    })
}

/// One call through the faults that are on.
pub(super) async fn call(
    app: &App,
    parts: &Parts,
    caller: &Caller,
    request: crate::Request,
    hang_up: &mut bool,
) -> Result<crate::Response, SqsError> {
    let header = dispatch::text(parts, faults::HEADER);
    let outcome = app.faults.call(&app.hub, caller, request, header).await;
    *hang_up = outcome.hang_up;
    outcome.result
}
