//! A worker that does not say where its groups are parked, or has none to park, is refused at start.

use std::marker::PhantomData;
use std::sync::Arc;

use contracts::Message;
use queue_core::{
    Clock, Delivery, Driver, Engine, EngineConfig, Failure, MemoryParking, ParkStore, Ports, Worker,
};

use super::rig::Order;
use crate::rig::{Job, Rig};

struct Idle<M> {
    parks: bool,
    of: PhantomData<fn() -> M>,
}

impl<M: Message> Worker for Idle<M> {
    const NAME: &'static str = "test-worker";
    type Message = M;

    async fn handle(&self, _delivery: Delivery<M>) -> Result<(), Failure> {
        Ok(())
    }

    fn parking(&self) -> Option<Arc<dyn ParkStore>> {
        self.parks.then(|| Arc::new(MemoryParking::default()) as Arc<dyn ParkStore>)
    }
}

/// Which field is wrong.
fn refused<M: Message>(parks: bool) -> Option<&'static str> {
    let rig = Rig::new();
    let ports = Ports {
        queue: Arc::clone(&rig.queue) as Arc<dyn Driver>,
        dead_letters: Arc::clone(&rig.dlq) as Arc<dyn Driver>,
        attempts: Arc::clone(&rig.attempts),
        clock: Arc::clone(&rig.world) as Arc<dyn Clock>,
    };
    let worker = Arc::new(Idle::<M> { parks, of: PhantomData });
    let engine = Engine::new(worker, ports, EngineConfig::for_queue(M::QUEUE));
    engine.err().map(|wrong| wrong.field)
}

#[test]
fn a_store_for_groups_is_named_on_fifo_queues_and_only_there() {
    assert_eq!(refused::<Order>(true), None);
    assert_eq!(refused::<Order>(false), Some("parking"));
    assert_eq!(refused::<Job>(false), None);
    assert_eq!(refused::<Job>(true), Some("parking"));
}
