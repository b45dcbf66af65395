//! Every kind of answer, through reqwest.

use std::time::Duration;

use serde_json::json;
use testkit::{Answer, Gate, HttpDouble};

#[tokio::test]
async fn answers_in_the_order_of_the_script_then_by_programme() {
    let double = HttpDouble::start().await;
    double.next([Answer::json(json!({"n": 1})), Answer::too_many(7)]);
    double.programme(|seen| Answer::status(200).body(seen.path.clone()));
    let client = reqwest::Client::new();

    let first = client.post(double.url()).body("hello").send().await.expect("an answer");
    assert_eq!(first.json::<serde_json::Value>().await.expect("JSON"), json!({"n": 1}));
    let second = client.get(double.url()).send().await.expect("an answer");
    assert_eq!(second.status(), 429);
    assert_eq!(second.headers()["retry-after"], "7");
    let third = client.get(format!("{}/a?b=c", double.url())).send().await.expect("an answer");
    assert_eq!(third.text().await.expect("a body"), "/a?b=c");

    let seen = double.asked(3).await;
    assert_eq!((seen[0].method.as_str(), seen[0].text().as_str()), ("POST", "hello"));
}

#[tokio::test]
async fn drops_after_reading_and_truncates() {
    let double = HttpDouble::start().await;
    let client = reqwest::Client::new();
    double.next([Answer::dropped()]);
    let dropped = client.post(double.url()).body("charge the card").send().await;
    assert!(dropped.is_err());
    assert_eq!(double.seen()[0].text(), "charge the card");

    double.next([Answer::status(200).body("0123456789").truncated_at(4)]);
    let head = client.get(double.url()).send().await.expect("a head");
    assert_eq!(head.content_length(), Some(10));
    assert!(head.bytes().await.is_err());
}

#[tokio::test]
async fn holds_an_answer_back_until_released() {
    let double = HttpDouble::start().await;
    let gate = Gate::closed();
    double.always(Answer::status(204).behind(&gate));
    let client = reqwest::Client::new();
    let mut waiting = tokio::spawn(client.get(double.url()).send());
    double.asked(1).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    gate.open();
    let answer = waiting.await.expect("joins").expect("an answer");
    assert_eq!(answer.status(), 204);
}
