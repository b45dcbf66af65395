//! Against a real PostgreSQL.

mod migrating;
