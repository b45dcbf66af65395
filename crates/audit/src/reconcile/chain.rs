//! A tenant's chain in PostgreSQL held against the one that was published: the same documents, fewer
//! (PostgreSQL was restored to an earlier point), others (the two are chains of their own by now), or more
//! than a signed head says (documents are missing).

use std::collections::BTreeMap;

use contracts::Tenant;
use evidence::document::{DocumentName, Kind};
use evidence::head::SignedHead;
use evidence::merkle::Tree;
use evidence::verify::{Begin, Follower};
use evidence::{Hash, Head, Sealed, VerifyKey};
use serde::Serialize;

use super::published::{self, HeadFile};
use super::{FindingKind, Findings, ReconcileError, Reconciler};
use crate::store::reconcile::{self as store, Known};

/// Documents before PostgreSQL's last stored one that [`Depth::Tail`] looks for.
const TAIL: u64 = 10_000;
/// Numbers of unpublished documents that a standing names; the others follow in the next look.
pub const UNPUBLISHED_MAX: usize = 10_000;
/// Leaves that are read at once.
const LEAVES: i64 = 10_000;

/// How far back documents are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every one.
    Whole,
    /// The last some thousands: what comes by the hour.
    Tail,
}

/// How two chains stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainState {
    /// They are one, as far as the store has it.
    Whole,
    /// PostgreSQL lacks the last documents of the published one.
    RolledBack,
    /// They are two, or the published one has a hole.
    Broken,
}

/// Where a tenant's chain stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainStanding {
    /// What it comes to.
    pub state: ChainState,
    /// Documents in PostgreSQL.
    pub database: u64,
    /// Number of the last one in the archive's store; 0 where none was looked at.
    pub published: u64,
    /// Documents that the newest signed head counts; 0 without one.
    pub head: u64,
    /// Numbers of documents that PostgreSQL says are in the store and that are not; at most
    /// [`UNPUBLISHED_MAX`].
    pub unpublished: Vec<u64>,
}

/// What a comparison leaves for a mend.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) standing: ChainStanding,
    /// At the end of PostgreSQL's chain; none where nothing was published.
    pub(super) follower: Option<Follower>,
    /// Published documents behind that end, in order and without a gap.
    pub(super) ahead: Vec<DocumentName>,
    /// Signed heads that count some of those.
    pub(super) heads: Vec<(String, Head)>,
}

impl Reconciler {
    /// Where the tenant's chain stands; what is wrong is a finding, and changes nothing.
    pub async fn standing(
        &self,
        tenant: &Tenant,
        depth: Depth,
        findings: &mut Findings,
    ) -> Result<ChainStanding, ReconcileError> {
        let standing = match self.compared(tenant, depth).await {
            Ok(compared) => compared.standing,
            Err(ReconcileError::Broken(why)) => {
                findings.add(FindingKind::ChainBroken, tenant, &why);
                let database = self.known(tenant).await?.sequence();
                let (state, unpublished) = (ChainState::Broken, Vec::new());
                return Ok(ChainStanding { state, database, published: 0, head: 0, unpublished });
            }
            Err(error) => return Err(error),
        };
        let ChainStanding { state, database, published, .. } = standing;
        if state == ChainState::RolledBack {
            let detail = format!("chain rolled back from {published} to {database}");
            findings.add(FindingKind::ChainRolledBack, tenant, &detail);
        }
        for number in &standing.unpublished {
            let detail = "PostgreSQL holds it and says that the store has it";
            findings.add(FindingKind::DocumentUnpublished, number, detail);
        }
        Ok(standing)
    }

