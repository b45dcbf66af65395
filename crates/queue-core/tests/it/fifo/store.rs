//! A parking store in memory that can be switched off, or fail after it has taken effect, and says
//! what it was asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use queue_core::park::{
    Admission, Due, Marker, MemoryParking, ParkFigures, ParkReason, ParkStore, ParkStoreError,
    ParkedMessage, Place,
};

type Script = Box<dyn FnMut(&'static str) -> Fault + Send>;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It has no effect.
    Refuse,
    /// It has its effect, the answer is lost.
    LoseAnswer,
}

pub(crate) struct Store {
    pub(crate) memory: MemoryParking,
    pub(crate) down: AtomicBool,
    script: Mutex<Script>,
}

impl Default for Store {
    fn default() -> Self {
        Self::over(MemoryParking::default())
    }
}

impl Store {
    pub(crate) fn over(memory: MemoryParking) -> Self {
        Self { memory, down: AtomicBool::new(false), script: Mutex::new(Box::new(|_| Fault::None)) }
    }

    /// From now on, what happens to each call.
    pub(crate) fn script(&self, script: impl FnMut(&'static str) -> Fault + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    async fn call<T: Send>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, ParkStoreError>> + Send,
    ) -> Result<T, ParkStoreError> {
        let fault = (self.script.lock().unwrap())(name);
        let down = || ParkStoreError("switched off".into());
        if fault == Fault::Refuse || self.down.load(Ordering::Relaxed) {
            return Err(down());
        }
        // As a network does: others go on meanwhile.
        tokio::task::yield_now().await;
        let answer = call.await;
        if fault == Fault::LoseAnswer { Err(down()) } else { answer }
    }
}

#[async_trait]
impl ParkStore for Store {
    async fn parked(&self, queue: &str, groups: &[String]) -> Result<Vec<bool>, ParkStoreError> {
        self.call("parked", self.memory.parked(queue, groups)).await
    }

    async fn admit(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<Admission, ParkStoreError> {
        self.call("admit", self.memory.admit(queue, message, marker)).await
    }

    async fn park(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
        place: Place,
        reason: &ParkReason,
    ) -> Result<bool, ParkStoreError> {
        self.call("park", self.memory.park(queue, message, marker, place, reason)).await
    }

    async fn lettered(
        &self,
        queue: &str,
        message: &ParkedMessage,
        marker: Option<Marker>,
    ) -> Result<(), ParkStoreError> {
        self.call("lettered", self.memory.lettered(queue, message, marker)).await
    }

    async fn handled(
        &self,
        queue: &str,
        group: &str,
        marker: Marker,
    ) -> Result<bool, ParkStoreError> {
        self.call("handled", self.memory.handled(queue, group, marker)).await
    }

    async fn due(&self, queue: &str, max: usize) -> Result<Vec<Due>, ParkStoreError> {
        self.call("due", self.memory.due(queue, max)).await
    }

    async fn sent(&self, queue: &str, group: &str, marker: Marker) -> Result<(), ParkStoreError> {
        self.call("sent", self.memory.sent(queue, group, marker)).await
    }

    async fn figures(&self, queue: &str) -> Result<ParkFigures, ParkStoreError> {
        self.call("figures", self.memory.figures(queue)).await
    }
}
