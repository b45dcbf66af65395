//! Every option of the API, each defined beside what it configures.

use audit::http::RouteConfig;
use audit::live::LiveConfig;
use audit::publish::PublishConfig;
use chassis::Problem;
use database::DatabaseConfig;
use edge::EdgeConfig;
use queue_sqs::{AwsConfig, Sqs};
use sinks::objects::{ArchiveConfig, ClaimConfig};
use sinks::pubsub::FeedConfig;
use sinks::search::SearchConfig;

/// The API's options.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiConfig {
    /// URL of the index queue, `audit-log-index-queue`
    ///
    /// Example: `http://localhost:4566/000000000000/audit-log-index-queue`
    #[arg(long, env = "AWS_SQS_INDEX_QUEUE_URL", value_name = "URL")]
    pub index_queue_url: String,

    /// Where SQS is.
    #[command(flatten)]
    pub aws: AwsConfig,
    /// Where PostgreSQL is.
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// Where the search engine is.
    #[command(flatten)]
    pub search: SearchConfig,
    /// Where Redis is.
    #[command(flatten)]
    pub feed: FeedConfig,
    /// What a client may ask.
    #[command(flatten)]
    pub edge: EdgeConfig,
    /// How large events may be.
    #[command(flatten)]
    pub routes: RouteConfig,
    /// How much is buffered for the queue.
    #[command(flatten)]
    pub publish: PublishConfig,
    /// Messages over the broker's limit.
    #[command(flatten)]
    pub claims: ClaimConfig,
    /// The archive, to search in; without one such requests are refused.
    #[command(flatten)]
    pub archive: ArchiveConfig,
    /// The live tail.
    #[command(flatten)]
    pub live: LiveConfig,

    /// The step at which a debug build kills itself, for crash tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "CRASH_POINT", hide = true)]
    pub crash_point: Option<audit::crash::CrashPoint>,
}

impl ApiConfig {
    /// What is wrong between these values.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.aws.check();
        if let Err((option, reason)) = self.archive.check() {
            problems.push(Problem {
                option: option.to_owned(),
                value: None,
                reason: reason.to_owned(),
                example: None,
            });
        }
        if let Err(reason) = <Sqs as chassis::Broker>::check_url(&self.index_queue_url) {
            problems.push(Problem::new(
                "AWS_SQS_INDEX_QUEUE_URL",
                &self.index_queue_url,
                reason,
                format!(
                    "AWS_SQS_INDEX_QUEUE_URL={}",
                    <Sqs as chassis::Broker>::example_url(crate::QUEUE.name)
                ),
            ));
        }
        if self.publish.publish_tenant_bytes_max > self.publish.publish_bytes_max {
            problems.push(Problem::new(
                "PUBLISH_TENANT_BYTES_MAX",
                &self.publish.publish_tenant_bytes_max,
                format!("it is above PUBLISH_BYTES_MAX, {}", self.publish.publish_bytes_max),
                "PUBLISH_TENANT_BYTES_MAX=8388608",
            ));
        }
        if self.edge.body_bytes_in_flight_max < self.edge.body_bytes_max {
            problems.push(Problem::new(
                "BODY_BYTES_IN_FLIGHT_MAX",
                &self.edge.body_bytes_in_flight_max,
                format!("a body of BODY_BYTES_MAX, {}, would never fit", self.edge.body_bytes_max),
                "BODY_BYTES_IN_FLIGHT_MAX=134217728",
            ));
        }
        // A whole bulk of the largest events is admitted or refused at once.
        if self.publish.publish_tenant_bytes_max < self.edge.body_bytes_max {
            problems.push(Problem::new(
                "PUBLISH_TENANT_BYTES_MAX",
                &self.publish.publish_tenant_bytes_max,
                format!("a body of BODY_BYTES_MAX, {}, would never fit", self.edge.body_bytes_max),
                "PUBLISH_TENANT_BYTES_MAX=8388608",
            ));
        }
        problems
    }
}
