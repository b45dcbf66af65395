//! What `fleet up` says when it is ready: short lines for a person, one line of JSON for a script.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;

use crate::backends::Laptop;
use crate::first_key::TENANT;
use crate::options::{ServiceName, UpConfig};

const EVENT: &str = r#"{"actor":{"type":"user","id":"u-1"},"action":"user.login","targets":[{"type":"app","id":"web"}]}"#;

/// Where an own binary's admin port goes, so that it does not want the fleet's.
const ADMIN_BESIDE: &str = "127.0.0.1:9091";

/// Everything that the report tells.
pub(crate) struct Ready<'a> {
    /// The options.
    pub(crate) config: &'a UpConfig,
    /// Where `/readyz` and the others are.
    pub(crate) admin: String,
    /// The laptop backends, where they are used.
    pub(crate) laptop: Option<&'a Laptop>,
    /// The key that was made just now.
    pub(crate) key: Option<&'a str>,
    /// From the start of the process until every service was ready.
    pub(crate) took: Duration,
}

impl Ready<'_> {
    /// One line of JSON. The environment is in `fleet.env`, not here: this line is often logged.
    pub(crate) fn json(&self) -> String {
        let services: Vec<&str> = ServiceName::ALL
            .into_iter()
            .filter(|service| self.config.runs(*service))
            .map(ServiceName::as_str)
            .collect();
        let document = json!({
            "api": format!("http://{}", self.config.listen_addr),
            "admin": format!("http://{}", self.admin),
            "sqs": self.laptop.map(|laptop| format!("http://{}", laptop.sqs)),
            "state_dir": self.laptop.map(|laptop| laptop.state.path()),
            "env_file": self.laptop.map(|laptop| laptop.state.join("fleet.env")),
            "tenant": self.laptop.map(|_| TENANT),
            "api_key": self.key,
            "services": services,
            "ready_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        });
        format!("{document}\n")
    }

    /// Lines for a person.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default();
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "Flotilla is up ({:.1} s).\n", self.took.as_secs_f64())?;
        let api = format!("http://{}", self.config.listen_addr);
        if self.config.runs(ServiceName::IngestApi) {
            writeln!(out, "  API         {api}  (docs: {api}/docs)")?;
        }
        writeln!(out, "  Admin       http://{}  (/readyz /status /metrics)", self.admin)?;
        let Some(laptop) = self.laptop else {
            return writeln!(out, "\nStop: Ctrl-C or SIGTERM.");
        };
        writeln!(out, "  Queues      http://{}", laptop.sqs)?;
        writeln!(out, "  PostgreSQL  127.0.0.1:{}", laptop.postgres_port)?;
        writeln!(out, "  Redis       127.0.0.1:{}", laptop.redis_port)?;
        writeln!(out, "  Data        {}", laptop.state.path().display())?;
        self.write_key(out, &api)?;
        for service in &self.config.except {
            write_beside(out, laptop, *service, &self.config.listen_addr.to_string())?;
        }
        writeln!(out, "\nStop: Ctrl-C. Start again: the data is kept.")
    }

    fn write_key(&self, out: &mut String, api: &str) -> std::fmt::Result {
        match self.key {
            Some(key) => {
                writeln!(out, "\nAPI key of tenant {TENANT}, shown this once:\n\n  {key}")?;
                writeln!(out, "\nTry it:\n")?;
                writeln!(out, "  curl -s {api}/logs -H 'Authorization: Bearer {key}' \\")?;
                writeln!(out, "    -H 'Content-Type: application/json' -d '{EVENT}'")?;
                writeln!(out, "  curl -s '{api}/logs?q=login' -H 'Authorization: Bearer {key}'")?;
                writeln!(out, "\nAnother key:\n")?;
            }
            None => writeln!(out, "\nKeys are shown only when they are made. Another key:\n")?,
        }
        let env = self.laptop.map(|laptop| laptop.state.join("fleet.env"));
        let env = env.map(|path| format!(" --env-file {}", path.display())).unwrap_or_default();
        writeln!(out, "  fleetctl{env} keys create --tenant {TENANT} --all-scopes")
    }
}

/// The environment with which a service's own binary runs beside the fleet.
fn write_beside(
    out: &mut String,
    laptop: &Laptop,
    service: ServiceName,
    listen_addr: &str,
) -> std::fmt::Result {
    writeln!(out, "\n{} is left out. Run its own binary with:\n", service.as_str())?;
    for (name, value) in &laptop.variables {
        writeln!(out, "  export {name}='{value}'")?;
    }
    if service == ServiceName::IngestApi {
        writeln!(out, "  export LISTEN_ADDR='{listen_addr}'")?;
    }
    writeln!(out, "  ADMIN_ADDR={ADMIN_BESIDE} {}", service.as_str())
}
