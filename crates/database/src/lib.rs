//! PostgreSQL for every subsystem: the pool under a role, the migrations, and the tables that belong
//! to no subsystem (attempts, keys, tenants, leases, partitions, the outbox). Subsystems keep their own SQL.
//!
//! What it never does: migrate on its own, connect at start (a Postgres that is down must not kill
//! a process), or hand out a connection that has not taken its role.

pub mod ageing;
pub mod alerts;
pub mod api_keys;
pub mod attempts;
pub mod config;
pub mod effects;
pub mod error;
pub mod leader;
pub mod outbox;
pub mod parking;
pub mod partitions;
pub mod pool;
pub mod schema;
pub mod tenants;

pub use attempts::PostgresAttempts;
pub use config::{DatabaseConfig, Role};
pub use effects::PostgresEffects;
pub use error::{DbErrorClass, classify, timed};
pub use parking::PostgresParking;
pub use pool::Database;
pub use schema::MigrateError;
pub use sqlx;
