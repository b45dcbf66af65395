//! The places that policies may name: Slack's and other webhooks, whose addresses are secrets and stand in
//! the worker's configuration, never in a policy. A mailbox needs no name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use contracts::Tenant;
use serde::Deserialize;
use sinks::notify::Target;

use crate::retention::policy::Notify;

/// Bytes of the whole list at most.
pub const TARGETS_BYTES_MAX: usize = 256 * 1024;
/// Names at most.
pub const TARGETS_MAX: usize = 1_000;

/// Places by name.
#[derive(Clone, Default)]
pub struct Targets(Arc<BTreeMap<String, Place>>);

#[derive(Clone)]
struct Place {
    target: Target,
    /// Whose policies may name it; `None`: everybody's.
    tenants: Option<Vec<Tenant>>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    slack: Option<String>,
    webhook: Option<String>,
    secret: Option<String>,
    tenants: Option<Vec<Tenant>>,
}

impl Written {
    fn place(self) -> Result<Place, String> {
        let target = match (self.slack, self.webhook, self.secret) {
            (Some(url), None, None) => Target::Slack(url.parse().map_err(text)?),
            (None, Some(url), Some(secret)) => Target::Webhook {
                url: url.parse().map_err(text)?,
                secrets: secret.parse().map_err(text)?,
            },
            _ => return Err("expected `slack`, or `webhook` and `secret`".to_owned()),
        };
        Ok(Place { target, tenants: self.tenants })
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

impl Targets {
    /// What a policy of the tenant means; else why it means nothing here.
    pub fn find(&self, tenant: &Tenant, wanted: &Notify) -> Result<Target, String> {
        let (name, slack) = match wanted {
            Notify::Email { to } => return to.parse().map(Target::Email).map_err(text),
            Notify::Slack { name } => (name, true),
            Notify::Webhook { name } => (name, false),
        };
        let place = self
            .0
            .get(name)
            .filter(|place| place.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant)));
        match place.map(|place| &place.target) {
            Some(target) if matches!(target, Target::Slack(_)) == slack => Ok(target.clone()),
            Some(target) => Err(format!("{name:?} is a {} here", target.sink())),
            None => Err(format!("NOTIFY_TARGETS has no {name:?} for this tenant")),
        }
    }
}

impl FromStr for Targets {
    type Err = String;

    fn from_str(json: &str) -> Result<Self, String> {
        if json.len() > TARGETS_BYTES_MAX {
            return Err(format!("{} bytes, the limit is {TARGETS_BYTES_MAX}", json.len()));
        }
        // The text is a secret: of what is wrong with it only the place is told.
        let written: BTreeMap<String, Written> = serde_json::from_str(json).map_err(|error| {
            format!("not the JSON object that is expected, line {}", error.line())
        })?;
        if written.len() > TARGETS_MAX {
            return Err(format!("{} names, the limit is {TARGETS_MAX}", written.len()));
        }
        let place = |(name, written): (String, Written)| match written.place() {
            Ok(place) => Ok((name, place)),
            Err(why) => Err(format!("{name:?}: {why}")),
        };
        Ok(Self(Arc::new(written.into_iter().map(place).collect::<Result<_, _>>()?)))
    }
}

/// The names alone.
impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";

    fn acme() -> Tenant {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_name_means_its_place_for_its_tenants_and_its_kind() {
        let json = format!(
            r#"{{"ops": {{"slack": "https://hooks.example.com/T0/secret"}},
                "hook": {{"webhook": "https://example.com/h", "secret": "{SECRET}", "tenants": ["acme"]}}}}"#
        );
        let targets: Targets = json.parse().unwrap();
        let slack = |name: &str| Notify::Slack { name: name.into() };
        let hook = Notify::Webhook { name: "hook".into() };
        assert!(matches!(targets.find(&acme(), &slack("ops")), Ok(Target::Slack(_))));
        assert!(matches!(targets.find(&acme(), &hook), Ok(Target::Webhook { .. })));
        let other: Tenant = "globex".parse().unwrap();
        assert!(targets.find(&other, &hook).unwrap_err().contains("no \"hook\""));
        assert!(targets.find(&acme(), &slack("hook")).unwrap_err().contains("is a webhook"));
        assert!(targets.find(&acme(), &slack("none")).is_err());
        let mail = Notify::Email { to: "ops@example.com".into() };
        assert!(matches!(Targets::default().find(&acme(), &mail), Ok(Target::Email(_))));
        let shown = format!("{targets:?}");
        assert!(shown.contains("ops") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_no_place_is_refused_and_no_secret_is_told() {
        for (json, part) in [
            ("[]", "JSON object"),
            (r#"{"a": {}}"#, "expected `slack`"),
            (r#"{"a": {"webhook": "https://example.com/hush"}}"#, "expected `slack`"),
            (r#"{"a": {"slack": "hush"}}"#, "not a URL"),
            (r#"{"a": {"slack": "https://example.com/hush", "hush": 1}}"#, "JSON object"),
        ] {
            let error = json.parse::<Targets>().unwrap_err();
            assert!(error.contains(part) && !error.contains("hush"), "{json}: {error}");
        }
        let long = format!(r#"{{"{}": {{}}}}"#, "a".repeat(TARGETS_BYTES_MAX));
        assert!(long.parse::<Targets>().unwrap_err().contains("limit"));
    }
}
