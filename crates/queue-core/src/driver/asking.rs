//! A driver for tests of one part of the engine: each settle and each extension is handed to the
//! test, which answers when it likes. It holds no messages.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{
    Driver, DriverError, EntryResults, Outgoing, QueueAttributes, ReceiveRequest, Received,
};

/// The receipts of a call, and where its answer goes.
pub(crate) type Asked = (Vec<String>, oneshot::Sender<EntryResults>);

#[derive(Debug)]
pub(crate) struct Asking(mpsc::UnboundedSender<Asked>);

impl Asking {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (asking, asked) = mpsc::unbounded_channel();
        (Self(asking), asked)
    }

    async fn ask(&self, receipts: Vec<String>) -> Result<EntryResults, DriverError> {
        let over = || DriverError::Refused("the test is over".into());
        let (answer, answered) = oneshot::channel();
        self.0.send((receipts, answer)).map_err(|_| over())?;
        answered.await.map_err(|_| over())
    }
}

#[async_trait]
impl Driver for Asking {
    fn queue(&self) -> &'static str {
        "jobs"
    }

    async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Received>, DriverError> {
        Ok(Vec::new())
    }

    async fn settle(&self, receipts: &[String]) -> Result<EntryResults, DriverError> {
        self.ask(receipts.to_vec()).await
    }

    async fn extend(&self, entries: &[(String, Duration)]) -> Result<EntryResults, DriverError> {
        self.ask(entries.iter().map(|(receipt, _)| receipt.clone()).collect()).await
    }

    async fn send(&self, _: &[Outgoing]) -> Result<EntryResults, DriverError> {
        Ok(Vec::new())
    }

    async fn attributes(&self) -> Result<QueueAttributes, DriverError> {
        Ok(QueueAttributes::default())
    }
}

/// A message with an empty body.
pub(crate) fn received(message: &str, receipt: &str) -> Received {
    Received {
        message_id: message.into(),
        receipt: receipt.into(),
        receives: 1,
        ..Received::default()
    }
}
