//! Looking at queues and messages without consuming them: the page at `/` and the same as JSON.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::{App, dispatch};
use crate::broker::inspect::{MessageWindow, MessagesView, QueueWindow, QueuesView};
use crate::codec::urls;
use crate::model::{Caller, QueueArn};
use crate::page;

/// Queues of one page.
const QUEUES_MAX: usize = 1_000;
/// Messages of one page, and when nothing else is said.
const MESSAGES_MAX: usize = 500;
const MESSAGES: usize = 50;
/// Bytes of each body, and when nothing else is said.
const BODY_BYTES_MAX: usize = 65_536;
const BODY_BYTES: usize = 2_048;

/// What to look at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// A queue's ARN, URL or name; queues are listed without.
    queue: Option<String>,
    /// Part of queues' names.
    name: Option<String>,
    /// Where to begin: an ARN, or a message's number.
    from: Option<String>,
    limit: Option<usize>,
    body_bytes: Option<usize>,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(page).fallback(dispatch::answer))
        .route("/_sqs/queues", get(queues))
        .route("/_sqs/messages", get(messages))
}

/// The page; a signed or plain `GET /?Action=…` is a call, as on AWS.
async fn page(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| pair.starts_with("Action=")) {
        return dispatch::answer(State(app), request).await;
    }
    let wanted = match Query::<Wanted>::try_from_uri(request.uri()) {
        Ok(Query(wanted)) => wanted,
        Err(error) => return html(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let shown = match &wanted.queue {
        Some(_) => look_at_messages(&app, &wanted).map(|view| page::messages(&view)),
        None => look_at_queues(&app, &wanted)
            .map(|view| page::queues(&view, wanted.name.as_deref().unwrap_or_default())),
    };
    match shown {
        Ok(body) => html(StatusCode::OK, body),
        Err((status, problem)) => html(status, page::problem(&problem)),
    }
}

async fn queues(State(app): State<Arc<App>>, Query(wanted): Query<Wanted>) -> Response<Body> {
    json(look_at_queues(&app, &wanted))
}

async fn messages(State(app): State<Arc<App>>, Query(wanted): Query<Wanted>) -> Response<Body> {
    json(look_at_messages(&app, &wanted))
}

type Looked<T> = Result<T, (StatusCode, String)>;

fn look_at_queues(app: &App, wanted: &Wanted) -> Looked<QueuesView> {
    let from = wanted.from.as_deref().map(|text| {
        let arn = QueueArn::parse(text);
        arn.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("from: '{text}' is no queue's ARN")))
    });
    let window = QueueWindow {
        name: wanted.name.clone().filter(|name| !name.is_empty()),
        from: from.transpose()?,
        limit: limit(wanted.limit, QUEUES_MAX, QUEUES_MAX)?,
    };
    Ok(app.hub.inspect(|broker, now| broker.inspect_queues(now, &window)))
}

fn look_at_messages(app: &App, wanted: &Wanted) -> Looked<MessagesView> {
    let text = wanted.queue.as_deref().unwrap_or_default();
    let arn = QueueArn::parse(text).or_else(|| urls::parse(text, &Caller::default()));
    let from = wanted.from.as_deref().map_or(Ok(0), |text| {
        let wrong = |_| (StatusCode::BAD_REQUEST, format!("from: '{text}' is no message's number"));
        text.parse().map_err(wrong)
    })?;
    let body_bytes = wanted.body_bytes.unwrap_or(BODY_BYTES);
    if body_bytes > BODY_BYTES_MAX {
        let problem = format!("body_bytes: at most {BODY_BYTES_MAX}");
        return Err((StatusCode::BAD_REQUEST, problem));
    }
    let limit = limit(wanted.limit, MESSAGES, MESSAGES_MAX)?;
    let window = MessageWindow { from, limit, body_bytes };
    // Under the lock messages are only pointed at; they are copied and written after it.
    let look = arn
        .and_then(|arn| app.hub.inspect(|broker, now| broker.inspect_messages(now, &arn, window)));
    let unknown = || (StatusCode::NOT_FOUND, format!("queue: there is no '{text}'; say its ARN"));
    look.map(crate::broker::inspect::Look::copy).ok_or_else(unknown)
}

fn limit(asked: Option<usize>, default: usize, most: usize) -> Looked<usize> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err((StatusCode::BAD_REQUEST, format!("limit: 1 to {most}, not {limit}")))
    }
}

fn json(looked: Looked<impl Serialize>) -> Response<Body> {
    match looked {
        Ok(view) => axum::Json(view).into_response(),
        Err((status, problem)) => super::controls::refuse(status, &problem),
    }
}

fn html(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
