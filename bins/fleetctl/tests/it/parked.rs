//! A FIFO group is parked, looked at, decided over and worked off: commands, PostgreSQL and the
//! emulator over HTTP as they are, one worker between them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::catalogue::{AUDIT_INDEX, QueueKind};
use contracts::{DecodeError, Envelope, EnvelopeId, Header, Message, QueueSpec, errors};
use database::{PostgresAttempts, PostgresParking, Role};
use queue_core::{
    Clock, Delivery, Engine, EngineConfig, Failure, Outgoing, ParkStore, Ports, Reason,
    SystemClock, Worker,
};
use testkit::{TestDatabase, TestSqs, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::command::{Said, fleetctl};

static ORDERS: QueueSpec = QueueSpec {
    key: "orders",
    name: "orders.fifo",
    dlq: "orders-dlq.fifo",
    kind: QueueKind::Fifo,
    receives_max: QueueKind::Fifo.receives_max(),
    ..AUDIT_INDEX
};
const PATIENCE: Duration = Duration::from_secs(120);

struct Order(u32);

impl Message for Order {
    const QUEUE: &'static QueueSpec = &ORDERS;

    fn kind(&self) -> &'static str {
        "ORDER"
    }

    fn version(&self) -> u32 {
        1
    }

    fn body_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.0)
    }

    fn decode(header: &Header, body: &serde_json::value::RawValue) -> Result<Self, DecodeError> {
        let malformed = |error: serde_json::Error| DecodeError::Malformed {
            kind: header.kind.clone(),
            reason: error.to_string(),
        };
        serde_json::from_str(body.get()).map(Order).map_err(malformed)
    }
}

#[derive(Default)]
struct Shop {
    bad: Mutex<BTreeSet<u32>>,
    done: Mutex<Vec<u32>>,
}

struct OrderWorker {
    shop: Arc<Shop>,
    parking: Arc<dyn ParkStore>,
}

impl Worker for OrderWorker {
    const NAME: &'static str = "order-worker";
    type Message = Order;

    async fn handle(&self, delivery: Delivery<Order>) -> Result<(), Failure> {
        let Order(number) = delivery.message;
        if self.shop.bad.lock().unwrap().contains(&number) {
            let message = format!("order {number} has no customer");
            return Err(Failure::Reject(Reason { code: errors::REJECTED_BY_STORE, message }));
        }
        self.shop.done.lock().unwrap().push(number);
        Ok(())
    }

    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        Some(Arc::clone(&self.parking))
    }
}

fn order(number: u32) -> Outgoing {
    let header = Header {
        v: 1,
        kind: "ORDER".into(),
        id: EnvelopeId(Uuid::from_u128(u128::from(number) + 1)),
        tenant: "acme".parse().unwrap(),
        recorded_at: SystemClock.now(),
        correlation_id: format!("request-{number}"),
        causation_id: None,
        hops: 0,
        key: None,
        revision: None,
    };
    Outgoing {
        body: Envelope::wrap(header, &Order(number)).unwrap().to_json().unwrap(),
        group: Some("order-17".into()),
        deduplication: Some(format!("order-{number}")),
        ..Outgoing::default()
    }
}

async fn line(variables: &[(&str, String)]) -> Vec<(String, String)> {
    let said = fleetctl(variables, &["parked", "show", "orders.fifo", "order-17", "--json"]).await;
    let text = |value: &serde_json::Value, name: &str| value[name].to_string();
    said.lines().iter().map(|entry| (text(entry, "state"), text(entry, "id"))).collect()
}

#[tokio::test]
async fn a_group_is_parked_and_an_operator_brings_it_back_in_order() {
    let (database, sqs) = (TestDatabase::new().await, TestSqs::start().await);
    sqs.create(&ORDERS).await;
    let variables = [("DATABASE_URL", database.url().to_owned())];
    let pool = database.connect(Role::Worker);
    let shop = Arc::new(Shop::default());
    shop.bad.lock().unwrap().insert(1);
    let worker =
        OrderWorker { shop: Arc::clone(&shop), parking: Arc::new(PostgresParking::new(&pool)) };
    let ports = Ports {
        queue: sqs.queue(ORDERS.name),
        dead_letters: sqs.queue(ORDERS.dlq),
        attempts: Arc::new(PostgresAttempts::new(&pool)),
        clock: Arc::new(SystemClock),
    };
    let config = EngineConfig { wait: Duration::from_secs(1), ..EngineConfig::for_queue(&ORDERS) };
    let engine = Engine::new(Arc::new(worker), ports, config).unwrap();
    let drain = CancellationToken::new();
    let running = tokio::spawn(engine.run(drain.clone()));

    let orders: Vec<Outgoing> = (0..5).map(order).collect();
    assert!(sqs.queue(ORDERS.name).send(&orders).await.unwrap().iter().all(Result::is_ok));
    let parked = eventually(PATIENCE, "four are in the line", async || {
        let line = line(&variables).await;
        (line.len() == 4).then_some(line)
    })
    .await;
    assert_eq!(parked[0].0, "\"rejected\"");
    let listed = fleetctl(&variables, &["parked", "list", "--json"]).await.ok().lines();
    assert_eq!((&listed[0]["waiting"], &listed[0]["rejected"]), (&3.into(), &1.into()));
    assert_eq!(listed[0]["message"], "order 1 has no customer");
    let doctor: Said = fleetctl(&variables, &["doctor", "--json"]).await;
    assert!(doctor.out.contains("1 wait for a decision"), "{doctor:?}");

    let asks = fleetctl(&variables, &["parked", "release", "orders.fifo", "order-17"]).await;
    assert_eq!(asks.code, 64, "nobody is at a terminal: {asks:?}");
    let words = ["parked", "skip", "orders.fifo", &parked[2].1, "--reason", "cancelled", "--yes"];
    fleetctl(&variables, &words).await.ok();
    shop.bad.lock().unwrap().clear();
    let words = ["parked", "replay", "orders.fifo", "order-17", "--yes", "--json"];
    let replayed = fleetctl(&variables, &words).await.ok().lines();
    assert_eq!(replayed[0]["messages"], 3);
    eventually(PATIENCE, "the group is open", async || {
        let listed = fleetctl(&variables, &["parked", "list", "--json"]).await;
        listed.out.is_empty().then_some(())
    })
    .await;
    assert_eq!(*shop.done.lock().unwrap(), [0, 1, 2, 4], "in order, without the skipped one");
    let gone = fleetctl(&variables, &["parked", "show", "orders.fifo", "order-17"]).await;
    assert!(gone.code == 1 && gone.err.contains("is not parked"), "{gone:?}");
    drain.cancel();
    assert!(running.await.unwrap().within_budget);
}
