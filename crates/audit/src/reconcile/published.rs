//! What the archive's store shows of a tenant's chain: which documents are there, their files, and the
//! newest signed head. It reads names and small files, and believes none of them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Tenant;
use evidence::document::{
    DOCUMENT_BYTES_MAX, DocumentName, Kind, chain_prefix, document_name, head_name, heads_prefix,
    parse_document_name,
};
use evidence::head::HEAD_BYTES_MAX;
use sinks::objects::{ObjectKey, PAGE_MAX, SharedObjects};

use super::ReconcileError;

/// Documents of one chain at most.
const DOCUMENTS_MAX: usize = 5_000_000;
/// Heads are looked for from so long ago on first, and then from the beginning.
const RECENT: TimeDelta = TimeDelta::days(2);

/// A head's name and file.
pub(super) type HeadFile = (String, Vec<u8>);

pub(super) fn object_key(name: &str) -> Result<ObjectKey, ReconcileError> {
    name.parse().map_err(|error| ReconcileError::Wrong(format!("{name}: {error}")))
}

/// Kinds of the documents from that number on, by number.
pub(super) async fn documents(
    objects: &SharedObjects,
    tenant: &Tenant,
    from: u64,
) -> Result<BTreeMap<u64, Kind>, ReconcileError> {
    let prefix = chain_prefix(tenant);
    // The last name that a document of the number before can have.
    let before = |from: u64| object_key(&document_name(tenant, from - 1, Kind::Receipt));
    let mut after = if from > 1 { Some(before(from)?) } else { None };
    let mut found = BTreeMap::new();
    loop {
        let page = objects.list(&prefix, after.as_ref(), PAGE_MAX).await?;
        for object in &page.objects {
            let name = object.key.as_str().strip_prefix(&prefix).and_then(parse_document_name);
            let Some(DocumentName { sequence, kind }) = name else { continue };
            if found.insert(sequence, kind).is_some_and(|other| other != kind) {
                let text = format!("document {sequence} of {tenant} is there twice");
                return Err(ReconcileError::Broken(text));
            }
        }
        if found.len() > DOCUMENTS_MAX {
            let text = format!("{tenant}: more than {DOCUMENTS_MAX} documents");
            return Err(ReconcileError::Wrong(text));
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// A document's file.
pub(super) async fn document(
    objects: &SharedObjects,
    tenant: &Tenant,
    name: DocumentName,
) -> Result<Vec<u8>, ReconcileError> {
    let text = document_name(tenant, name.sequence, name.kind);
    let file = objects.get(&object_key(&text)?, DOCUMENT_BYTES_MAX).await?;
    file.ok_or_else(|| ReconcileError::Broken(format!("{text} was listed and is not there")))
}

/// The head that was signed last, by its name.
pub(super) async fn newest_head(
    objects: &SharedObjects,
    tenant: &Tenant,
    now: DateTime<Utc>,
) -> Result<Option<HeadFile>, ReconcileError> {
    let recent = object_key(&head_name(tenant, now - RECENT, 0))?;
    let mut newest = last(objects, tenant, Some(recent)).await?;
    if newest.is_none() {
        newest = last(objects, tenant, None).await?;
    }
    let Some(key) = newest else { return Ok(None) };
    let file = objects.get(&key, HEAD_BYTES_MAX).await?;
    Ok(file.map(|file| (key.to_string(), file)))
}

async fn last(
    objects: &SharedObjects,
    tenant: &Tenant,
    mut after: Option<ObjectKey>,
) -> Result<Option<ObjectKey>, ReconcileError> {
    let prefix = heads_prefix(tenant);
    let mut last = None;
    loop {
        let page = objects.list(&prefix, after.as_ref(), PAGE_MAX).await?;
        last = page.objects.last().map(|object| object.key.clone()).or(last);
        after = page.next;
        if after.is_none() {
            return Ok(last);
        }
    }
}
