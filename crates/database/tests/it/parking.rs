//! The parking store on PostgreSQL agrees with the one in memory, call by call, over random stories;
//! and what only a database can show: changes of one group take turns, and a claim keeps others off.

use std::collections::BTreeMap;
use std::sync::Arc;

use database::{PostgresParking, Role};
use queue_core::park::{
    Admission, Decision, Due, Marker, MemoryParking, ParkDesk, ParkFigures, ParkLimits, ParkReason,
    ParkStore, ParkedMessage, Place,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::TestDatabase;

const QUEUE: &str = "orders.fifo";

fn message(group: u32, n: u32) -> ParkedMessage {
    ParkedMessage {
        group: format!("g{group}"),
        message_id: format!("m{group}-{n}"),
        tenant: (!n.is_multiple_of(3)).then(|| "acme".to_owned()),
        kind: Some("ORDER".to_owned()),
        // What a text column would refuse.
        body: format!("{{\"n\":{n}}}\0"),
        attributes: vec![("type".to_owned(), "ORDER\0".to_owned())],
        first_seen: "2026-01-01T00:00:00Z".parse().expect("a time"),
    }
}

fn reason(n: u32) -> ParkReason {
    ParkReason { code: "rejected-by-store".to_owned(), message: format!("reason {n}") }
}

/// A store with what it is known by from outside: each entry's id by its message.
struct Told {
    desk: Box<dyn ParkDesk>,
    ids: BTreeMap<String, i64>,
}

impl Told {
    fn new(desk: impl ParkDesk) -> Self {
        Self { desk: Box::new(desk), ids: BTreeMap::new() }
    }

    async fn look(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        for group in ["g0", "g1", "g2"] {
            for entry in self.desk.line(QUEUE, group, 100).await.expect("a line") {
                self.ids.insert(entry.message.message_id.clone(), entry.id);
                seen.push(format!("{:?} {:?}", entry.state, entry.message));
            }
        }
        for group in self.desk.groups(QUEUE, 100).await.expect("groups") {
            let queue_core::park::ParkedGroup {
                group, releasing, waiting, rejected, reason, ..
            } = group;
            seen.push(format!("{group} {releasing} {waiting} {rejected} {reason:?}"));
        }
        // Since when differs, and so may the order in the list.
        seen.sort();
        let ParkFigures { groups, messages } = self.desk.figures(QUEUE).await.expect("figures");
        seen.push(format!("{groups} {messages}"));
        seen
    }

    fn marker(&self, of: &ParkedMessage, release: Option<i32>) -> Option<Marker> {
        let id = self.ids.get(&of.message_id).copied().unwrap_or(i64::MAX);
        release.map(|release| Marker { id, release })
    }

    /// What a call answers, without the ids, which each store gives by itself.
    async fn call(&self, step: &Step) -> String {
        let Step { what, message, release, n } = step;
        let marker = self.marker(message, *release);
        let id = self.marker(message, Some(0)).map_or(0, |marker| marker.id);
        let (group, desk) = (&message.group, &self.desk);
        match what {
            0..=3 => {
                let answer: Admission = desk.admit(QUEUE, message, marker).await.expect("admits");
                format!("{answer:?}")
            }
            4 | 5 => {
                let place = if *n % 4 == 0 { Place::First } else { Place::Rejected };
                let parked = desk.park(QUEUE, message, marker, place, &reason(*n)).await;
                format!("{:?}", parked.expect("parks"))
            }
            6 => format!("{:?}", desk.lettered(QUEUE, message, marker).await),
            7 | 8 => {
                let marker = marker.unwrap_or(Marker { id, release: 1 });
                format!("{:?}", desk.handled(QUEUE, group, marker).await)
            }
            9 | 10 => {
                let due: Vec<Due> = desk.due(QUEUE, 2).await.expect("due");
                let shown: Vec<_> = due
                    .iter()
                    .map(|due| (due.marker.release, &due.message, &due.skipped))
                    .collect();
                format!("{shown:?}")
            }
            11 | 12 => {
                let marker = marker.unwrap_or(Marker { id, release: 1 });
                format!("{:?}", desk.sent(QUEUE, group, marker).await)
            }
            13 => {
                let decision = if *n % 2 == 0 { Decision::Release } else { Decision::Replay };
                format!("{:?}", desk.decide(QUEUE, group, decision).await)
            }
            14 => format!("{:?}", desk.skip(QUEUE, id, "not wanted").await),
            _ => {
                let groups = ["g0", "g2", "none", "g1"].map(str::to_owned);
                format!("{:?}", desk.parked(QUEUE, &groups).await)
            }
        }
    }
}

#[derive(Debug)]
struct Step {
    what: u32,
    message: ParkedMessage,
    release: Option<i32>,
    n: u32,
}

#[tokio::test]
async fn says_what_the_one_in_memory_says() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let limits = ParkLimits { group_max: 5, queue_max: 11 };
    for seed in 0..30 {
        database::sqlx::raw_sql("DELETE FROM parked_groups; DELETE FROM parked_messages")
            .execute(worker.pool())
            .await
            .expect("empties");
        let mut random = StdRng::seed_from_u64(seed);
        let mut postgres = Told::new(PostgresParking::with_limits(&worker, limits));
        let mut memory = Told::new(MemoryParking::with_limits(limits));
        for at in 0..80 {
            let step = Step {
                what: random.random_range(0..16),
                message: message(random.random_range(0..3), random.random_range(0..9)),
                release: random.random_bool(0.5).then(|| random.random_range(0..3)),
                n: random.random_range(0..100),
            };
            let answers = (postgres.call(&step).await, memory.call(&step).await);
            assert_eq!(answers.0, answers.1, "seed {seed}, step {at}: {step:?}");
            let lines = (postgres.look().await, memory.look().await);
            assert_eq!(lines.0, lines.1, "seed {seed}, after step {at}: {step:?}");
        }
    }
}

