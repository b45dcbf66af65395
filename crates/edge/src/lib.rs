//! The edge of the HTTP API: who asks (API keys, scopes), how much they may ask (sizes, times,
//! concurrency, rate), and how a refusal looks (RFC 9457). The same for every subsystem's routes.
//!
//! What it never does: know a route, a message or a table of a subsystem, take a tenant from
//! anything but the key, or let a value of a secret into a log.

pub mod auth;
pub mod config;
pub mod front;
pub mod key;
pub mod principal;
pub mod problem;
pub mod rate;
pub mod request;
pub mod serve;

pub use auth::{Authenticator, KeyStore};
pub use config::EdgeConfig;
pub use front::{Gate, authenticated, front};
pub use key::{PresentedKey, generate};
pub use principal::{Principal, Scope};
pub use problem::{FieldProblem, Problem};
pub use request::{ReadBody, RequestInfo};
pub use serve::{ServeReport, ServerLimits, serve};
