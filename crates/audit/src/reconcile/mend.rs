//! Taking a rolled-back chain forward again, document by document, from what was published. The whole rest is
//! verified before the first is taken; each is then one transaction under the chain's lock, behind what
//! it proves.

use std::collections::BTreeMap;

use contracts::audit::Requester;
use contracts::{RetentionClass, Tenant};
use evidence::document::{Body, ChainEnd, Scope};
use evidence::verify::Follower;
use evidence::{Hash, Sealed};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::chain::Compared;
use super::{Author, Depth, FindingKind, Findings, ReconcileError, Reconciler, published};
use crate::archive::{Keys, SealError, Sealer, SealerConfig};
use crate::self_audit::{self, Deed};
use crate::store;

/// The action of the fleet's own entry of a mend.
pub const MENDED_ACTION: &str = "flotilla.chain.mended";

/// What a mend did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// PostgreSQL's chain had so many documents.
    pub from: u64,
    /// It has so many now.
    pub to: u64,
    /// Objects that are in the archive's index again.
    pub indexed: u64,
    /// Stored logs that are marked as archived again.
    pub marked: u64,
    /// Tombstones that are there again.
    pub buried: u64,
    /// Receipts that were among the documents.
    pub receipts: u64,
}

/// A document that is taken back, and what was learnt of it beforehand.
pub(super) struct Taken<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) sealed: &'a Sealed,
    /// Of a manifest's object, where that is known.
    pub(super) class: Option<RetentionClass>,
}

