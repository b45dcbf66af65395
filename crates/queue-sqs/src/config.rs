//! Where SQS is and who we are to it. Credentials are those of the SDK's usual chain (environment,
//! profile, web identity, ECS, instance) unless a key pair is given.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use chassis::{Problem, Secret};

/// Options of every process that speaks to SQS.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "AWS")]
pub struct AwsConfig {
    /// AWS region
    ///
    /// Example: eu-central-1
    #[arg(long, env = "AWS_REGION", value_parser = region)]
    pub aws_region: Option<String>,

    /// AWS region where `AWS_REGION` is not set, as older tools name it
    ///
    /// Example: eu-central-1
    #[arg(long, env = "AWS_DEFAULT_REGION", value_parser = region, hide = true)]
    pub aws_default_region: Option<String>,

    /// Endpoint of SQS, in place of the region's own
    ///
    /// Example: `http://localhost:4566`
    #[arg(long, env = "AWS_ENDPOINT_URL_SQS", value_parser = endpoint)]
    pub aws_endpoint_url_sqs: Option<String>,

    /// Endpoint of every AWS service that has none of its own
    ///
    /// Example: `http://localhost:4566`
    #[arg(long, env = "AWS_ENDPOINT_URL", value_parser = endpoint)]
    pub aws_endpoint_url: Option<String>,

    /// Access key id; without one the usual chain of credentials is asked
    ///
    /// Example: AKIAIOSFODNN7EXAMPLE
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub aws_access_key_id: Option<String>,

    /// Secret of the access key
    ///
    /// Example: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub aws_secret_access_key: Option<Secret>,

    /// Session token of temporary credentials
    ///
    /// Example: `IQoJb3JpZ2luX2VjEXAMPLE`
    #[arg(long, env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    pub aws_session_token: Option<Secret>,
}

fn region(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("not the name of a region".to_owned()) }
}

fn endpoint(text: &str) -> Result<String, String> {
    check_url(text).map(|()| text.trim_end_matches('/').to_owned())
}

/// Whether `text` is an absolute `http` or `https` URL.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err("not a URL: http://HOST or https://HOST is expected".to_owned()),
    }
}

impl AwsConfig {
    /// The region, if one is given.
    pub fn region(&self) -> Option<&str> {
        self.aws_region.as_deref().or(self.aws_default_region.as_deref())
    }

    /// The endpoint of SQS, if one is given.
    pub fn endpoint(&self) -> Option<&str> {
        self.aws_endpoint_url_sqs.as_deref().or(self.aws_endpoint_url.as_deref())
    }

    /// What is wrong between these values.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.aws_access_key_id.is_some() != self.aws_secret_access_key.is_some() {
            let (missing, example) = match self.aws_access_key_id {
                Some(_) => ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG"),
                None => ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"),
            };
            problems.push(Problem {
                option: missing.to_owned(),
                value: None,
                reason: "not set, but the other half of the key pair is".to_owned(),
                example: Some(example.to_owned()),
            });
        }
        problems
    }

    /// The SDK's configuration, without timeouts and retries, which each client sets for itself.
    pub(crate) async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = self.region() {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = self.endpoint() {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some((id, secret)) =
            self.aws_access_key_id.as_ref().zip(self.aws_secret_access_key.as_ref())
        {
            let token = self.aws_session_token.as_ref().map(|token| token.reveal().to_owned());
            let credentials =
                Credentials::new(id, secret.reveal(), token, None, "flotilla-options");
            loader = loader.credentials_provider(SharedCredentialsProvider::new(credentials));
        }
        loader.load().await
    }
}
