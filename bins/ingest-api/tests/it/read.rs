//! Finding, reading, changing and exporting what was accepted; and nothing of another tenant.

use std::collections::BTreeSet;

use contracts::audit::IndexMessage;
use reqwest::Method;
use serde_json::{Value, json};

use crate::queue::Published;
use crate::scene::{Scene, event, problem, told};

async fn accept(scene: &Scene, count: usize) -> Vec<String> {
    let events: Vec<Value> = (0..count).map(event).collect();
    let (status, body) = told(scene.post("/logs/bulk").json(&events).send().await.unwrap()).await;
    assert_eq!(status, 202, "{body}");
    let results = body["results"].as_array().unwrap();
    results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
}

async fn get(scene: &Scene, path: &str) -> (u16, Value) {
    told(scene.get(path).send().await.unwrap()).await
}

fn ids(page: &Value) -> Vec<String> {
    let logs = page["logs"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
    logs.iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_are_newest_first_and_stable_under_inserts() {
    let scene = Scene::new().await;
    let mut accepted = accept(&scene, 25).await;
    let stored = scene.store().await;
    let (status, first) = get(&scene, "/logs?limit=10").await;
    assert_eq!(status, 200, "{first}");
    accept(&scene, 5).await;
    stored.store(&scene.queue).await;
    let mut seen = ids(&first);
    let mut next = first["next_cursor"].as_str().map(str::to_owned);
    while let Some(cursor) = next {
        let (_, page) = get(&scene, &format!("/logs?limit=10&cursor={cursor}")).await;
        seen.extend(ids(&page));
        next = page["next_cursor"].as_str().map(str::to_owned);
    }
    accepted.reverse();
    assert_eq!(seen, accepted);
    let cursor = first["next_cursor"].as_str().unwrap();
    let other = get(&scene, &format!("/logs?limit=10&actor=u1&cursor={cursor}")).await;
    problem(&other, 400, "cursor-invalid");
    problem(&get(&scene, "/logs?cursor=AAAA").await, 400, "cursor-invalid");
    problem(&get(&scene, "/logs?limit=501").await, 400, "invalid-query");
    problem(&get(&scene, "/logs?colour=red").await, 400, "invalid-query");
    assert_eq!(ids(&get(&scene, "/logs?limit=500").await.1).len(), 30);
}

#[tokio::test]
async fn a_page_ends_at_eight_mebibytes_and_the_next_goes_on() {
    let scene = Scene::new().await;
    let mut large = event(1);
    large["metadata"]["filler"] = json!("x".repeat(255 * 1024));
    let mut accepted = Vec::new();
    for _ in 0..3 {
        let events = vec![large.clone(); 12];
        let request = scene.post("/logs/bulk").json(&events).send();
        let (status, body) = told(request.await.unwrap()).await;
        assert_eq!(status, 202, "{body}");
        let results = body["results"].as_array().unwrap();
        accepted.extend(results.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
    }
    accepted.reverse();
    scene.store().await;
    let record = scene.queue.items()[0].1.record.get().len();
    let fit = audit::http::PAGE_BYTES_MAX / record;
    assert!((2..36).contains(&fit), "{fit}");
    // As many as fit are shown and nothing is cut; with one more the page ends before it.
    let (_, page) = get(&scene, &format!("/logs?limit={fit}")).await;
    assert_eq!(ids(&page), accepted[..fit]);
    let (_, page) = get(&scene, &format!("/logs?limit={}", fit + 1)).await;
    assert_eq!(ids(&page), accepted[..fit]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, rest) = get(&scene, &format!("/logs?limit=500&cursor={cursor}")).await;
    assert_eq!(ids(&rest), accepted[fit..]);
    assert_eq!(rest["next_cursor"], Value::Null);
    // The last page of the search is cut, too: it has a next one.
    let (_, page) = get(&scene, "/logs?limit=500").await;
    assert_eq!((ids(&page).len(), page["next_cursor"].is_string()), (fit, true));
    let export = scene.get("/logs/export?format=ndjson").send().await.unwrap();
    let lines = export.text().await.unwrap();
    assert!(lines.ends_with("{\"_end\":{\"count\":36}}\n"), "{}", &lines[lines.len() - 60..]);
}

#[tokio::test]
async fn filters_find_one_among_many() {
    let scene = Scene::new().await;
    let accepted = accept(&scene, 5).await;
    scene.store().await;
    for query in ["actor=u3", "target=d3", "target=d3&target_type=doc", "metadata.n=3", "q=u3"] {
        let (status, page) = get(&scene, &format!("/logs?{query}")).await;
        assert_eq!((status, ids(&page)), (200, vec![accepted[3].clone()]), "{query}");
    }
    for query in ["actor=u9", "outcome=denied", "to=2020-01-01T00:00:00Z", "exists=metadata.m"] {
        assert!(ids(&get(&scene, &format!("/logs?{query}")).await.1).is_empty(), "{query}");
    }
    let log = &get(&scene, "/logs?actor=u3").await.1["logs"][0];
    assert_eq!((&log["event"], &log["revision"]), (&event(3), &json!(0)));
}

#[tokio::test]
async fn another_tenants_ids_are_404() {
    let scene = Scene::new().await;
    let id = accept(&scene, 1).await.remove(0);
    scene.store().await;
    assert_eq!(get(&scene, &format!("/logs/{id}")).await.0, 200);
    let absent = "0193e9a0-0000-7000-8000-000000000001";
    for (key, id) in [(&scene.foreign_key, id.as_str()), (&scene.key, absent), (&scene.key, "x")] {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let url = scene.url(&format!("/logs/{id}?reason=r"));
            let url = if method == Method::DELETE { url } else { url.replace("?reason=r", "") };
            let mut request = scene.client.request(method.clone(), url).bearer_auth(key);
            if method == Method::PATCH {
                request = request.json(&json!({"tags": ["a"]}));
            }
            problem(&told(request.send().await.unwrap()).await, 404, "not-found");
        }
    }
    let list = scene.client.get(scene.url("/logs")).bearer_auth(&scene.foreign_key);
    assert!(ids(&told(list.send().await.unwrap()).await.1).is_empty());
    assert_eq!(scene.queue.messages().len(), 1, "nothing was asked of the worker");
}

#[tokio::test]
async fn a_change_is_a_revision_and_an_erasure_a_request_with_a_reason() {
    let scene = Scene::new().await;
    let id = accept(&scene, 1).await.remove(0);
    let stored = scene.store().await;
    let path = format!("/logs/{id}");
    let request = scene.client.patch(scene.url(&path)).bearer_auth(&scene.key);
    let change = json!({"tags": ["seen", "ünïcode"], "annotation": "checked"});
    let (status, changed) = told(request.json(&change).send().await.unwrap()).await;
    assert_eq!((status, &changed["id"]), (202, &json!(id)), "{changed}");
    stored.store(&scene.queue).await;
    let (_, log) = get(&scene, &path).await;
    assert_eq!((&log["tags"], &log["annotation"]), (&change["tags"], &change["annotation"]));
    assert_eq!(log["event"], event(0), "the log itself is not edited");
    assert_eq!(log["revisions"][0]["operation_id"], changed["operation_id"]);
    for bad in [json!({}), json!({"tags": "x"}), json!({"tags": [""]}), json!({"action": "x"})] {
        let request = scene.client.patch(scene.url(&path)).bearer_auth(&scene.key).json(&bad);
        problem(&told(request.send().await.unwrap()).await, 422, "invalid-field");
    }
    let delete = || scene.client.delete(scene.url(&path)).bearer_auth(&scene.key);
    problem(&told(delete().send().await.unwrap()).await, 422, "invalid-field");
    let erase = delete().json(&json!({"reason": "GDPR 17"}));
    let (status, erased) = told(erase.send().await.unwrap()).await;
    assert_eq!(status, 202, "{erased}");
    let (header, message) = scene.queue.messages().pop().unwrap();
    let IndexMessage::Delete(message) = message else { panic!("{message:?}") };
    assert_eq!((message.reason.as_str(), message.log_id.to_string()), ("GDPR 17", id));
    assert_eq!(header.id.to_string(), erased["operation_id"].as_str().unwrap());
    assert_eq!(message.requester.key_id, crate::scene::key_id(&scene.key));
}

#[tokio::test]
async fn exports_are_whole_and_resume_where_they_broke_off() {
    let scene = Scene::new().await;
    let accepted: BTreeSet<String> = accept(&scene, 250).await.into_iter().collect();
    scene.store().await;
    let text = scene.get("/logs/export").send().await.unwrap().text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (logs, control): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line.get("id").is_some());
    let exported: BTreeSet<String> =
        logs.iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((logs.len(), &exported), (250, &accepted));
    assert_eq!(control.last().unwrap()["_end"]["count"], 250);
    let cursor = control[0]["_cursor"].as_str().unwrap();
    let at = lines.iter().position(|line| line.get("_cursor").is_some()).unwrap();
    let path = format!("/logs/export?cursor={cursor}");
    let rest = scene.get(&path).send().await.unwrap().text().await.unwrap();
    assert_eq!(rest.lines().count(), 250 - at + 2, "the rest, a cursor and the end");

    let text = scene.get("/logs/export?format=csv").send().await.unwrap().text().await.unwrap();
    let rows: Vec<&str> = text.split("\r\n").filter(|row| !row.is_empty()).collect();
    assert_eq!((rows.len(), rows[0].starts_with("id,recorded_at,")), (251, true));
    let cursor = rows[200].rsplit(',').next().unwrap();
    let path = format!("/logs/export?format=csv&cursor={cursor}");
    let rest = scene.get(&path).send().await.unwrap().text().await.unwrap();
    assert_eq!(
        rest.split("\r\n").filter(|row| !row.is_empty()).skip(1).collect::<Vec<_>>(),
        rows[201..]
    );
    problem(&get(&scene, "/logs/export?format=xml").await, 400, "invalid-query");
}