    async fn known(&self, tenant: &Tenant) -> Result<Known, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        Ok(store::known_chain(&mut connection, tenant).await?)
    }

    /// Compares the two. The store is read before PostgreSQL is asked once more: so what was appended and
    /// published meanwhile is known when it is compared.
    pub(super) async fn compared(
        &self,
        tenant: &Tenant,
        depth: Depth,
    ) -> Result<Compared, ReconcileError> {
        let objects = self.store()?;
        let before = self.known(tenant).await?;
        let from = match depth {
            Depth::Whole => 1,
            Depth::Tail => before.stored.saturating_sub(TAIL) + 1,
        };
        let documents = published::documents(objects, tenant, from).await?;
        let files = self.head_files(tenant).await?;
        let known = self.known(tenant).await?;
        let database = known.sequence();
        let published = documents.keys().next_back().copied().unwrap_or(0);
        let missing = |number: &u64| !documents.contains_key(number);
        let unpublished: Vec<u64> =
            (from..=before.stored).filter(missing).take(UNPUBLISHED_MAX).collect();
        let mut standing =
            ChainStanding { state: ChainState::Whole, database, published, head: 0, unpublished };
        if documents.is_empty() && files.is_empty() {
            return Ok(Compared { standing, follower: None, ahead: Vec::new(), heads: Vec::new() });
        }
        self.same(tenant, &documents, database).await?;
        let ahead = ahead(tenant, &documents, database)?;
        let sizes = files.iter().filter_map(|(_, file)| Some(SignedHead::parse(file).ok()?.head));
        let sizes: Vec<u64> =
            sizes.map(|head| head.size).filter(|size| *size <= database).collect();
        let (tree, roots) = self.tree(tenant, database, &sizes).await?;
        let follower = self.follower(tenant, &known, &documents, tree).await?;
        let mut heads = Vec::new();
        for (name, file) in &files {
            let head = follower.head(name, file)?;
            standing.head = standing.head.max(head.size);
            fits(name, &head, (database, published), roots.get(&head.size))?;
            if head.size > database {
                heads.push((name.clone(), head));
            }
        }
        if !ahead.is_empty() {
            standing.state = ChainState::RolledBack;
        }
        Ok(Compared { standing, follower: Some(follower), ahead, heads })
    }

    /// The newest head of each store.
    async fn head_files(&self, tenant: &Tenant) -> Result<Vec<HeadFile>, ReconcileError> {
        let mut files = Vec::new();
        for objects in self.objects.iter().chain(&self.heads) {
            files.extend(published::newest_head(objects, tenant, self.now()).await?);
        }
        Ok(files)
    }

    /// Whether the last document that both have is one: each names the one before it, so all are then.
    async fn same(
        &self,
        tenant: &Tenant,
        documents: &BTreeMap<u64, Kind>,
        database: u64,
    ) -> Result<(), ReconcileError> {
        let common: Vec<DocumentName> = documents.range(..=database).map(named).collect();
        let Some(last) = common.last() else { return Ok(()) };
        if self.agrees(tenant, *last).await? {
            return Ok(());
        }
        // The first that differs: those behind it differ all.
        let (mut low, mut high) = (0, common.len() - 1);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.agrees(tenant, common[middle]).await? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Err(ReconcileError::Broken(format!(
            "document {} of {tenant} is one in PostgreSQL and another in the archive's store",
            common[high].sequence
        )))
    }

    async fn agrees(&self, tenant: &Tenant, name: DocumentName) -> Result<bool, ReconcileError> {
        let file = published::document(self.store()?, tenant, name).await?;
        let mut connection = self.database.pool().acquire().await?;
        let known = store::hash_of(&mut connection, tenant, name.sequence).await?;
        Ok(Sealed::parse(&file).is_ok_and(|sealed| Some(sealed.hash) == known))
    }

    /// The tree over PostgreSQL's first `size` documents, and its roots at those sizes on the way.
    async fn tree(
        &self,
        tenant: &Tenant,
        size: u64,
        at: &[u64],
    ) -> Result<(Tree, BTreeMap<u64, Hash>), ReconcileError> {
        let (mut tree, mut roots) = (Tree::new(), BTreeMap::new());
        while tree.size() < size {
            let mut connection = self.database.pool().acquire().await?;
            let leaves = store::leaves(&mut connection, tenant, tree.size(), LEAVES).await?;
            if leaves.is_empty() {
                let text = format!("PostgreSQL's chain of {tenant} has a gap");
                return Err(ReconcileError::Broken(text));
            }
            let left = usize::try_from(size - tree.size()).unwrap_or(usize::MAX);
            for leaf in leaves.into_iter().take(left) {
                tree.push(leaf);
                if at.contains(&tree.size()) {
                    roots.insert(tree.size(), tree.root());
                }
            }
        }
        Ok((tree, roots))
    }

    async fn follower(
        &self,
        tenant: &Tenant,
        known: &Known,
        documents: &BTreeMap<u64, Kind>,
        tree: Tree,
    ) -> Result<Follower, ReconcileError> {
        let mut connection = self.database.pool().acquire().await?;
        let texts = store::public_keys(&mut connection).await?;
        drop(connection);
        let mut given: Vec<VerifyKey> = self.keys.clone();
        given.extend(texts.iter().filter_map(|text| text.parse::<VerifyKey>().ok()));
        if given.is_empty() {
            return Err(ReconcileError::NoKey(tenant.clone()));
        }
        let mut records = Vec::new();
        for name in documents.iter().map(named).filter(|name| name.kind == Kind::Key) {
            let file = published::document(self.store()?, tenant, name).await?;
            records.extend(Sealed::parse(&file).ok());
        }
        let begin = Begin { end: known.end, signer: known.signer.clone(), tree };
        Ok(Follower::new(tenant, &given, &records, begin))
    }
}

