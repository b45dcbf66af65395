//! Deletion receipts, in force again. What a receipt lists is buried, so that nothing brings it back. Rows
//! that a restore brought back go only where that is asked for, each compared with its leaf in the list
//! of a receipt that is sealed, published and in the chain.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contracts::{LogId, RetentionClass, Tenant};
use evidence::document::{Body, DELETED_ID_BYTES, DocumentName, Kind, Receipt, Scope};
use evidence::merkle::{self, Salt, Tree, salted_leaf};
use evidence::verify::DELETED_IDS_BYTES_MAX;
use evidence::{Hash, Sealed};
use serde::Serialize;
use serde_json::json;
use sinks::search::DocumentRef;
use uuid::Uuid;

use super::proved::unit_id;
use super::published::{self, object_key};
use super::{Author, FindingKind, Findings, ReconcileError, Reconciler};
use crate::archive::Keeper;
use crate::model::LogKey;
use crate::store::reconcile::Listed;
use crate::store::{self, ExportRow};

/// The action of the fleet's own entry, one per transaction that deletes.
pub const APPLIED_ACTION: &str = "flotilla.receipt.applied";
/// What the reason of a tombstone begins with that a receipt left.
const REASON: &str = "deletion receipt ";
/// Tombstones of one transaction.
const BURIED_AT_ONCE: usize = 5_000;
/// Rows of one transaction, which are read whole.
const REMOVED_AT_ONCE: i64 = 500;
/// Receipts of one call.
const RECEIPTS_MAX: i64 = 1_000;

/// An entry of a list of deleted ids.
type Entry = [u8; DELETED_ID_BYTES];

/// What became of rows that receipts list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Deleted again.
    pub deleted: u64,
    /// A hold keeps them.
    pub held: u64,
    /// They are not the records that were deleted.
    pub differing: u64,
}

fn reason(sequence: u64) -> String {
    format!("{REASON}{sequence}")
}

fn number(reason: &str) -> Option<u64> {
    reason.strip_prefix(REASON)?.parse().ok()
}

fn id_of(entry: &Entry) -> Uuid {
    let mut id = [0; 16];
    id.copy_from_slice(&entry[..16]);
    Uuid::from_bytes(id)
}

/// The leaf that the list has of a log.
fn listed(entries: &[Entry], id: Uuid) -> Option<&[u8]> {
    let at = entries.binary_search_by(|entry| entry[..16].cmp(id.as_bytes())).ok()?;
    entries.get(at).map(|entry| &entry[16..])
}

/// Whether a row is the very record that the list has.
fn is_listed(entries: &[Entry], row: &ExportRow) -> bool {
    let Ok(salt) = Salt::try_from(row.salt.as_slice()) else { return false };
    listed(entries, row.id) == Some(&salted_leaf(&salt, &row.record).0[..])
}

/// Whether the bytes are the list that the receipt was signed over.
fn is_whole(receipt: &Receipt, list: &[u8]) -> bool {
    let Some(ids) = &receipt.ids else { return false };
    let (entries, rest) = list.as_chunks::<DELETED_ID_BYTES>();
    let sorted = entries.windows(2).all(|two| two[0][..16] < two[1][..16]);
    let root = entries.iter().map(|entry| merkle::leaf(entry)).collect::<Tree>().root();
    rest.is_empty()
        && sorted
        && entries.len() as u64 == receipt.deleted
        && Hash::of(list) == ids.sha256
        && root == ids.root
}

impl Reconciler {
    /// The list of what a receipt deleted; nothing, and a finding, where it is not what was signed.
    async fn list(
        &self,
        sequence: u64,
        receipt: &Receipt,
        findings: &mut Findings,
    ) -> Result<Option<Vec<u8>>, ReconcileError> {
        let Some(ids) = &receipt.ids else { return Ok(None) };
        let bytes = receipt.deleted.saturating_mul(DELETED_ID_BYTES as u64);
        let limit = bytes.saturating_add(1).min(DELETED_IDS_BYTES_MAX);
        let list = self.store()?.get(&object_key(&ids.object)?, limit).await?;
        let wrong = match list {
            Some(list) if is_whole(receipt, &list) => return Ok(Some(list)),
            Some(_) => "is not the list that was signed",
            None => "is not there",
        };
        let detail = format!("{} {wrong}", ids.object);
        findings.add(FindingKind::ReceiptUnproved, &sequence, &detail);
        Ok(None)
    }