#[tokio::test]
async fn of_many_releasers_one_gets_the_step() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let store = Arc::new(PostgresParking::new(&worker));
    for group in 0..5 {
        store.park(QUEUE, &message(group, 0), None, Place::First, &reason(0)).await.expect("parks");
        let group = format!("g{group}");
        assert!(store.decide(QUEUE, &group, Decision::Release).await.expect("decides"));
    }
    let looks = (0..12).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.due(QUEUE, 10).await.expect("due") })
    });
    let mut groups = Vec::new();
    for look in looks.collect::<Vec<_>>() {
        groups.extend(look.await.expect("a look").into_iter().map(|due| due.message.group));
    }
    groups.sort();
    assert_eq!(groups, ["g0", "g1", "g2", "g3", "g4"], "each once");
}

/// A message that arrives while the last of the line is handled is in the line or finds the group
/// open, and never in a line that nobody releases.
#[tokio::test]
async fn arriving_and_opening_take_turns() {
    let database = TestDatabase::new().await;
    let worker = database.connect(Role::Worker);
    let store = Arc::new(PostgresParking::new(&worker));
    for round in 0..40 {
        let (last, new) = (message(0, round * 2), message(0, round * 2 + 1));
        store.park(QUEUE, &last, None, Place::First, &reason(0)).await.expect("parks");
        store.decide(QUEUE, "g0", Decision::Release).await.expect("decides");
        let due = store.due(QUEUE, 1).await.expect("due").remove(0);
        let (handling, arriving) = (Arc::clone(&store), Arc::clone(&store));
        let (opened, admitted) = tokio::join!(
            tokio::spawn(async move { handling.handled(QUEUE, "g0", due.marker).await }),
            tokio::spawn(async move { arriving.admit(QUEUE, &new, None).await }),
        );
        let (opened, admitted) =
            (opened.expect("a task").expect("handled"), admitted.expect("a task").expect("admits"));
        let expected = if opened { Admission::Open } else { Admission::InLine };
        assert_eq!(admitted, expected, "round {round}");
        if !opened {
            let due = store.due(QUEUE, 1).await.expect("due").remove(0);
            assert!(store.handled(QUEUE, "g0", due.marker).await.expect("handled"));
        }
    }
}
