//! A page in a browser that some other site serves changes nothing here; whoever is no such page is
//! served as ever.

use serde_json::json;

use crate::rig::Rig;
use crate::support::{Reply, http_at};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// What a browser adds for pages of other origins; the newer header is asked first.
const FOREIGN: [&str; 6] = [
    "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n",
    // Another port of this machine is the same site, and another origin.
    "Sec-Fetch-Site: same-site\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Origin: https://evil.example\r\n",
    "Origin: http://127.0.0.1:1\r\n",
    "Origin: null\r\n",
];

async fn form(rig: &Rig, headers: &str, path: &str, form: &str) -> Reply {
    http_at(rig.addr, "POST", path, &format!("{FORM}{headers}"), form.as_bytes()).await
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_in_either_protocol() {
    let rig = Rig::start(true, None).await;
    let url = rig.create("q", json!({})).await;
    rig.send(&url, "kept").await;
    let path = "/000000000000/q";
    for headers in FOREIGN {
        for (path, call) in [
            ("/", "Action=DeleteQueue&QueueUrl=q"),
            ("/", "Action=CreateQueue&QueueName=theirs"),
            (path, "Action=SendMessage&MessageBody=theirs"),
            (path, "Action=ReceiveMessage"),
        ] {
            let reply = form(&rig, headers, path, call).await;
            assert_eq!(reply.status, 403, "{headers}{call}: {reply:?}");
            assert!(reply.body.contains("<Code>AccessDenied</Code>"), "{reply:?}");
            assert!(reply.body.contains("another origin"), "it says why: {reply:?}");
        }
        // As an image's address, where nothing is said but the site.
        let image = format!("{path}?Action=PurgeQueue");
        let reply = http_at(rig.addr, "GET", &image, headers, b"").await;
        assert_eq!(reply.status, 403, "{headers}: {reply:?}");
        let json = format!(
            "{headers}Content-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: AmazonSQS.PurgeQueue\r\n"
        );
        let body = json!({ "QueueUrl": url }).to_string();
        let reply = http_at(rig.addr, "POST", "/", &json, body.as_bytes()).await;
        assert_eq!(
            (reply.status, reply.header("x-amzn-query-error")),
            (403, Some("AccessDenied;Sender"))
        );
        let expected = "com.amazon.coral.service#AccessDeniedException";
        assert_eq!(reply.json()["__type"], expected, "{headers}");
        let clock = format!("{headers}Content-Type: application/json\r\n");
        for (method, place) in
            [("POST", "/_sqs/clock"), ("PUT", "/_sqs/faults"), ("DELETE", "/_sqs/faults")]
        {
            let turned = http_at(rig.addr, method, place, &clock, b"{\"advance_ms\": 1}").await;
            assert_eq!(turned.status, 403, "{headers}{method} {place}: {turned:?}");
        }
    }
    assert_eq!(rig.depth(&url).await, [1, 0, 0]);
    assert_eq!(rig.get("/_sqs/clock").await.json()["ahead_ms"], 0);
    let queues = rig.get("/_sqs/queues").await.json()["queues"].as_array().unwrap().len();
    assert_eq!(queues, 1);
    rig.stop().await;
}

#[tokio::test]
async fn who_is_no_foreign_page_is_served() {
    let rig = Rig::start(false, None).await;
    rig.create("q", json!({})).await;
    let own = format!("Origin: http://{}\r\n", rig.addr);
    let secure = format!("Origin: https://{}\r\n", rig.addr);
    let path = "/000000000000/q";
    for headers in [
        "",
        own.as_str(),
        secure.as_str(),
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
        // A fetch of Node's: it names a mode and no site.
        "Sec-Fetch-Mode: cors\r\n",
        "Host: queues.test:9324\r\nOrigin: http://queues.test:9324\r\n",
    ] {
        let reply = form(&rig, headers, path, "Action=SendMessage&MessageBody=ours").await;
        assert_eq!(reply.status, 200, "{headers}: {reply:?}");
    }
    // A link on another site leads to the page, which only shows.
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    let page = http_at(rig.addr, "GET", "/", link, b"").await;
    assert_eq!(page.status, 200, "{page:?}");
    rig.stop().await;
}