    /// Buries what a receipt lists; tombstones that were not there.
    pub(super) async fn bury(
        &self,
        tenant: &Tenant,
        sequence: u64,
        receipt: &Receipt,
        findings: &mut Findings,
    ) -> Result<u64, ReconcileError> {
        if receipt.scope != Scope::Rows {
            return Ok(0);
        }
        let Some(list) = self.list(sequence, receipt, findings).await? else { return Ok(0) };
        let (entries, _) = list.as_chunks::<DELETED_ID_BYTES>();
        let (reason, requester) = (reason(sequence), json!({ "key_id": receipt.requester }));
        let unit = unit_id(&receipt.unit);
        let deleted_at = receipt.deleted_at;
        let listed = Listed { unit, reason: &reason, requester: &requester, deleted_at };
        let mut buried = 0;
        for entries in entries.chunks(BURIED_AT_ONCE) {
            let ids: Vec<LogId> = entries.iter().map(|entry| LogId(id_of(entry))).collect();
            let mut transaction = self.database.pool().begin().await?;
            store::cleanup::alone(&mut transaction, tenant).await?;
            let stored = store::keys_of(&mut transaction, tenant, &ids).await?;
            let stored: HashMap<Uuid, (RetentionClass, DateTime<Utc>)> =
                stored.into_iter().map(|(class, at, id, _)| (id, (class, at))).collect();
            let logs: Vec<_> = ids.iter().map(|id| (id.0, stored.get(&id.0).copied())).collect();
            let listed = &listed;
            buried +=
                store::reconcile::bury_listed(&mut transaction, tenant, listed, &logs).await?;
            transaction.commit().await?;
        }
        Ok(buried)
    }

