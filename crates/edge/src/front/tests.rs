//! Room for request bodies: taken by what is announced, refused at once, given back with the body.
//! And what every answer has, also one to a handler that panics.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use clap::{Args, Command, FromArgMatches};
use database::api_keys::FoundKey;
use futures_util::stream;

use super::*;
use crate::auth::KeyStore;

struct NoKeys;

#[async_trait]
impl KeyStore for NoKeys {
    async fn find(&self, _key_id: &str) -> Result<Option<FoundKey>, String> {
        Ok(None)
    }

    async fn touch(&self, _key_ids: &[String], _at: DateTime<Utc>) -> Result<(), String> {
        Ok(())
    }
}

/// A gate with room for 4,096 bytes of bodies.
fn gate() -> Gate {
    let flags = ["edge", "--body-bytes-in-flight-max=4096"];
    let matches = EdgeConfig::augment_args(Command::new("edge")).get_matches_from(flags);
    let config = EdgeConfig::from_arg_matches(&matches).unwrap();
    let clock = Arc::new(queue_core::SystemClock);
    Gate::new(Arc::new(Authenticator::new(Arc::new(NoKeys), clock)), &config)
}

fn refused<T>(answer: Result<T, Problem>) -> (u16, &'static str) {
    let problem = answer.err().expect("there was room");
    (problem.code.status, problem.code.code)
}

#[tokio::test(start_paused = true)]
async fn bodies_have_room_up_to_the_limit_and_give_it_back() {
    let gate = gate();
    let body = |bytes: usize| Body::from(vec![b' '; bytes]);
    let large = gate.read_body(body(4_000), 8_192).await.unwrap();
    let exact = gate.read_body(body(96), 8_192).await.unwrap();
    assert_eq!(refused(gate.read_body(body(1), 8_192).await), (503, "overloaded"));
    assert_eq!(gate.read_body(body(0), 8_192).await.unwrap().len(), 0, "nothing needs no room");
    drop(exact);
    assert_eq!(refused(gate.read_body(body(97), 8_192).await), (503, "overloaded"));
    assert_eq!(gate.read_body(body(96), 8_192).await.unwrap().len(), 96);
    drop(large);
    assert_eq!(gate.read_body(body(4_096), 8_192).await.unwrap().len(), 4_096);
    assert_eq!(refused(gate.read_body(body(4_097), 8_192).await), (503, "overloaded"));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_takes_its_routes_limit() {
    let gate = gate();
    let of = |bytes: usize| {
        Body::from_stream(stream::iter([Ok::<_, std::io::Error>(vec![b' '; bytes])]))
    };
    let one = gate.read_body(of(10), 4_095).await.unwrap();
    assert_eq!(refused(gate.read_body(of(1), 2).await), (503, "overloaded"));
    assert_eq!(gate.read_body(of(1), 1).await.unwrap().len(), 1);
    drop(one);
    // What fails gives its room back as well.
    assert_eq!(refused(gate.read_body(of(4_097), 4_096).await), (413, "body-too-large"));
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    assert_eq!(refused(gate.read_body(never, 4_096).await), (408, "slow-client"));
    assert_eq!(gate.read_body(of(4_096), 4_096).await.unwrap().len(), 4_096);
}

#[tokio::test]
async fn a_handler_that_panics_is_a_problem_with_an_id_and_ends_nothing_else() {
    let routes = Router::new()
        .route("/panics", axum::routing::get(async || -> &'static str { panic!("row 17") }))
        .route("/works", axum::routing::get(async || "fine"));
    let api = front(routes, &Arc::new(gate()));
    let ask = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        tower::ServiceExt::oneshot(api.clone(), request).await.unwrap()
    };
    let answer = ask("/panics").await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    let id = answer.headers()[REQUEST_ID].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(answer.into_body(), 8_192).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&problem["code"], &problem["request_id"]), (&"internal".into(), &id.into()));
    assert!(!problem.to_string().contains("row 17"), "the panic's text is for the log");
    assert_eq!(ask("/works").await.status(), StatusCode::OK, "the permit is back");
}
