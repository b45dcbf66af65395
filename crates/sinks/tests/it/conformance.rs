//! The same answers to the same queries, from every engine.

use chrono::{DateTime, Duration, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use sinks::search::{Document, Entity, Indexed, MetadataFilter, PAGE_MAX, Query, TimeRange};

use crate::engines::{Engine, document, id, raw, tenant, time};

fn equals(path: &str, value: &str) -> Query {
    let filter = MetadataFilter::Equals { path: path.into(), value: value.into() };
    Query { metadata: vec![filter], ..Query::default() }
}

fn exists(path: &str) -> Query {
    let filter = MetadataFilter::Exists { path: path.into() };
    Query { metadata: vec![filter], ..Query::default() }
}

#[tokio::test]
async fn words_phrases_prefixes() {
    let mut one = document(1);
    one.annotation = Some("Can't STOP the Café, won't-stop".into());
    one.text = vec!["quick brown".into(), "fox 10.0.0.1 \u{e000}tail ada@example.com".into()];
    let mut two = document(2);
    two.action = "s3:GetObject_v2".into();
    two.targets = vec![Entity {
        kind: "bucket".into(),
        id: "it's \\ 'quoted'".into(),
        name: Some("Größe 東京".into()),
    }];
    for engine in Engine::all().await {
        engine.write(&[one.clone(), two.clone()]).await;
        for (q, found) in [
            ("café", vec![1]),
            ("CAN'T stop", vec![1]),
            ("\"can't stop the café\"", vec![1]),
            ("\"stop can't\"", vec![]),
            ("\"brown fox\"", vec![]),
            ("\"quick brown\"", vec![1]),
            ("10.0.0.1", vec![1]),
            ("10.0.0.*", vec![1]),
            ("ada@example.com", vec![1]),
            ("example", vec![1]),
            ("example.com@ada", vec![]),
            ("login", vec![1]),
            ("user.login", vec![1]),
            ("\"user login\"", vec![1]),
            ("user", vec![2, 1]),
            ("s3:getobject_v2", vec![2]),
            ("getob*", vec![2]),
            ("it's quoted", vec![2]),
            ("größe", vec![2]),
            ("東", vec![2]),
            ("u*", vec![2, 1]),
            ("success nothing", vec![]),
            ("caf", vec![]),
            ("cafe", vec![]),
        ] {
            let expected: Vec<LogId> = found.into_iter().map(id).collect();
            assert_eq!(engine.q(q).await, expected, "{}: {q}", engine.name);
        }
    }
}

type Case = (&'static str, Query, &'static [u128]);

/// Queries, and which of [`filters`]' documents they find; `t1` is the first one's time.
fn filter_cases(t1: DateTime<Utc>) -> Vec<Case> {
    let field = |set: fn(&mut Query)| {
        let mut query = Query::default();
        set(&mut query);
        query
    };
    let recorded = |from, to| Query { recorded_at: TimeRange { from, to }, ..Query::default() };
    let occurred = |from, to| Query { occurred_at: TimeRange { from, to }, ..Query::default() };
    let hour = Duration::hours(1);
    let mut cases: Vec<Case> = vec![
        ("all", Query::default(), &[2, 1]),
        ("actor", field(|q| q.actor_id = Some("u1".into())), &[1]),
        ("actor's case", field(|q| q.actor_id = Some("U1".into())), &[]),
        ("actor type", field(|q| q.actor_type = Some("user".into())), &[2, 1]),
        ("empty actor", field(|q| q.actor_id = Some(String::new())), &[]),
        ("action", field(|q| q.action = Some("user.login".into())), &[2, 1]),
        ("part of an action", field(|q| q.action = Some("user".into())), &[]),
        ("outcome", field(|q| q.outcome = Some("failure".into())), &[]),
        ("target", field(|q| q.target_id = Some("a".into())), &[1]),
        ("target type", field(|q| q.target_type = Some("dir".into())), &[1]),
        (
            "both of one target",
            field(|q| (q.target_type, q.target_id) = (Some("doc".into()), Some("a".into()))),
            &[1],
        ),
        (
            "both of two targets",
            field(|q| (q.target_type, q.target_id) = (Some("doc".into()), Some("b".into()))),
            &[],
        ),
        ("tags", field(|q| q.tags = vec!["red".into(), "Blue".into()]), &[1]),
        ("no such tag", field(|q| q.tags = vec!["red".into(), "blue".into()]), &[]),
        ("from, inside", recorded(Some(t1), None), &[2, 1]),
        ("from, a microsecond later", recorded(Some(t1 + Duration::microseconds(1)), None), &[2]),
        ("to, outside", recorded(None, Some(t1)), &[]),
        ("to, a microsecond later", recorded(None, Some(t1 + Duration::microseconds(1))), &[1]),
        ("occurred", occurred(Some(time() - hour), None), &[1]),
        ("occurred before", occurred(None, Some(time() - hour)), &[]),
    ];
    cases.extend(metadata_cases());
    cases
}

fn metadata_cases() -> Vec<Case> {
    vec![
        ("number as written", equals("n", "1.0"), &[1]),
        ("number otherwise", equals("n", "1"), &[]),
        ("long number", equals("big", "12345678901234567890123"), &[1]),
        ("value with =", equals("s", "a=b"), &[1]),
        ("= on the other side", equals("s=a", "b"), &[]),
        ("path with =", equals("k=1", "v"), &[1]),
        ("that = on the other side", equals("k", "1=v"), &[]),
        ("array", equals("a.b", "true"), &[1]),
        ("object in array", equals("a.b.c", "x"), &[1]),
        ("shorter path", equals("a", "x"), &[]),
        ("empty key", equals("", "empty"), &[1]),
        ("NUL", equals("nul", "a\0b"), &[1]),
        ("dot in a key", equals("d.e", "dotted"), &[1]),
        ("odd characters", equals("sp ace*?.ü", "%"), &[1]),
        ("exists", exists("a.b.c"), &[1]),
        ("exists above", exists("a"), &[1]),
        ("does not exist", exists("a.c"), &[]),
        ("null does not exist", exists("null"), &[]),
        ("no pattern", exists("a*"), &[]),
    ]
}

#[tokio::test]
async fn filters() {
    let mut one = document(1);
    one.targets = vec![
        Entity { kind: "doc".into(), id: "a".into(), name: None },
        Entity { kind: "dir".into(), id: "b".into(), name: None },
    ];
    one.tags = vec!["red".into(), "Blue".into()];
    one.occurred_at = Some(time() - Duration::hours(1));
    one.metadata =
        Some(raw(r#"{"n":1.0,"big":12345678901234567890123,"s":"a=b","a":{"b":[true,{"c":"x"}]},
           "k=1":"v","":"empty","null":null,"nul":"a\u0000b","d.e":"dotted","text":"needle here",
           "sp ace*?":{"ü":"%"}}"#));
    let two = document(2);
    let cases = filter_cases(one.recorded_at);
    for engine in Engine::all().await {
        engine.write(&[one.clone(), two.clone()]).await;
        for (name, query, found) in &cases {
            let expected: Vec<LogId> = found.iter().copied().map(id).collect();
            assert_eq!(engine.found(query).await, expected, "{}: {name}", engine.name);
            let count = engine.reader.count(&tenant(), query).await.unwrap();
            assert_eq!(count, expected.len() as u64, "{}: {name}", engine.name);
        }
        assert_eq!(engine.q("needle").await, [id(1)], "{}: text in metadata", engine.name);
    }
}

#[tokio::test]
async fn a_tenant_finds_its_own() {
    let other: Tenant = "other".parse().unwrap();
    let mut foreign = document(2);
    foreign.tenant = other.clone();
    foreign.metadata = Some(raw(r#"{"k":"v"}"#));
    let mut own = document(1);
    own.metadata = Some(raw(r#"{"k":"v"}"#));
    // The same id for two tenants: neither may write over or erase the other's.
    let mut twin = own.clone();
    twin.tenant = other.clone();
    twin.revision = 9;
    for engine in Engine::all().await {
        engine.write(&[own.clone(), foreign.clone(), twin.clone()]).await;
        for query in [Query::default(), equals("k", "v"), exists("k")] {
            assert_eq!(engine.found(&query).await, [id(1)], "{}", engine.name);
            let theirs = engine.found_by(&other, &query, 10).await;
            assert_eq!(theirs, [id(2), id(1)], "{}", engine.name);
        }
        assert_eq!(engine.q("login").await, [id(1)], "{}", engine.name);
        engine.erase(&[twin.reference()]).await;
        assert_eq!(engine.found(&Query::default()).await, [id(1)], "{}", engine.name);
    }
}

#[tokio::test]
async fn a_later_write_of_an_older_revision_changes_nothing() {
    let revision = |n: u64, tag: &str| {
        let mut document = document(1);
        document.revision = n;
        document.tags = vec![tag.into()];
        document
    };
    let tagged = |tag: &str| Query { tags: vec![tag.into()], ..Query::default() };
    for engine in Engine::all().await {
        assert_eq!(engine.write(&[revision(0, "zero")]).await, [Indexed::Written]);
        assert_eq!(engine.write(&[revision(0, "again")]).await, [Indexed::Superseded]);
        assert_eq!(engine.write(&[revision(2, "two")]).await, [Indexed::Written]);
        assert_eq!(engine.write(&[revision(1, "one")]).await, [Indexed::Superseded]);
        assert_eq!(engine.found(&tagged("two")).await, [id(1)], "{}", engine.name);
        for old in ["zero", "again", "one"] {
            assert!(engine.found(&tagged(old)).await.is_empty(), "{}: {old}", engine.name);
        }
        // Both in one batch, in either order.
        engine.write(&[revision(4, "four"), revision(3, "three")]).await;
        engine.write(&[revision(5, "five"), revision(6, "six")]).await;
        assert_eq!(engine.found(&tagged("six")).await, [id(1)], "{}", engine.name);
        assert_eq!(engine.reader.count(&tenant(), &Query::default()).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn what_was_erased_stays_erased() {
    for engine in Engine::all().await {
        engine.write(&[document(1), document(2)]).await;
        engine.erase(&[document(1).reference()]).await;
        assert_eq!(engine.found(&Query::default()).await, [id(2)], "{}", engine.name);
        // Again, and one that was never there.
        engine.erase(&[document(1).reference(), document(3).reference()]).await;
        // A late write, of any revision; of a log that was erased before it was ever written, too.
        let mut late = document(1);
        late.revision = u64::MAX;
        let outcomes = engine.write(&[late, document(1), document(3)]).await;
        assert_eq!(outcomes, [Indexed::Superseded; 3], "{}", engine.name);
        assert_eq!(engine.found(&Query::default()).await, [id(2)], "{}", engine.name);
        assert!(engine.q("login").await == [id(2)], "{}", engine.name);
    }
}

#[tokio::test]
async fn pages_are_stable_while_logs_are_added() {
    // Several per microsecond, over the end of a month, in three classes.
    let mut documents: Vec<Document> = (0..60).map(document).collect();
    for (n, document) in documents.iter_mut().enumerate() {
        document.recorded_at = "2026-11-30T23:59:59.999995Z".parse().unwrap();
        document.recorded_at += Duration::microseconds(i64::try_from(n / 5).unwrap());
        document.class = RetentionClass::ALL[n % 3];
    }
    let (first, added) = documents.split_at(50);
    let expected: Vec<LogId> = first.iter().rev().map(|document| document.id).collect();
    for engine in Engine::all().await {
        engine.write(first).await;
        let all = Query::default();
        let page = engine.reader.search(&tenant(), &all, 7, None).await.unwrap();
        assert_eq!(page.hits[0].recorded_at, first[49].recorded_at, "{}", engine.name);
        assert_eq!(page.hits[0].class, first[49].class, "{}", engine.name);
        engine.write(added).await;
        let mut ids: Vec<LogId> = page.hits.iter().map(|hit| hit.id).collect();
        let mut after = page.next;
        while let Some(key) = after {
            let page = engine.reader.search(&tenant(), &all, 7, Some(key)).await.unwrap();
            ids.extend(page.hits.iter().map(|hit| hit.id));
            after = page.next;
        }
        assert_eq!(ids, expected, "{}", engine.name);
        // A limit of none and one over the most are clamped.
        let one = engine.reader.search(&tenant(), &all, 0, None).await.unwrap();
        assert_eq!(one.hits.len(), 1, "{}", engine.name);
        let most = engine.reader.search(&tenant(), &all, PAGE_MAX + 1, None).await.unwrap();
        assert_eq!((most.hits.len(), most.next), (60, None), "{}", engine.name);
    }
}

/// Everything at its limit and just over it: the document is taken, and found by what is inside.
#[tokio::test]
async fn long_documents_are_taken() {
    let mut long = document(1);
    let words: Vec<String> = (0..20_000).map(|n| format!("w{n}")).collect();
    long.text = vec![words.join(" ")];
    let mut wide = document(2);
    let word = |n: usize| format!("{n:05}{}", "x".repeat(300));
    let words: Vec<String> = (0..3_000).map(word).collect();
    wide.text = vec![words.join(" ")];
    let mut repeated = document(3);
    repeated.text = vec!["again ".repeat(300) + "end"];
    let mut values = document(4);
    let members: Vec<String> = (0..3_000)
        .map(|n| format!(r#""k{n:04}":"{}""#, "v".repeat(if n == 0 { 8_193 } else { 100 })))
        .collect();
    let at = "v".repeat(8_192);
    values.metadata = Some(raw(&format!("{{\"at\":\"{at}\",{}}}", members.join(","))));
    let mut keyword = document(5);
    keyword.actor.id = "i".repeat(40_000);
    for engine in Engine::all().await {
        let documents = [&long, &wide, &repeated, &values, &keyword].map(Clone::clone);
        engine.write(&documents).await;
        let found = |q: &'static str| engine.q(q);
        assert_eq!(found("w15000").await, [id(1)], "{}", engine.name);
        assert!(found("w19999").await.is_empty(), "{}: over the positions", engine.name);
        assert_eq!(engine.q(&word(0)).await, [id(2)], "{}: cut like the word", engine.name);
        assert_eq!(engine.q(&word(2_500)).await, [id(2)], "{}", engine.name);
        assert!(engine.q(&word(2_999)).await.is_empty(), "{}: over the bytes", engine.name);
        assert_eq!(found("\"again again\"").await, [id(3)], "{}", engine.name);
        assert_eq!(found("end").await, [id(3)], "{}", engine.name);
        assert!(found("\"again end\"").await.is_empty(), "{}: occurrence 300", engine.name);
        let at = engine.found(&equals("at", &"v".repeat(8_192))).await;
        assert_eq!(at, [id(4)], "{}: 8 KiB", engine.name);
        let over = engine.found(&equals("k0000", &"v".repeat(8_193))).await;
        assert!(over.is_empty(), "{}: over 8 KiB", engine.name);
        assert_eq!(engine.found(&exists("k0000")).await, [id(4)], "{}", engine.name);
        let actor = |n| Query { actor_id: Some("i".repeat(n)), ..Query::default() };
        assert_eq!(engine.found(&actor(40_000)).await, [id(5)], "{}", engine.name);
        assert!(engine.found(&actor(39_999)).await.is_empty(), "{}", engine.name);
    }
}

#[tokio::test]
async fn what_remains_of_some_logs_is_counted_by_id() {
    for engine in Engine::all().await {
        engine.write(&[document(1), document(2), document(3)]).await;
        let (ours, asked) = (document(1).tenant, [id(1), id(2), id(9)]);
        let remaining = async |logs: &[LogId]| engine.writer.remaining(&ours, logs).await.unwrap();
        assert_eq!(remaining(&asked).await, 2, "{}", engine.name);
        assert_eq!(remaining(&[]).await, 0, "{}", engine.name);
        let stranger: Tenant = "stranger".parse().unwrap();
        let theirs = engine.writer.remaining(&stranger, &asked).await.unwrap();
        assert_eq!(theirs, 0, "{}", engine.name);
        engine.erase(&[document(1).reference()]).await;
        assert_eq!(remaining(&asked).await, 1, "{}", engine.name);
        let many: Vec<LogId> = (0..=1_000).map(|_| id(1)).collect();
        let refused = engine.writer.remaining(&ours, &many).await.unwrap_err();
        assert!(refused.to_string().contains("1001 logs"), "{}: {refused}", engine.name);
    }
}