    /// Deletes rows that are stored although a receipt of the tenant's chain says that they were deleted:
    /// those that are byte for byte what it lists and that no hold keeps. Search forgets them first, so
    /// that whatever is interrupted is found again. Needs a chain that was mended.
    pub async fn remove_proved(
        &self,
        tenant: &Tenant,
        author: &Author,
        findings: &mut Findings,
    ) -> Result<Removed, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        let receipts =
            store::reconcile::buried_receipts(&mut connection, tenant, REASON, RECEIPTS_MAX)
                .await?;
        drop(connection);
        let mut removed = Removed::default();
        for (reason, _) in receipts {
            let Some(sequence) = number(&reason) else { continue };
            let Some(receipt) = self.published_receipt(tenant, sequence, findings).await? else {
                continue;
            };
            let Some(list) = self.list(sequence, &receipt, findings).await? else { continue };
            let (entries, _) = list.as_chunks::<DELETED_ID_BYTES>();
            let mut after = None;
            loop {
                let mut connection = self.database.pool().acquire().await?;
                let limit = REMOVED_AT_ONCE;
                let rows =
                    store::reconcile::buried_rows(&mut connection, tenant, &reason, after, limit);
                let rows = rows.await?;
                drop(connection);
                let Some(highest) = rows.last() else { break };
                after = Some(highest.id.0);
                for class in RetentionClass::ALL {
                    let keys: Vec<_> = rows.iter().filter(|key| key.class == class).collect();
                    let job = Job { tenant, sequence, entries, author, class };
                    self.remove(&job, &keys, &mut removed).await?;
                }
            }
        }
        Ok(removed)
    }

    /// A receipt that is in the chain and, the same, in the store.
    async fn published_receipt(
        &self,
        tenant: &Tenant,
        sequence: u64,
        findings: &mut Findings,
    ) -> Result<Option<Box<Receipt>>, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        let line = store::reconcile::receipt(&mut connection, tenant, sequence).await?;
        drop(connection);
        let name = DocumentName { sequence, kind: Kind::Receipt };
        let sealed = match line {
            Some(line) => {
                let file = published::document(self.store()?, tenant, name).await?;
                Sealed::parse(&file).ok().filter(|sealed| sealed.hash == Hash::of(&line))
            }
            None => None,
        };
        if let Some(Body::Receipt(receipt)) = sealed.map(|sealed| sealed.document.body) {
            return Ok(Some(receipt));
        }
        let detail = "a tombstone names it, and the chain has no such receipt";
        findings.add(FindingKind::ReceiptUnproved, &sequence, detail);
        Ok(None)
    }

    async fn remove(
        &self,
        job: &Job<'_>,
        keys: &[&LogKey],
        removed: &mut Removed,
    ) -> Result<(), ReconcileError> {
        if keys.is_empty() {
            return Ok(());
        }
        let Job { tenant, class, .. } = *job;
        let documents: Vec<DocumentRef> = keys
            .iter()
            .map(|key| DocumentRef {
                tenant: tenant.clone(),
                id: key.id,
                class,
                recorded_at: key.recorded_at,
            })
            .collect();
        for outcome in self.search.erase(&documents).await? {
            outcome.map_err(|error| {
                ReconcileError::Wrong(format!("search does not forget a deleted log: {error}"))
            })?;
        }
        let places: Vec<_> = keys.iter().map(|key| (key.recorded_at, key.id.0)).collect();
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        store::holds::lock_shared(c, tenant).await?;
        store::cleanup::alone(c, tenant).await?;
        store::reconcile::share(c, &[&Tenant::system()]).await?;
        let mut keeper = Keeper::by(&store::holds::in_force(c, tenant).await?);
        let rows = store::cleanup::rows_of(c, tenant, class, &places).await?;
        let (mut going, mut held, mut differing) = (Vec::new(), 0, 0);
        for row in &rows {
            if !is_listed(job.entries, row) {
                differing += 1;
            } else if keeper.keeps(row).unwrap_or(true) {
                held += 1;
            } else {
                going.push((row.recorded_at, row.id));
            }
        }
        if !going.is_empty() {
            let deleted = store::cleanup::delete_rows(c, tenant, class, &going).await?;
            let ids: Vec<Uuid> = going.iter().map(|key| key.1).collect();
            store::cleanup::delete_revisions(c, tenant, &ids).await?;
            store::unmark_archived(c, tenant, &going).await?;
            let metadata = json!({ "receipt": job.sequence, "deleted": deleted });
            let entry = (APPLIED_ACTION, "receipt", metadata);
            self.own_entry(c, tenant, entry, job.author).await?;
            removed.deleted += deleted;
        }
        transaction.commit().await?;
        removed.held += held;
        removed.differing += differing;
        Ok(())
    }
}

/// Rows of one class that one receipt lists.
struct Job<'a> {
    tenant: &'a Tenant,
    sequence: u64,
    entries: &'a [Entry],
    author: &'a Author,
    class: RetentionClass,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_names_its_receipt() {
        assert_eq!(number(&reason(17)), Some(17));
        assert_eq!(number("retention run 17"), None);
        assert_eq!(number("deletion receipt x"), None);
    }

    #[test]
    fn a_row_is_what_the_list_has_or_it_is_not() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let row = |id: Uuid, record: &str| ExportRow {
            recorded_at: DateTime::UNIX_EPOCH,
            id,
            record: record.into(),
            salt: vec![7; 16],
            revision: 0,
            actor_type: String::new(),
            actor_id: String::new(),
            action: String::new(),
            outcome: String::new(),
            target_types: Vec::new(),
        };
        let entry = |id: Uuid, record: &str| -> Entry {
            let leaf = salted_leaf(&[7; 16], record.as_bytes());
            [&id.as_bytes()[..], &leaf.0].concat().try_into().unwrap()
        };
        let entries = [entry(one, "a"), entry(two, "b")];
        assert!(is_listed(&entries, &row(one, "a")));
        assert!(is_listed(&entries, &row(two, "b")));
        assert!(!is_listed(&entries, &row(one, "b")), "another record");
        assert!(!is_listed(&entries, &row(Uuid::from_u128(3), "a")), "another log");
        let short = ExportRow { salt: vec![7; 15], ..row(one, "a") };
        assert!(!is_listed(&entries, &short));
    }
}
