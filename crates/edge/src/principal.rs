//! Who asks: the tenant and the scopes that a valid key gives. Handlers take it as an argument and
//! name the scope they need; the tenant is never taken from anywhere else.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use contracts::errors::{FORBIDDEN, UNAUTHENTICATED};
use contracts::{RetentionClass, Tenant};
use http::request::Parts;

use crate::problem::Problem;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a key may do. A closed list: an unknown text in a stored key grants nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Scope { $($(#[$doc])* $name,)* }

        impl Scope {
            /// Every scope, in the order of the docs.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The text in a key.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

scopes! {
    /// Send logs.
    LogsWrite = "logs:write";
    /// Search and read logs.
    LogsRead = "logs:read";
    /// Append tags and annotations.
    LogsAnnotate = "logs:annotate";
    /// Erase a log.
    LogsErase = "logs:erase";
    /// Export a search.
    LogsExport = "logs:export";
    /// Follow the live tail.
    LogsTail = "logs:tail";
    /// Send events from long ago.
    LogsImport = "logs:import";
    /// Have logs archived and deleted on request.
    LogsCleanup = "logs:cleanup";
    /// Search the archive.
    ArchivesRead = "archives:read";
    /// Read retention policies, simulate them, explain a log's retention.
    PoliciesRead = "policies:read";
    /// Make, change and delete retention policies.
    PoliciesWrite = "policies:write";
    /// Let a run pass its brake.
    PoliciesApprove = "policies:approve";
    /// Read legal holds.
    HoldsRead = "holds:read";
    /// Place and release legal holds.
    HoldsWrite = "holds:write";
}

/// A text that is no scope.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a scope; one of {known}", known = known())]
pub struct UnknownScope(String);

fn known() -> String {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope(text.chars().take(40).collect()))
    }
}

/// What a valid key says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose data it works on.
    pub tenant: Tenant,
    /// Public part of the key.
    pub key_id: Arc<str>,
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// Class of the tenant's new logs, at most as old as the cached key.
    pub class: RetentionClass,
}

impl Principal {
    /// Whether the key has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Refuses when the key lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        Err(Problem::new(FORBIDDEN, format!("the key needs the scope {}", scope.as_str())))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    /// What [`crate::front::authenticated`] left with the request.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Self>().cloned();
        principal.ok_or_else(|| Problem::new(UNAUTHENTICATED, "the request carries no API key"))
    }
}