impl Reconciler {
    /// Takes the published documents back that PostgreSQL lacks, with everything that they prove except
    /// the deletion of rows. Nothing where it lacks none; refused where the chains are two. `watch` is
    /// told how many are done, and of how many. What is interrupted is gone on with by the next call.
    pub async fn mend(
        &self,
        tenant: &Tenant,
        author: &Author,
        findings: &mut Findings,
        watch: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Option<Mended>, ReconcileError> {
        let compared = self.compared(tenant, Depth::Whole).await?;
        if compared.ahead.is_empty() {
            return Ok(None);
        }
        self.verified(tenant, &compared).await?;
        let Compared { standing, follower, ahead, .. } = compared;
        let Some(mut follower) = follower else { return Ok(None) };
        let mut mended = Mended { from: standing.database, ..Mended::default() };
        // Objects that are not there, and no receipt says yet that they were removed.
        let mut gone: BTreeMap<u64, String> = BTreeMap::new();
        let total = ahead.len() as u64;
        for (done, name) in (1..).zip(&ahead) {
            let file = published::document(self.store()?, tenant, *name).await?;
            let before = follower.end();
            let sealed = follower.next(*name, &file)?;
            let class = self.prepare(tenant, &sealed, &mut mended, &mut gone, findings).await?;
            let taken = Taken { tenant, sealed: &sealed, class };
            let last = (done == total).then_some((author, mended.from));
            self.set_up_key(&sealed, author).await?;
            mended.indexed += self.take(&taken, &file, (before, &follower), last).await?;
            mended.to = name.sequence;
            watch(done, total);
        }
        for object in gone.values() {
            let detail = "its manifest is in the chain, and no receipt says that it was removed";
            findings.add(FindingKind::ObjectMissing, object, detail);
        }
        findings.repaired(FindingKind::ChainRolledBack, 1);
        Ok(Some(mended))
    }

    /// Reads the whole published rest: each document is the next one, and the heads count them.
    async fn verified(&self, tenant: &Tenant, compared: &Compared) -> Result<(), ReconcileError> {
        let Some(mut follower) = compared.follower.clone() else { return Ok(()) };
        for name in &compared.ahead {
            let file = published::document(self.store()?, tenant, *name).await?;
            let sealed = follower.next(*name, &file)?;
            if Hash::of(sealed.document.bytes()) != sealed.hash {
                let number = name.sequence;
                let text = format!("document {number} of {tenant} is of a newer release: use it");
                return Err(ReconcileError::Wrong(text));
            }
            for (file, head) in &compared.heads {
                if head.size == name.sequence && !follower.fits(head) {
                    let text = format!("{file} counts other documents than the store has");
                    return Err(ReconcileError::Broken(text));
                }
            }
        }
        Ok(())
    }

    /// Everything that a document proves and that may take longer than a transaction should.
    async fn prepare(
        &self,
        tenant: &Tenant,
        sealed: &Sealed,
        mended: &mut Mended,
        gone: &mut BTreeMap<u64, String>,
        findings: &mut Findings,
    ) -> Result<Option<RetentionClass>, ReconcileError> {
        let sequence = sealed.document.header.sequence;
        match &sealed.document.body {
            Body::Key(_) => Ok(None),
            Body::Manifest(manifest) => {
                let looked = self.look_into(tenant, manifest, findings).await?;
                mended.marked += looked.marked;
                if !looked.there {
                    gone.insert(sequence, manifest.object.clone());
                }
                Ok(looked.class)
            }
            Body::Receipt(receipt) => {
                mended.receipts += 1;
                if let (Scope::Object, Some(of)) = (receipt.scope, receipt.manifest) {
                    gone.remove(&of.sequence);
                }
                mended.buried += self.bury(tenant, sequence, receipt, findings).await?;
                Ok(None)
            }
        }
    }

    /// A key that the chain introduces and PostgreSQL has lost is set up again, by the owner.
    async fn set_up_key(&self, sealed: &Sealed, author: &Author) -> Result<(), ReconcileError> {
        let Body::Key(record) = &sealed.document.body else { return Ok(()) };
        let key: evidence::VerifyKey = record
            .public_key
            .parse()
            .map_err(|error| ReconcileError::Broken(format!("a key record: {error}")))?;
        let id = key.id();
        let mut connection = self.database.pool().acquire().await?;
        if store::reconcile::has_key(&mut connection, &id).await? {
            return Ok(());
        }
        drop(connection);
        let Some(owner) = &self.owner else { return Err(ReconcileError::NoOwner(id)) };
        let mut connection = owner.pool().acquire().await?;
        let (text, reason) = (key.to_string(), &record.reason);
        store::signing_keys::put_key(&mut connection, &id, &text, reason, &author.by).await?;
        Ok(())
    }

    /// One document, with what belongs to it in PostgreSQL, behind `before`; objects that are in the index
    /// anew. The last one brings the fleet's own entry with it.
    async fn take(
        &self,
        taken: &Taken<'_>,
        file: &[u8],
        (before, follower): (Option<ChainEnd>, &Follower),
        last: Option<(&Author, u64)>,
    ) -> Result<u64, ReconcileError> {
        let Taken { tenant, sealed, .. } = taken;
        let document = &sealed.document;
        let mut transaction = self.database.pool().begin().await?;
        let c = &mut *transaction;
        store::reconcile::share(c, &[tenant, &Tenant::system()]).await?;
        self.lock_cleanup(c, taken).await?;
        let (end, _) = store::chain::lock_end(c, tenant).await?;
        let place = |end: Option<ChainEnd>| end.map(|end| (end.sequence, end.hash));
        if place(end) != place(before) {
            return Err(ReconcileError::Wrong(format!(
                "something was appended to the chain of {tenant} meanwhile: stop its workers and run it again"
            )));
        }
        let indexed = self.apply(c, taken).await?;
        let line = document.bytes();
        let cosigner = match &document.body {
            Body::Key(record) if record.replaces.is_some() => follower.signer(),
            _ => None,
        };
        store::chain::put(c, document, cosigner).await?;
        let seal = file.get(line.len() + 1..).unwrap_or_default();
        store::reconcile::set_seal(c, tenant, document.header.sequence, seal).await?;
        let Some(end) = follower.end() else { return Ok(0) };
        let signer = follower.signer().unwrap_or_default();
        store::chain::move_end(c, tenant, &end, signer).await?;
        if let Some((author, from)) = last {
            let metadata =
                json!({ "from": from, "to": end.sequence, "sha256": end.hash.to_string() });
            self.own_entry(c, tenant, (MENDED_ACTION, "chain", metadata), author).await?;
        }
        transaction.commit().await?;
        Ok(indexed)
    }

    /// The fleet's own entry: who did it, and why.
    pub(super) async fn own_entry(
        &self,
        c: &mut PgConnection,
        tenant: &Tenant,
        (action, kind, mut metadata): (&'static str, &'static str, Value),
        author: &Author,
    ) -> Result<(), ReconcileError> {
        metadata["reason"] = json!(author.reason);
        let operation = Uuid::new_v4();
        let requester = Requester { key_id: author.by.clone(), ip: None };
        let deed = Deed {
            tenant,
            action,
            target: (kind, operation),
            metadata,
            requester: &requester,
            at: self.now(),
            operation,
        };
        let entries = self_audit::entries(&deed, rand::random)
            .map_err(|refusal| ReconcileError::Wrong(refusal.0))?;
        store::insert_rows(c, &entries).await?;
        Ok(())
    }

    /// Puts documents of that chain into the store again that PostgreSQL has and the store lost, as the
    /// sealer puts them: under their names, and never over another.
    pub async fn publish_again(
        &self,
        tenant: &Tenant,
        numbers: &[u64],
        findings: &mut Findings,
    ) -> Result<(), ReconcileError> {
        let objects = self.store()?.clone();
        let (clock, config) = (self.clock.clone(), SealerConfig::default());
        let sealer = Sealer::new(&self.database, Keys::default(), objects, clock, config);
        for number in numbers {
            let mut connection = self.database.pool().acquire().await?;
            let row = store::reconcile::seal_again(&mut connection, tenant, *number).await?;
            drop(connection);
            let Some(row) = row else {
                let text = format!("PostgreSQL's chain of {tenant} has no document {number}");
                return Err(ReconcileError::Broken(text));
            };
            sealer.document(tenant, &row).await.map_err(unsealed)?;
            findings.repaired(FindingKind::DocumentUnpublished, 1);
        }
        Ok(())
    }
}

fn unsealed(error: SealError) -> ReconcileError {
    match error {
        SealError::Store(error) => ReconcileError::Sink(error),
        SealError::Database(error) => ReconcileError::Database(error),
        SealError::Forked(_) | SealError::Changed(..) => ReconcileError::Broken(error.to_string()),
        other => ReconcileError::Wrong(other.to_string()),
    }
}
