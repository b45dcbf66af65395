//! A store and a search engine that say yes at once: what is left is the product's own work.

use async_trait::async_trait;
use audit::model::{
    Erased, Erasure, Inserted, LogKey, NewErasure, NewLog, NewRevision, Revised, StoredLog,
};
use audit::store::{LogStore, StoreError};
use contracts::{LogId, Tenant};
use queue_core::Probe;
use sinks::search::{
    Document, DocumentRef, Indexed, ItemError, Page, Partition, Query, Rebuild, Rebuilt, Search,
    SinkError, SinkErrorKind, SortKey,
};

/// A store that says yes.
pub struct StubStore;

#[async_trait]
impl LogStore for StubStore {
    async fn insert(&self, logs: &[NewLog]) -> Result<Inserted, StoreError> {
        Ok(Inserted { ingest_xid: 1, new_rows: logs.len() as u64 })
    }
    async fn fetch(&self, _keys: &[LogKey]) -> Result<Vec<StoredLog>, StoreError> {
        Ok(Vec::new())
    }
    async fn revise(&self, _: &Tenant, _: LogId, _: &NewRevision) -> Result<Revised, StoreError> {
        Ok(Revised::Missing)
    }
    async fn erase(&self, _: &NewErasure, _: &[NewLog]) -> Result<Erasure, StoreError> {
        Ok(Erasure::Done(Erased { key: None, ingest_xid: 1 }))
    }
    async fn erased_among(&self, _: &[(&Tenant, LogId)]) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }
}

/// A search engine that says yes.
pub struct StubSearch;

#[async_trait]
impl Probe for StubSearch {
    fn name(&self) -> &'static str {
        "stub"
    }
    async fn probe(&self) -> Result<(), String> {
        Ok(())
    }
}

fn none<T>() -> Result<T, SinkError> {
    Err(SinkError::new("stub", SinkErrorKind::Unavailable, "the stub holds nothing"))
}

#[async_trait]
impl Search for StubSearch {
    async fn ensure(&self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn index(
        &self,
        documents: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        Ok(documents.iter().map(|_| Ok(Indexed::Written)).collect())
    }
    async fn erase(&self, logs: &[DocumentRef]) -> Result<Vec<Result<(), ItemError>>, SinkError> {
        Ok(logs.iter().map(|_| Ok(())).collect())
    }
    async fn search(
        &self,
        _: &Tenant,
        _: &Query,
        _: usize,
        _: Option<SortKey>,
    ) -> Result<Page, SinkError> {
        none()
    }
    async fn count(&self, _: &Tenant, _: &Query) -> Result<u64, SinkError> {
        none()
    }
    /// It holds nothing, so it finds none of them.
    async fn remaining(&self, _: &Tenant, _: &[LogId]) -> Result<u64, SinkError> {
        Ok(0)
    }
    async fn refresh(&self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn begin_rebuild(&self, _: Partition) -> Result<Rebuild, SinkError> {
        none()
    }
    async fn fill(
        &self,
        _: &Rebuild,
        _: &[Document],
    ) -> Result<Vec<Result<Indexed, ItemError>>, SinkError> {
        none()
    }
    async fn finish_rebuild(&self, _: Rebuild) -> Result<Rebuilt, SinkError> {
        none()
    }
    async fn abandon_rebuild(&self, _: Rebuild) -> Result<(), SinkError> {
        none()
    }
}
