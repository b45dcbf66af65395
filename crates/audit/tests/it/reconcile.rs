//! The reconciler against a real database, search in it and a directory in the bucket's place: what it
//! finds when PostgreSQL is restored to an earlier point or a store has lost something, what it mends, and
//! what it leaves alone.

mod chains;
mod rollback;
mod scene;
mod stores;
