//! Which search engine, where, and as whom: flags and environment.
//! Nothing is connected at start; a search engine that is down must not keep a process from living.

use std::time::Duration;

/// How calls to OpenSearch are authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SearchAuth {
    /// Basic when a user name is set, else none.
    #[default]
    Auto,
    /// AWS Signature Version 4 with the default credentials chain and `AWS_REGION`.
    Aws,
}

/// The search engine.
#[derive(Clone, clap::Args)]
pub struct SearchConfig {
    /// OpenSearch's address; without one, PostgreSQL full text is used
    ///
    /// Example: `http://localhost:9200`
    #[arg(long, env = "OPENSEARCH_URL", value_parser = url)]
    pub opensearch_url: Option<String>,
    /// User name for basic authentication
    ///
    /// Example: flotilla
    #[arg(long, env = "OPENSEARCH_USERNAME", requires = "opensearch_url")]
    pub opensearch_username: Option<String>,
    /// Password for basic authentication
    ///
    /// Example: correct-horse-battery
    #[arg(
        long,
        env = "OPENSEARCH_PASSWORD",
        hide_env_values = true,
        requires = "opensearch_username"
    )]
    pub opensearch_password: Option<String>,
    /// How to authenticate: auto (basic when a user name is set) or aws (Signature Version 4)
    #[arg(long, env = "OPENSEARCH_AUTH", value_enum, default_value = "auto")]
    pub opensearch_auth: SearchAuth,
    /// First part of every index and alias name: lower case letters and digits
    #[arg(long, env = "OPENSEARCH_INDEX_PREFIX", default_value = "audit", value_parser = prefix)]
    pub opensearch_index_prefix: String,
    /// Seconds after which a call to the search engine is given up, 1 to 120
    #[arg(
        long,
        env = "SEARCH_TIMEOUT_SECS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=120)
    )]
    pub search_timeout_secs: u64,
}

impl std::fmt::Debug for SearchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password is left out.
        f.debug_struct("SearchConfig")
            .field("opensearch_url", &self.opensearch_url)
            .field("opensearch_username", &self.opensearch_username)
            .field("opensearch_auth", &self.opensearch_auth)
            .field("opensearch_index_prefix", &self.opensearch_index_prefix)
            .field("search_timeout_secs", &self.search_timeout_secs)
            .finish_non_exhaustive()
    }
}

impl SearchConfig {
    /// PostgreSQL, with defaults.
    pub fn postgres() -> Self {
        Self {
            opensearch_url: None,
            opensearch_username: None,
            opensearch_password: None,
            opensearch_auth: SearchAuth::Auto,
            opensearch_index_prefix: "audit".into(),
            search_timeout_secs: 10,
        }
    }

    /// OpenSearch at that address without authentication, with defaults.
    pub fn opensearch(url: impl Into<String>) -> Self {
        Self { opensearch_url: Some(url.into()), ..Self::postgres() }
    }

    /// When a call is given up.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.search_timeout_secs)
    }
}

fn url(text: &str) -> Result<String, String> {
    let parsed = ::opensearch::http::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err("expected http:// or https:// and a host, e.g. http://localhost:9200".into());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("put user and password into OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD".into());
    }
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    let valid = (1..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.as_bytes()[0].is_ascii_lowercase();
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| "expected 1 to 40 of a-z and 0-9, starting with a letter, e.g. audit".into())
}
