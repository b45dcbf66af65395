//! Verifies an archive from its files and public keys alone: the chain of documents, the heads over it,
//! and every object. It names what it finds, and says how far the proof goes.
//!
//! It believes nothing that is not signed by a key that it was given, or that such a key vouches for; it
//! holds one document and one block at a time, and a few hundred bytes for each manifest.

mod chain;
mod claims;
mod finding;
mod follow;
mod heads;
mod keyring;
mod objects;

use std::collections::BTreeSet;
use std::io;

use chrono::{DateTime, Utc};
use contracts::Tenant;
use serde::Serialize;

use crate::document::{Kind, Sealed, proof_prefix};
use crate::key::VerifyKey;
use crate::merkle::Tree;
use crate::source::Source;

use chain::Chain;
use finding::Findings;
use heads::Heads;
pub(crate) use keyring::Keyring;
use objects::Objects;

pub use chain::Counts;
pub use finding::{Code, FINDINGS_MAX, Finding};
pub use follow::{Begin, Broken, Follower};
pub use heads::Proven;
pub use objects::{DELETED_IDS_BYTES_MAX, Totals};

/// What is asked for beyond the files themselves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One tenant alone.
    pub tenant: Option<Tenant>,
    /// The latest head must be of this time or later, or else the tail counts as unproven: without it
    /// whoever removes the last documents *and* the last heads goes unseen.
    pub head_since: Option<DateTime<Utc>>,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents read.
    pub documents: u64,
    /// Objects read.
    pub objects: u64,
    /// Bytes of objects read.
    pub bytes: u64,
    /// Bytes of objects that the manifests seen so far claim.
    pub bytes_total: u64,
}

pub(crate) type Watch<'a> = &'a mut dyn FnMut(&Progress);

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Complete and unchanged as of the head that is named.
    Verified,
    /// Nothing is wrong with what is there, but no signed head shows that the last documents are.
    TailUnproven,
    /// Something is wrong.
    Findings,
}

/// One tenant's archive.
#[derive(Clone, Debug, Serialize)]
pub struct TenantReport {
    /// Whose.
    pub tenant: Tenant,
    /// What it came to.
    pub verdict: Verdict,
    /// The chain has documents up to this number.
    pub complete_to: u64,
    /// What the latest head proves; none without a head that fits.
    pub proven: Option<Proven>,
    /// Documents that are beyond doubt.
    pub documents: Counts,
    /// Heads that are signed.
    pub heads: u64,
    /// What was read of the objects.
    pub totals: Totals,
    /// What is wrong, the chain's findings first.
    pub findings: Vec<Finding>,
    /// Further findings, counted only.
    pub more_findings: u64,
}

/// The whole archive.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of the tenants'.
    pub verdict: Verdict,
    /// In the order of their names.
    pub tenants: Vec<TenantReport>,
}

/// Verifies the tenants of a source. An error is the source's: it could not be read.
pub fn verify(
    source: &dyn Source,
    keys: &[VerifyKey],
    options: &Options,
    mut watch: impl FnMut(&Progress),
) -> io::Result<Report> {
    let mut progress = Progress::default();
    let mut reports = Vec::new();
    for tenant in tenants(source, options)? {
        reports.push(verify_tenant(source, keys, &tenant, options, &mut progress, &mut watch)?);
    }
    let worst = reports.iter().map(|report: &TenantReport| report.verdict).max();
    Ok(Report { verdict: worst.unwrap_or(Verdict::TailUnproven), tenants: reports })
}

/// The tenants that have documents or objects.
fn tenants(source: &dyn Source, options: &Options) -> io::Result<BTreeSet<Tenant>> {
    if let Some(tenant) = &options.tenant {
        return Ok(BTreeSet::from([tenant.clone()]));
    }
    let mut tenants = BTreeSet::new();
    for prefix in [proof_prefix(), "archive/"] {
        let folders = source.folders(prefix)?;
        tenants.extend(folders.iter().filter_map(|folder| folder.parse::<Tenant>().ok()));
    }
    Ok(tenants)
}

fn verify_tenant(
    source: &dyn Source,
    given: &[VerifyKey],
    tenant: &Tenant,
    options: &Options,
    progress: &mut Progress,
    watch: Watch<'_>,
) -> io::Result<TenantReport> {
    let mut findings = Findings::default();
    let files = chain::files(source, tenant, &mut findings)?;
    let mut keys = Keyring::new(given);
    let mut records: Vec<Sealed> = Vec::new();
    for (_, file) in files.iter().filter(|(name, _)| name.kind == Kind::Key) {
        records.extend(chain::read(source, file)?.and_then(Result::ok));
    }
    keys.learn(records.iter());
    let mut heads = Heads::read(source, tenant, &keys, &mut findings)?;
    heads.check(&Tree::new(), None, &mut findings);
    let mut chain = Chain::new(source, tenant, &keys, heads);
    for (name, file) in &files {
        chain.document(*name, file, &mut findings)?;
        progress.documents += 1;
        watch(progress);
    }
    chain.end(&mut findings);
    let claimed = chain.claims.objects.values().map(|claim| claim.packed_bytes);
    progress.bytes_total = claimed.fold(progress.bytes_total, u64::saturating_add);
    let mut objects = Objects { source, tenant, claims: &chain.claims, totals: Totals::default() };
    objects.check(&mut findings, progress, watch)?;
    let totals = objects.totals;
    let proven = chain.heads.proven.take();
    let recent = |proven: &Proven| options.head_since.is_none_or(|since| proven.at >= since);
    let verdict = match &proven {
        _ if !findings.kept.is_empty() => Verdict::Findings,
        Some(proven) if recent(proven) => Verdict::Verified,
        _ => Verdict::TailUnproven,
    };
    Ok(TenantReport {
        tenant: tenant.clone(),
        verdict,
        complete_to: chain.length(),
        proven,
        documents: chain.counts,
        heads: chain.heads.count,
        totals,
        findings: findings.kept,
        more_findings: findings.more,
    })
}
