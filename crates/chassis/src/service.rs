//! The ports of the chassis: what a worker adds to be a process of its own, and what a broker's
//! driver crate offers. Neither knows the other; a binary names both.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use contracts::QueueSpec;
use queue_core::{AttemptStore, Driver, Worker};

use crate::config::Problem;
use crate::context::Context;
use crate::worker::{Ended, Lane};

/// Why a process could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Values that each parse but do not fit together or do not work here; exit code 78.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<Problem>),
    /// Something outside the configuration, with the error chain as text; exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl BuildError {
    /// Something outside the configuration went wrong; `error` is written as its chain, `a: b: c`.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

impl From<Problem> for BuildError {
    fn from(problem: Problem) -> Self {
        Self::Config(vec![problem])
    }
}

/// A worker that can be built from its configuration.
///
/// Building must not need its sinks to be up: connect lazily and say so on `/readyz` (through
/// [`Worker::probes`]), so that a Postgres that is down at start does not become a crash loop.
pub trait Service: Worker + Sized {
    /// Its options: one `clap` definition for flags, environment, `--check-config` and the docs.
    /// An option marked `hide_env_values` is a secret: redacted, and readable from `{VARIABLE}_FILE`.
    type Config: clap::Args + Clone + Debug + Send + Sync + 'static;

    /// Checks what one option alone cannot show, e.g. relations between two. Never does IO.
    fn check(_config: &Self::Config) -> Vec<Problem> {
        Vec::new()
    }

    /// Builds the worker.
    fn build(
        config: Self::Config,
        context: &Context,
    ) -> impl Future<Output = Result<Self, BuildError>> + Send;

    /// Where its failures are recorded.
    fn attempts(&self) -> Arc<dyn AttemptStore>;
}

/// A broker, as one driver crate speaks to it.
pub trait Broker: Send + Sync + Sized + 'static {
    /// Its options.
    type Config: clap::Args + Clone + Debug + Send + Sync + 'static;

    /// What a queue's URL looks like here, for error messages; `name` is the queue's.
    fn example_url(name: &str) -> String;

    /// Says what is wrong with a queue URL, if anything; no IO.
    fn check_url(url: &str) -> Result<(), String>;

    /// Makes the clients. Connects lazily: a broker that is down must not keep a process from
    /// starting.
    fn connect(config: Self::Config) -> impl Future<Output = Result<Self, BuildError>> + Send;

    /// One queue; `name` is for logs and metrics.
    fn queue(&self, name: &str, url: &str) -> Arc<dyn Driver>;
}

/// A second worker inside a service's process, on an optional queue of its own: it shares the lead's
/// configuration, sinks, attempt store, admin port and drain. It runs only where its queue's
/// variable is set.
pub trait Companion: Worker + Sized {
    /// The service beside which it runs.
    type Lead: Service;

    /// Builds it from the lead, so that pools and batches are shared.
    fn beside(lead: &Arc<Self::Lead>) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl<S: super::Service> Sealed for S {}
    impl<S: super::Service, C: super::Companion<Lead = S>> Sealed for (S, C) {}
}

/// What one worker process runs: a [`Service`], or the pair of a service and its [`Companion`].
pub trait Roles: sealed::Sealed + 'static {
    /// The process's name and configuration are this one's.
    type Lead: Service;

    /// The catalogue entry of the companion's queue.
    const COMPANION: Option<&'static QueueSpec>;

    /// Runs the companion until it has drained.
    fn run_companion(
        lead: &Arc<Self::Lead>,
        lane: Lane,
    ) -> impl Future<Output = Result<Ended, BuildError>> + Send;
}

impl<S: Service> Roles for S {
    type Lead = S;
    const COMPANION: Option<&'static QueueSpec> = None;

    async fn run_companion(_lead: &Arc<S>, _lane: Lane) -> Result<Ended, BuildError> {
        Ok(Ended::Drained)
    }
}

impl<S: Service, C: Companion<Lead = S>> Roles for (S, C) {
    type Lead = S;
    const COMPANION: Option<&'static QueueSpec> = Some(<C::Message as contracts::Message>::QUEUE);

    async fn run_companion(lead: &Arc<S>, lane: Lane) -> Result<Ended, BuildError> {
        lane.run(Arc::new(C::beside(lead)), lead.attempts()).await
    }
}