fn named((sequence, kind): (&u64, &Kind)) -> DocumentName {
    DocumentName { sequence: *sequence, kind: *kind }
}

/// Documents behind PostgreSQL's end, which have no gap.
fn ahead(
    tenant: &Tenant,
    documents: &BTreeMap<u64, Kind>,
    database: u64,
) -> Result<Vec<DocumentName>, ReconcileError> {
    let ahead: Vec<DocumentName> = documents.range(database + 1..).map(named).collect();
    match (database + 1..).zip(&ahead).find(|(number, name)| *number != name.sequence) {
        None => Ok(ahead),
        Some((number, _)) => Err(ReconcileError::Broken(format!(
            "document {number} of {tenant} is neither in PostgreSQL nor in the archive's store, and later ones are"
        ))),
    }
}

/// Whether a head counts no more than there is, and counts what PostgreSQL has.
fn fits(
    name: &str,
    head: &Head,
    (database, published): (u64, u64),
    root: Option<&Hash>,
) -> Result<(), ReconcileError> {
    if head.size > database.max(published) {
        return Err(ReconcileError::Broken(format!(
            "{name} counts {} documents; PostgreSQL has {database} and the archive's store {published}",
            head.size
        )));
    }
    if root.is_some_and(|root| *root != head.root) {
        return Err(ReconcileError::Broken(format!(
            "{name} counts {} documents, and they are others than PostgreSQL's",
            head.size
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(numbers: &[u64]) -> BTreeMap<u64, Kind> {
        numbers.iter().map(|number| (*number, Kind::Manifest)).collect()
    }

    #[test]
    fn what_is_ahead_has_no_gap() {
        let tenant: Tenant = "acme".parse().unwrap();
        let numbers = |from: &[u64], database| {
            ahead(&tenant, &chain(from), database)
                .map(|ahead| ahead.iter().map(|name| name.sequence).collect::<Vec<_>>())
        };
        assert!(numbers(&[1, 2, 3], 3).unwrap().is_empty());
        assert_eq!(numbers(&[1, 2, 3], 1).unwrap(), [2, 3]);
        assert_eq!(numbers(&[1, 2], 0).unwrap(), [1, 2]);
        // A hole among what PostgreSQL has is another finding.
        assert_eq!(numbers(&[3, 4], 3).unwrap(), [4]);
        for (from, database) in [(&[1, 3][..], 1), (&[2][..], 0), (&[1, 2, 4][..], 2)] {
            assert!(matches!(numbers(from, database), Err(ReconcileError::Broken(_))), "{from:?}");
        }
    }

    #[test]
    fn a_head_counts_no_more_than_there_is() {
        let head = |size| Head {
            origin: "a/acme".into(),
            size,
            root: Hash::of("root"),
            at: chrono::DateTime::UNIX_EPOCH,
        };
        let (same, other) = (Hash::of("root"), Hash::of("other"));
        assert!(fits("h", &head(3), (3, 2), Some(&same)).is_ok());
        assert!(fits("h", &head(3), (1, 3), None).is_ok());
        assert!(fits("h", &head(4), (3, 2), None).is_err());
        assert!(fits("h", &head(3), (3, 3), Some(&other)).is_err());
    }
}
