//! `fleetctl healthcheck`: a service's own admin port, asked from inside its container, where no curl
//! is. Alive by default; a dependency that is down must not get a service restarted.

use clap::Args;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::PATIENCE;

/// Asks and exits 0 or 69.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  fleetctl healthcheck\n  fleetctl healthcheck --ready --admin http://127.0.0.1:9091"
)]
pub(crate) struct Healthcheck {
    /// The admin port
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// Ask for its dependencies too
    #[arg(long)]
    ready: bool,
}

impl Healthcheck {
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let path = if self.ready { "readyz" } else { "healthz" };
        let url = format!("{}/{path}", self.admin.trim_end_matches('/'));
        let asked = reqwest::Client::new().get(&url).timeout(PATIENCE).send().await;
        let answer = asked.map_err(|error| {
            Failure::unavailable(format!("{url} does not answer: {}", error.without_url()))
                .hint("is the service running, and is ADMIN_ADDR its address?")
        })?;
        let status = answer.status();
        // A readiness report is short; what it says is the reason.
        let text = answer.text().await.unwrap_or_default();
        if !status.is_success() {
            return Err(Failure::unavailable(format!("{url} answers {status}: {text}")));
        }
        output.value(&serde_json::json!({ "url": url, "healthy": true }), || "healthy".to_owned());
        Ok(())
    }
}
