//! The page at `/` and its JSON: everything is shown, nothing is consumed, nothing is markup.

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::support::{http, http_at};

const EVIL: &str = "<script>alert('x')</script>&\"";

async fn scene() -> (Rig, String) {
    let rig = Rig::start(false, None).await;
    let dead = rig.create("dead", json!({})).await;
    let policy = json!({ "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 1 });
    let url = rig.create("q", json!({ "RedrivePolicy": policy.to_string() })).await;
    rig.send(&url, "poison").await;
    for _ in 0..2 {
        rig.ok("ReceiveMessage", json!({ "QueueUrl": url, "VisibilityTimeout": 0 })).await;
    }
    assert_eq!(rig.depth(&dead).await, [1, 0, 0]);
    rig.send(&url, "leased").await;
    assert_eq!(rig.receive(&url).await, ["leased"]);
    rig.ok("SendMessage", json!({ "QueueUrl": url, "MessageBody": "later", "DelaySeconds": 900 }))
        .await;
    let attributes = json!({
        EVIL.replace(|c: char| !c.is_ascii_alphanumeric(), "_"): { "DataType": "String", "StringValue": EVIL },
        "binary": { "DataType": "Binary", "BinaryValue": "AP8=" },
    });
    rig.ok(
        "SendMessage",
        json!({ "QueueUrl": url, "MessageBody": EVIL, "MessageAttributes": attributes, "MessageGroupId": "<b>" }),
    )
    .await;
    (rig, url)
}

#[tokio::test]
async fn every_message_is_shown_in_its_state_and_none_is_consumed() {
    let (rig, url) = scene().await;
    let before = rig.depth(&url).await;
    assert_eq!(before, [1, 1, 1]);
    for _ in 0..3 {
        rig.get("/").await;
        rig.get("/?queue=q").await;
    }
    let listed = rig.get("/_sqs/queues").await.json();
    let counts =
        |queue: &Value| ["visible", "in_flight", "delayed"].map(|name| queue[name].clone());
    assert_eq!(listed["queues"][1]["name"], "q");
    assert_eq!(counts(&listed["queues"][1]), [json!(1), json!(1), json!(1)]);
    assert_eq!(
        listed["queues"][0]["dead_letter_sources"],
        json!(["arn:aws:sqs:us-east-1:000000000000:q"])
    );
    let shown = rig.get(&format!("/_sqs/messages?queue={url}")).await.json();
    let states: Vec<_> = shown["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            (m["body"].as_str().unwrap(), m["state"].as_str().unwrap(), m["receives"].as_u64())
        })
        .collect();
    assert_eq!(
        states,
        [
            ("leased", "in_flight", Some(1)),
            ("later", "delayed", Some(0)),
            (EVIL, "visible", Some(0))
        ]
    );
    assert_eq!(shown["messages"][2]["attributes"][1]["value"], "00ff");
    let dead = rig.get("/_sqs/messages?queue=dead").await.json();
    assert_eq!(dead["messages"][0]["dead_letter_source"], "arn:aws:sqs:us-east-1:000000000000:q");
    assert_eq!(rig.depth(&url).await, before);
    assert_eq!(rig.receive(&url).await, [EVIL], "it was there for a receive");
    rig.stop().await;
}

#[tokio::test]
async fn what_a_message_holds_is_text_on_a_page_without_scripts() {
    let (rig, _) = scene().await;
    for path in ["/", "/?queue=q", "/?queue=dead", "/?name=%3Cscript%3E", "/?queue=%3Cscript%3E"] {
        let page = rig.get(path).await;
        assert!(!page.body.contains("<script"), "{path}: {}", page.body);
        assert!(!page.body.contains("<b>"), "{path}");
        assert!(
            !page.body.contains("http://") && !page.body.contains("https://"),
            "{path}: assets"
        );
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("script"), "{policy}");
    }
    let page = rig.get("/?queue=q").await.body;
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"), "{page}");
    for text in ["in flight for", "delayed for", "visible", "RedrivePolicy", "1 in flight"] {
        assert!(page.contains(text), "{text} in {page}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn long_bodies_are_cut_and_many_messages_paged() {
    let rig = Rig::start(false, None).await;
    let url = rig.create("q", json!({})).await;
    rig.send(&url, &"☃".repeat(1_000)).await;
    for n in 0..5 {
        rig.send(&url, &n.to_string()).await;
    }
    let page = rig.get("/?queue=q").await.body;
    assert!(page.contains("the first 2046 of 3000 bytes"), "{page}");
    let mut from = 0;
    let mut seen = Vec::new();
    loop {
        let path = format!("/_sqs/messages?queue=q&limit=2&from={from}&body_bytes=4");
        let shown = rig.get(&path).await.json();
        let messages = shown["messages"].as_array().unwrap();
        assert!(messages.len() <= 2);
        seen.extend(messages.iter().map(|m| m["body"].as_str().unwrap().to_owned()));
        match shown["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(seen, ["☃", "0", "1", "2", "3", "4"]);
    let queues = rig.get("/_sqs/queues?name=none").await.json();
    assert_eq!(queues, json!({ "queues": [], "next": null }));
    rig.stop().await;
}

#[tokio::test]
async fn wrong_questions_are_answered_with_what_is_right() {
    let rig = Rig::start(false, None).await;
    rig.create("q", json!({})).await;
    for (path, status, text) in [
        ("/_sqs/messages?queue=none", 404, "there is no 'none'"),
        ("/_sqs/messages", 404, "say its ARN"),
        ("/_sqs/messages?queue=q&limit=501", 400, "1 to 500"),
        ("/_sqs/messages?queue=q&limit=0", 400, "1 to 500"),
        ("/_sqs/messages?queue=q&body_bytes=65537", 400, "at most 65536"),
        ("/_sqs/messages?queue=q&from=x", 400, "no message's number"),
        ("/_sqs/queues?from=x", 400, "no queue's ARN"),
        ("/_sqs/queues?limit=x", 400, "limit"),
    ] {
        let reply = rig.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.body.contains(text), "{path}: {}", reply.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_call_in_the_query_of_a_get_is_a_call_and_a_post_is_never_the_page() {
    let rig = Rig::start(false, None).await;
    let listed = rig.get("/?Action=ListQueues").await;
    assert_eq!(listed.header("content-type"), Some("text/xml"));
    assert!(listed.body.contains("<ListQueuesResponse"), "{}", listed.body);
    let posted = http(rig.addr, "POST", "", b"").await;
    assert_eq!((posted.status, posted.header("content-type")), (404, Some("text/xml")));
    let put = http_at(rig.addr, "POST", "/_sqs/queues", "", b"").await;
    assert_eq!(put.status, 405);
    rig.stop().await;
}
