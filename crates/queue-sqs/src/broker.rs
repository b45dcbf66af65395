//! The connection to SQS: two clients made once, handed to every queue of the process.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{Builder, StalledStreamProtectionConfig};
use chassis::{Broker, BuildError, Problem};
use queue_core::{Driver, DriverError};

use crate::admin::Admin;
use crate::classify::call_error;
use crate::config::{AwsConfig, check_url};
use crate::driver::Queue;

/// A connection that is not up by then will not be.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An attempt of a call that does not wait. SQS answers in milliseconds; 5 s is where the API gives
/// up on a publish.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest long poll that SQS allows.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
/// How much longer than its wait a receive may take: a full answer of 10 MiB on a slow line.
pub(crate) const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// SQS, ready to be asked. Cheap to clone; made without a call, so it does not matter whether SQS
/// can be reached now.
#[derive(Clone, Debug)]
pub struct Sqs {
    poll: Client,
    control: Client,
}

impl Sqs {
    /// Makes the clients. Needs a region and, at the first call, credentials.
    pub async fn connect(config: &AwsConfig) -> Result<Self, BuildError> {
        let problems = config.check();
        if !problems.is_empty() {
            return Err(BuildError::Config(problems));
        }
        let shared = config.load().await;
        if shared.region().is_none() {
            return Err(BuildError::from(Problem {
                option: "AWS_REGION".to_owned(),
                value: None,
                reason: "not set, and no profile names a region".to_owned(),
                example: Some("AWS_REGION=eu-central-1".to_owned()),
            }));
        }
        let client = |attempt: Duration| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(attempt)
                .build();
            let config = Builder::from(&shared)
                .retry_config(RetryConfig::standard().with_max_attempts(1))
                .timeout_config(timeouts)
                // It watches bodies that stream; ours do not, and a parked poll is not a stall.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .build();
            Client::from_conf(config)
        };
        Ok(Self { poll: client(WAIT_MAX + WAIT_MARGIN), control: client(CALL_TIMEOUT) })
    }

    /// One queue; `name` is for logs and metrics.
    pub fn queue(&self, name: &str, url: &str) -> Arc<dyn Driver> {
        Arc::new(Queue::new(name, url, self.poll.clone(), self.control.clone()))
    }

    /// Asks SQS for a queue's URL.
    pub async fn queue_url(&self, name: &str) -> Result<String, DriverError> {
        let answer = self.control.get_queue_url().queue_name(name).send().await;
        let answer = answer.map_err(|error| call_error(&error, name))?;
        answer.queue_url.ok_or_else(|| DriverError::Unavailable(format!("no URL for {name}")))
    }

    /// Calls that change queues themselves, for bootstrap and the operator's command line.
    pub fn admin(&self) -> Admin {
        Admin::new(self.poll.clone(), self.control.clone())
    }
}

impl Broker for Sqs {
    type Config = AwsConfig;

    fn example_url(name: &str) -> String {
        format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}")
    }

    fn check_url(url: &str) -> Result<(), String> {
        check_url(url)?;
        let path = url.split("//").nth(1).and_then(|rest| rest.split_once('/'));
        match path {
            Some((_, path)) if !path.trim_matches('/').is_empty() => Ok(()),
            _ => Err("not the URL of a queue: the path /ACCOUNT/NAME is missing".to_owned()),
        }
    }

    async fn connect(config: AwsConfig) -> Result<Self, BuildError> {
        Self::connect(&config).await
    }

    fn queue(&self, name: &str, url: &str) -> Arc<dyn Driver> {
        Self::queue(self, name, url)
    }
}
