//! Which queues of the catalogue it watches: those whose URL is set, by the same variables as their
//! workers'. It looks at counts alone and never receives.

use std::sync::Arc;

use chassis::{Broker, BuildError, Problem, dead_letter_url};
use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use contracts::QueueSpec;
use contracts::catalogue::QUEUES;
use queue_core::Driver;
use queue_sqs::{AwsConfig, Sqs};

/// URLs of queues, each optional: one option per queue of the catalogue.
#[derive(Clone, Debug, Default)]
pub struct QueueUrls(pub Vec<(&'static QueueSpec, String)>);

impl Args for QueueUrls {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("Queues to watch");
        QUEUES.iter().fold(command, |command, spec| {
            let check = |url: &str| <Sqs as Broker>::check_url(url).map(|()| url.to_owned());
            command.arg(
                Arg::new(spec.env)
                    .long(format!("{}-queue-url", spec.key))
                    .env(spec.env)
                    .value_name("URL")
                    .help(format!(
                        "URL of the queue {}; set, its dead letters are an alert",
                        spec.name
                    ))
                    .long_help(format!(
                        "URL of the queue {}; set, its dead letters are an alert\n\nExample: `{}`",
                        spec.name,
                        <Sqs as Broker>::example_url(spec.name)
                    ))
                    .value_parser(check),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for QueueUrls {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let url = |spec: &&'static QueueSpec| {
            let url = matches.try_get_one::<String>(spec.env).ok().flatten()?;
            Some((*spec, url.clone()))
        };
        Ok(Self(QUEUES.iter().filter_map(url).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A queue and its dead-letter queue, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) spec: &'static QueueSpec,
    pub(crate) queue: Arc<dyn Driver>,
    pub(crate) dead_letters: Arc<dyn Driver>,
}

impl QueueUrls {
    /// What is wrong, if anything; without queues nobody needs to know where SQS is.
    pub(crate) fn check(&self, aws: &AwsConfig) -> Vec<Problem> {
        if self.0.is_empty() { Vec::new() } else { aws.check() }
    }

    /// Makes the clients; nothing is asked yet.
    pub(crate) async fn open(&self, aws: &AwsConfig) -> Result<Vec<Watched>, BuildError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let sqs = Sqs::connect(aws).await?;
        let watched = |(spec, url): &(&'static QueueSpec, String)| Watched {
            spec,
            queue: sqs.queue(spec.name, url),
            dead_letters: sqs.queue(spec.dlq, &dead_letter_url(url, spec)),
        };
        Ok(self.0.iter().map(watched).collect())
    }
}
