//! Two retries do not multiply: in a storm of 503 every call that the engine makes is one call on
//! the wire, and it makes few.

use std::sync::Arc;
use std::time::Duration;

use contracts::audit::IndexMessage;
use queue_core::{
    Delivery, Engine, EngineConfig, Failure, MemoryAttempts, Outgoing, Ports, SendLimits, Sender,
    SystemClock, Worker,
};
use queue_sqs::Sqs;
use serde_json::json;
use testkit::{Answer, HttpDouble, eventually};
use tokio_util::sync::CancellationToken;

use crate::backends::options;

struct Content;

impl Worker for Content {
    const NAME: &'static str = "content";
    type Message = IndexMessage;

    async fn handle(&self, _delivery: Delivery<IndexMessage>) -> Result<(), Failure> {
        Ok(())
    }
}

fn storm() -> Answer {
    let body = json!({ "__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "storm" });
    Answer::json(body).with_status(503)
}

async fn sqs(double: &HttpDouble) -> Sqs {
    Sqs::connect(&options(&double.url())).await.unwrap()
}

#[tokio::test]
async fn a_storm_of_503_costs_one_call_per_attempt() {
    let double = HttpDouble::start().await;
    double.always(storm());
    let queue = sqs(&double).await.queue("q", &format!("{}/000000000000/q", double.url()));
    let limits = SendLimits { attempts: 3, ..SendLimits::default() };
    let sender = Sender::new(queue, limits);
    let outgoing = Outgoing { body: "x".into(), ..Outgoing::default() };
    assert!(sender.send(outgoing).await.is_err());
    assert_eq!(double.seen().len(), 3, "three attempts of ours, three calls");
}

#[tokio::test]
async fn an_engine_in_a_storm_makes_the_calls_that_it_counts() {
    let double = HttpDouble::start().await;
    double.always(storm());
    let sqs = sqs(&double).await;
    let queue = |name: &str| sqs.queue(name, &format!("{}/000000000000/{name}", double.url()));
    let ports = Ports {
        queue: queue("q"),
        dead_letters: queue("dlq"),
        attempts: Arc::new(MemoryAttempts::default()),
        clock: Arc::new(SystemClock),
    };
    let config =
        EngineConfig { wait: Duration::from_secs(1), ..EngineConfig::for_worker::<Content>() };
    let engine = Engine::new(Arc::new(Content), ports, config).unwrap();
    let status = engine.status();
    let drain = CancellationToken::new();
    let running = tokio::spawn(engine.run(drain.clone()));
    let polls = || {
        let seen = double.seen();
        seen.iter().filter(|s| s.header("x-amz-target") == "AmazonSQS.ReceiveMessage").count()
    };
    eventually(Duration::from_secs(30), "four polls", async || (polls() >= 4).then_some(())).await;
    drain.cancel();
    running.await.unwrap();
    let counted = status.snapshot().totals.broker_calls;
    assert_eq!(counted, polls() as u64, "a retry inside of the SDK is a call that nobody counted");
}
