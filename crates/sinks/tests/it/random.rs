//! Random logs and random queries: every engine against plain looking, and so against the other.

use std::collections::BTreeSet;

use chrono::Duration;
use contracts::{LogId, RetentionClass};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use sinks::search::{Document, Entity, MetadataFilter, Query, Word};

use crate::engines::{Engine, document, raw, tenant, time};
use crate::oracle;

const VOCABULARY: [&str; 12] = [
    "alpha",
    "beta",
    "Gamma",
    "alp",
    "user.login",
    "user_logout",
    "a:b",
    "can't",
    "3.14",
    "x1",
    "Ünï",
    "東京",
];
const KEYS: [&str; 6] = ["a", "b", "a=b", "k v", "é", "x_1"];

fn some<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}

fn words(rng: &mut StdRng, max: usize) -> String {
    let count = rng.random_range(0..=max);
    (0..count).map(|_| some(rng, &VOCABULARY)).collect::<Vec<_>>().join(" ")
}

fn random_value(rng: &mut StdRng, depth: usize) -> serde_json::Value {
    match rng.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => serde_json::Value::Null,
        1 => rng.random_bool(0.5).into(),
        2 => rng.random_range(-1..3).into(),
        3 => 1.5.into(),
        4 => words(rng, 2).into(),
        5 => (0..rng.random_range(0..3)).map(|_| random_value(rng, depth - 1)).collect(),
        _ => random_object(rng, depth - 1),
    }
}

fn random_object(rng: &mut StdRng, depth: usize) -> serde_json::Value {
    let members = (0..rng.random_range(0..4))
        .map(|_| (some(rng, &KEYS).to_owned(), random_value(rng, depth)));
    serde_json::Value::Object(members.collect())
}

fn random_document(rng: &mut StdRng, n: u32) -> Document {
    let mut document = document(n);
    let kinds = ["user", "service"];
    document.tenant = some(rng, &["acme", "acme", "other"]).parse().unwrap();
    document.class = *RetentionClass::ALL.choose(rng).unwrap();
    // Few distinct times, so that ids have to break ties, in two months.
    document.recorded_at = time()
        + Duration::microseconds(rng.random_range(0..20))
        + Duration::days(rng.random_range(0..2) * 20);
    document.occurred_at =
        rng.random_bool(0.7).then(|| time() + Duration::microseconds(rng.random_range(0..5)));
    document.actor = Entity {
        kind: some(rng, &kinds).into(),
        id: some(rng, &["u1", "u2", "Ada L", "it's"]).into(),
        name: rng.random_bool(0.3).then(|| words(rng, 2)),
    };
    document.action = some(rng, &VOCABULARY).into();
    document.outcome = some(rng, &["success", "failure"]).into();
    document.targets = (0..rng.random_range(0..3))
        .map(|_| Entity {
            kind: some(rng, &kinds).into(),
            id: some(rng, &["u1", "t 2"]).into(),
            name: None,
        })
        .collect();
    document.tags = (0..rng.random_range(0..3)).map(|_| some(rng, &VOCABULARY).into()).collect();
    document.annotation = rng.random_bool(0.3).then(|| words(rng, 6));
    document.text = (0..rng.random_range(0..3)).map(|_| words(rng, 8)).collect();
    if rng.random_bool(0.8) {
        document.metadata = Some(raw(&random_object(rng, 3).to_string()));
    }
    document
}

fn random_word(rng: &mut StdRng) -> Vec<Word> {
    let word = some(rng, &VOCABULARY);
    let q = match rng.random_range(0..4) {
        0 => format!("{}*", word.chars().take(rng.random_range(1..4)).collect::<String>()),
        1 => format!("\"{} {}\"", word, some(rng, &VOCABULARY)),
        _ => word.to_owned(),
    };
    Query::parse_q(&q).unwrap_or_default()
}

fn random_query(rng: &mut StdRng) -> Query {
    let mut query = Query::default();
    let path = |rng: &mut StdRng| {
        let count = rng.random_range(1..4);
        (0..count).map(|_| some(rng, &KEYS)).collect::<Vec<_>>().join(".")
    };
    for _ in 0..rng.random_range(0..3) {
        match rng.random_range(0..13) {
            0..4 => query.words.extend(random_word(rng)),
            4 => query.actor_id = Some(some(rng, &["u1", "u2", "Ada L", "ada l"]).into()),
            5 => query.actor_type = Some(some(rng, &["user", "service"]).into()),
            6 => query.action = Some(some(rng, &VOCABULARY).into()),
            7 => {
                query.target_type = rng.random_bool(0.5).then(|| "user".into());
                query.target_id = Some(some(rng, &["u1", "t 2"]).into());
            }
            8 => query.tags.push(some(rng, &VOCABULARY).into()),
            9 => {
                query.recorded_at.from =
                    Some(time() + Duration::microseconds(rng.random_range(0..20)));
                query.recorded_at.to = Some(time() + Duration::days(rng.random_range(0..30)));
            }
            10 => {
                query.occurred_at.to =
                    Some(time() + Duration::microseconds(rng.random_range(0..5)));
            }
            11 => query.metadata.push(MetadataFilter::Exists { path: path(rng) }),
            _ => {
                let value = some(rng, &["true", "1", "-1", "1.5", "", "alpha", "Gamma x1"]);
                let path = path(rng);
                query.metadata.push(MetadataFilter::Equals { path, value: value.into() });
            }
        }
    }
    query
}

/// Random logs, random queries, random page sizes: every engine gives exactly what looking at
/// every log gives, in the same order. The seed is in the failure's message.
#[tokio::test]
async fn random_queries_have_the_same_answers_everywhere() {
    let seed: u64 = rand::rng().random();
    let rng = &mut StdRng::seed_from_u64(seed);
    let documents: Vec<Document> = (0..300).map(|n| random_document(rng, n)).collect();
    let mut order: Vec<&Document> = documents.iter().collect();
    order.sort_by_key(|document| std::cmp::Reverse((document.recorded_at, document.id)));
    let engines = Engine::all().await;
    for engine in &engines {
        engine.write(&documents).await;
    }
    let mut sizes = BTreeSet::new();
    for round in 0..120 {
        let query = random_query(rng);
        let limit = rng.random_range(5..80);
        let expected: Vec<LogId> = order
            .iter()
            .filter(|document| document.tenant == tenant() && oracle::matches(document, &query))
            .map(|document| document.id)
            .collect();
        sizes.insert(expected.len());
        for engine in &engines {
            let found = engine.found_by(&tenant(), &query, limit).await;
            let name = engine.name;
            assert_eq!(found, expected, "{name}, seed {seed}, round {round}: {query:#?}");
            if round % 10 == 0 {
                let count = engine.reader.count(&tenant(), &query).await.unwrap();
                assert_eq!(count, expected.len() as u64, "{name}, seed {seed}, round {round}");
            }
        }
    }
    assert!(sizes.len() > 10, "seed {seed}: the queries found too little to prove anything");
}
