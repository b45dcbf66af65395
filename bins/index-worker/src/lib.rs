//! index-worker
