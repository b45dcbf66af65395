//! Commands that read a running fleet: search, the live tail, and the comparison of what was accepted
//! with what is there.

use std::collections::BTreeSet;

use database::{Role, sqlx};

use crate::fleet::{Api, Fleet, TENANT, Typed};

#[tokio::test(flavor = "multi_thread")]
async fn search_finds_by_words_and_filters_page_after_page() {
    let fleet = Fleet::start().await;
    let mut doors = Vec::new();
    for _ in 0..3 {
        doors.push(fleet.post("door.opened").await);
    }
    let window = fleet.post("window.opened").await;
    fleet.found("door.opened", 3).await;
    fleet.found("window.opened", 1).await;

    let all = fleet.type_in(&["search", "opened", "--json"]).await.ok().lines();
    assert_eq!(all.len(), 4);
    let filters = ["search", "opened", "--action", "window.opened", "--actor", "ana", "--json"];
    let one = fleet.type_in(&filters).await.ok().lines().remove(0);
    assert_eq!((&one["id"], &one["tenant"]), (&window.into(), &TENANT.into()));

    let table = fleet.type_in(&["search", "--action", "door.opened", "--limit", "2"]).await.ok();
    let rows: Vec<&str> = table.out.lines().collect();
    assert!(rows[0].starts_with("RECORDED") && rows.len() == 3, "{table:?}");
    let cursor = table.err.trim().strip_prefix("more: --cursor ").unwrap();
    let words = ["search", "--action", "door.opened", "--limit", "2", "--cursor", cursor];
    let last = fleet.type_in(&words).await.ok();
    let id = |row: &str| row.split_whitespace().last().unwrap().to_owned();
    let shown: BTreeSet<String> = rows
        .into_iter()
        .chain(last.out.lines())
        .filter(|r| !r.starts_with("REC"))
        .map(id)
        .collect();
    assert_eq!(shown, doors.into_iter().collect());

    let none = fleet.type_in(&["search", "nothing-like-it"]).await.ok();
    assert_eq!((none.out.as_str(), none.err.trim()), ("", "nothing fits"));
    let stranger = fleet.with("FLOTILLA_API_KEY", "flt_live_abcdefgh_0123456789abcdef");
    let refused = crate::command::fleetctl(&stranger, &["search", "opened", "--json"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let told: serde_json::Value = serde_json::from_str(refused.err.trim()).unwrap();
    assert!(told["error"].as_str().unwrap().contains("401"), "{told}");
    assert!(told["hint"].is_string(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_logs_as_they_come_and_misses_none_while_the_api_is_away() {
    let fleet = Fleet::start().await;
    let mut api = Api::beside(&fleet).await;
    let words = ["tail", "--action", "door.opened", "--count", "9"];
    let mut tail = Typed::start(&fleet.with("FLOTILLA_URL", &api.url()), &words);
    tail.remarks("following").await;

    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    let id = |line: String| line.split_whitespace().last().unwrap().to_owned();
    for _ in 0..3 {
        sent.push(fleet.post("door.opened").await);
        fleet.post("window.opened").await;
        seen.push(id(tail.line().await.unwrap()));
    }
    assert_eq!(seen, sent, "live, one after the other");

    api.kill().await;
    tail.remarks("going on from the cursor").await;
    for _ in 0..3 {
        sent.push(fleet.post("door.opened").await);
    }
    fleet.found("door.opened", 6).await;
    api.start(&fleet).await;
    for _ in 0..3 {
        sent.push(fleet.post("door.opened").await);
    }
    while let Some(line) = tail.line().await {
        seen.push(id(line));
    }
    assert_eq!(seen.len(), 9, "each once: {seen:?}");
    assert_eq!(BTreeSet::from_iter(seen), BTreeSet::from_iter(sent));
    let remark = tail.remarks("to go on from here: fleetctl tail --after ").await;
    assert_eq!(tail.ended().await, Some(0));

    // Where it stopped, another goes on.
    let cursor = remark.rsplit(' ').next().unwrap();
    let words = ["tail", "--action", "door.opened", "--after", cursor, "--count", "1", "--json"];
    let next = Typed::start(&fleet.variables, &words);
    let posted = fleet.post("door.opened").await;
    let mut next = next;
    let line: serde_json::Value = serde_json::from_str(&next.line().await.unwrap()).unwrap();
    assert_eq!(line["id"], posted);
    assert_eq!(next.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_tells_a_lost_log_from_a_whole_set() {
    let fleet = Fleet::start().await;
    let events = "{\"actor\":{\"type\":\"user\",\"id\":\"ana\"},\"action\":\"door.opened\"}\n";
    let source = fleet.file("events.ndjson", &events.repeat(700));
    let receipts = fleet.file("ids", "");
    fleet.type_in(&["import", "ndjson", &source, "--receipts", &receipts]).await.ok();
    fleet.found("door.opened", 700).await;

    let words = ["reconcile", "--tenant", TENANT, &receipts, "--json"];
    let whole = fleet.type_in(&words).await.ok().lines().remove(0);
    for set in ["accepted", "stored", "searchable"] {
        assert_eq!(whole[set], 700, "{whole}");
    }
    let lost = "0193e9a0-0000-7000-8000-000000000001";
    let more = std::fs::read_to_string(&receipts).unwrap() + lost + "\n";
    let told = fleet.file("more", &more);
    let said = fleet.type_in(&["reconcile", "--tenant", TENANT, &told, "--json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let findings = said.lines().remove(0);
    assert_eq!((&findings["not_stored"], &findings["not_searchable"]), (&1.into(), &1.into()));
    assert!(findings["examples"].to_string().contains(lost), "{findings}");

    // What a tombstone speaks of is not lost, and must be nowhere.
    let owner = fleet.database.connect(Role::Owner);
    let bury = async |id: &str| {
        let sql = "INSERT INTO tombstones
                     (tenant, id, reason, requester, operation_id, recorded_at, expires_at)
                   VALUES ($1, $2::uuid, 'test', '{}', $2::uuid, now(), now() + interval '1 day')";
        let done = sqlx::query(sql).bind(TENANT).bind(id).execute(owner.pool()).await;
        assert_eq!(done.unwrap().rows_affected(), 1);
    };
    bury(lost).await;
    let words = ["reconcile", "--tenant", TENANT, &told, "--json"];
    let whole = fleet.type_in(&words).await.ok().lines().remove(0);
    let counts = ["accepted", "deleted", "stored", "back"].map(|set| whole[set].as_u64().unwrap());
    assert_eq!(counts, [701, 1, 700, 0], "{whole}");
    let stored = std::fs::read_to_string(&receipts).unwrap().lines().next().unwrap().to_owned();
    bury(&stored).await;
    let said = fleet.type_in(&words).await;
    assert!(said.code == 1 && said.err.contains("was deleted and is there"), "{said:?}");
    assert_eq!(said.lines()[0]["back"], 1, "{said:?}");
    let wrong = fleet.file("wrong", "no id\n");
    let said = fleet.type_in(&["reconcile", "--tenant", TENANT, &wrong]).await;
    assert!(said.code == 64 && said.err.contains("line 1"), "{said:?}");
}
