//! `fleetctl keys`: API keys. The text of a key is printed once, when it is made; only a hash is
//! stored.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use contracts::Tenant;
use database::api_keys::{self, ApiKey, NewKey};
use database::{Role, tenants};
use edge::Scope;
use queue_core::{Clock, SystemClock};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shown under the group's help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  fleetctl keys create --tenant acme --scope logs:write --scope logs:read
  fleetctl keys list --tenant acme
  fleetctl keys revoke k3mq9wzt4bxe7h2p";

/// Longest life that can be asked for, in days; a key without an end is made by leaving it out.
const DAYS_MAX: i64 = 3_650;

/// What can be done with keys.
#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it, once
    Create(Create),
    /// List keys; secrets are not stored and cannot be shown
    #[command(after_help = "Example:\n  fleetctl keys list --tenant acme --json")]
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<Tenant>,
    },
    /// Revoke a key: within 5 seconds where Redis is up, within 30 otherwise
    #[command(after_help = "Example:\n  fleetctl keys revoke k3mq9wzt4bxe7h2p")]
    Revoke {
        /// The part of the key between its second and third underscore
        key_id: String,
    },
}

/// A key to be made.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetctl keys create --tenant acme --scope logs:write
  fleetctl keys create --tenant acme --all-scopes --name 'nightly import' --days 90 --create-tenant")]
pub(crate) struct Create {
    /// Whose key
    #[arg(long)]
    tenant: Tenant,
    /// What it may do: logs:write, logs:read, logs:annotate, logs:erase, logs:export, logs:tail, logs:import
    #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "all_scopes")]
    scopes: Vec<Scope>,
    /// Every scope there is
    #[arg(long, conflicts_with = "scopes")]
    all_scopes: bool,
    /// What to call it
    #[arg(long, default_value = "made by fleetctl")]
    name: String,
    /// First part of its text: live, test, …
    #[arg(long, default_value = "live")]
    env: String,
    /// Days until it stops working; never when left out
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
    days: Option<i64>,
    /// Make the tenant where there is none
    #[arg(long = "create-tenant")]
    make_tenant: bool,
}

impl Keys {
    pub(crate) async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(settings, output).await,
            Self::List { tenant } => list(tenant.as_ref(), settings, output).await,
            Self::Revoke { key_id } => revoke(&key_id, settings, output).await,
        }
    }
}

impl Create {
    async fn run(self, settings: &Settings, output: &Output) -> Result<(), Failure> {
        let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !(1..=16).contains(&self.env.len()) || !self.env.bytes().all(lower) {
            return Err(Failure::usage("--env is 1 to 16 of a-z and 0-9, e.g. live"));
        }
        let database = settings.database(Role::Owner)?;
        self.ensure_tenant(&database, output).await?;
        let scopes = if self.all_scopes { Scope::ALL } else { &self.scopes };
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let made = edge::generate(&self.env);
        let key = NewKey {
            key_id: &made.key_id,
            tenant: &self.tenant,
            env: &self.env,
            secret_sha256: made.secret_sha256,
            scopes: &scopes,
            name: &self.name,
            expires_at: self.days.map(|days| SystemClock.now() + TimeDelta::days(days)),
        };
        let stored = api_keys::create(database.pool(), key).await?;
        let shown = json!({
            "key": made.text,
            "key_id": stored.key_id,
            "tenant": stored.tenant,
            "scopes": stored.scopes,
            "expires_at": stored.expires_at,
        });
        output.note("This is the only time the key is shown:");
        output.value(&shown, || made.text.clone());
        Ok(())
    }

    async fn ensure_tenant(
        &self,
        database: &database::Database,
        output: &Output,
    ) -> Result<(), Failure> {
        if tenants::get(database.pool(), &self.tenant).await?.is_some() {
            return Ok(());
        }
        if !self.make_tenant {
            return Err(Failure::new(format!("there is no tenant {}", self.tenant)).hint(format!(
                "`fleetctl tenants create {}`, or add --create-tenant",
                self.tenant
            )));
        }
        let class = contracts::RetentionClass::Days90;
        tenants::create(database.pool(), &self.tenant, class, false).await?;
        output.note(&format!("made tenant {}; its logs are kept {class}", self.tenant));
        Ok(())
    }
}

async fn list(
    tenant: Option<&Tenant>,
    settings: &Settings,
    output: &Output,
) -> Result<(), Failure> {
    let database = settings.database(Role::Owner)?;
    let keys = api_keys::list(database.pool(), tenant).await?;
    let now = SystemClock.now();
    let heads = ["KEY ID", "TENANT", "STATE", "LAST USED", "SCOPES", "NAME"];
    output.rows(&keys, &heads, |key| {
        let used = key.last_used_at.map_or_else(
            || "never".to_owned(),
            |at| format!("{} ago", crate::output::span((now - at).num_seconds())),
        );
        vec![
            key.key_id.clone(),
            key.tenant.to_string(),
            state(key, now).to_owned(),
            used,
            key.scopes.join(" "),
            key.name.clone(),
        ]
    });
    Ok(())
}

fn state(key: &ApiKey, now: DateTime<Utc>) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "valid"
    }
}

async fn revoke(key_id: &str, settings: &Settings, output: &Output) -> Result<(), Failure> {
    let database = settings.database(Role::Owner)?;
    let key = api_keys::revoke(database.pool(), key_id, SystemClock.now()).await?;
    let key = key.ok_or_else(|| {
        Failure::new(format!("there is no key {key_id}")).hint("`fleetctl keys list` shows the ids")
    })?;
    if let Err(error) = announce(key_id, settings).await {
        output.note(&format!(
            "Redis was not told ({}): caches forget the key within 30 s",
            error.message
        ));
    }
    output.value(&key, || format!("revoked {key_id} of {}", key.tenant));
    Ok(())
}

/// Tells every API process at once.
async fn announce(key_id: &str, settings: &Settings) -> Result<(), Failure> {
    let config = settings.read::<sinks::pubsub::FeedConfig>()?;
    let feed = sinks::pubsub::Feed::open(&config).map_err(Failure::new)?;
    feed.announce_revocation(key_id).await.map_err(Failure::new)
}
