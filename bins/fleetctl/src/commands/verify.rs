//! `fleetctl verify`: an archive, checked from its files and public keys alone. A downloaded one needs no
//! connection; one in S3 is read as it streams in. It changes nothing.

use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use clap::Args;
use contracts::Tenant;
use evidence::VerifyKey;
use evidence::bundle::{self, BundleReport};
use evidence::verify::{Options, Progress, Report, TenantReport, Verdict, verify};
use indicatif::ProgressBar;

use crate::archive;
use crate::failure::{Failure, TAIL_UNPROVEN};
use crate::output::Output;

/// A file of keys is at most this long.
const KEYS_BYTES_MAX: u64 = 64 * 1024;
/// The bar counts megabytes.
const MEGABYTE: u64 = 1_000_000;

/// Checks an archive.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aws s3 cp --recursive s3://my-archive/ ./copy
  fleetctl verify ./copy --key 'audit.example.com+3c36b532+AYqI4910…'
  fleetctl verify ./copy --key keys.txt --tenant acme --head-since 2026-11-20T00:00:00Z --json
  fleetctl verify s3://my-archive --key keys.txt
The folder holds archive/ and proof/ as the bucket does. Get the public key from whom you trust, not
from the bucket. It says as of which signed head the archive is complete; what came later, and a head
that was removed with it, only --head-since can miss.
Exit codes: 0 verified, 1 something is wrong (each finding is named), 3 the tail is unproven: nothing is
wrong with what is there, but no signed head, or none of --head-since, shows that the end is.")]
pub(crate) struct Verify {
    /// The folder with the downloaded files, one that `fleetctl evidence` wrote, or `s3://BUCKET/PREFIX`
    #[arg(value_name = "DIR|S3")]
    place: String,
    /// A public key, or a file with one per line; the first or the last key of a chain is enough
    #[arg(long = "key", value_name = "KEY|FILE", required = true)]
    keys: Vec<String>,
    /// One tenant alone
    #[arg(long)]
    tenant: Option<Tenant>,
    /// The latest head must be of this time or later
    #[arg(long, value_name = "TIME")]
    head_since: Option<DateTime<Utc>>,
}

impl Verify {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let mut keys = Vec::new();
        for given in &self.keys {
            keys.extend(read_keys(given)?);
        }
        let source = archive::open(&self.place)?;
        if bundle::is_bundle(&*source)? {
            let report = bundle::check(&*source, &keys).map_err(|error| {
                Failure::new(format!("no evidence that can be read: {error}"))
                    .hint("`fleetctl evidence` writes such folders; ask for the whole folder")
            })?;
            output.value(&report, || bundle_text(&report));
            return bundle_verdict(&report);
        }
        let options = Options { tenant: self.tenant, head_since: self.head_since };
        let bar = output.bar(Some(0));
        let report = verify(&*source, &keys, &options, |progress| show(&bar, progress));
        bar.finish_and_clear();
        let report = report.map_err(|error| {
            Failure::new(format!("the files could not be read: {error}")).hint(
                "nothing is said of the archive; check the folder or the bucket and try again",
            )
        })?;
        if report.tenants.is_empty() {
            return Err(Failure::usage(format!("{}: no archive", self.place))
                .hint("archive/ and proof/ must be right below it"));
        }
        output.value(&report, || text(&report));
        verdict(&report, self.head_since)
    }
}

/// The keys that an argument names: itself, or the lines of a file.
fn read_keys(given: &str) -> Result<Vec<VerifyKey>, Failure> {
    let key = given.parse::<VerifyKey>();
    let path = Path::new(given);
    if key.is_ok() || !path.is_file() {
        return key.map(|key| vec![key]).map_err(|error| {
            Failure::usage(error).hint("give the key itself, or a file with one key per line")
        });
    }
    let named = |error: io::Error| Failure::usage(format!("{given}: {error}"));
    if path.metadata().map_err(named)?.len() > KEYS_BYTES_MAX {
        return Err(Failure::usage(format!("{given}: too long for a file of keys")));
    }
    let text = std::fs::read_to_string(path).map_err(named)?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Result<Vec<VerifyKey>, _> = lines.map(str::parse).collect();
    match keys {
        Ok(keys) if keys.is_empty() => Err(Failure::usage(format!("{given}: no key in it"))),
        other => other.map_err(|error| Failure::usage(format!("{given}: {error}"))),
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.bytes_total.div_ceil(MEGABYTE));
    bar.set_position(progress.bytes / MEGABYTE);
    let Progress { documents, objects, .. } = progress;
    bar.set_message(format!("MB, {documents} documents, {objects} objects"));
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "verified",
        Verdict::TailUnproven => "TAIL UNPROVEN",
        Verdict::Findings => "NOT AS IT WAS",
    }
}

fn text(report: &Report) -> String {
    report.tenants.iter().map(tenant_text).collect::<Vec<_>>().join("\n")
}

fn tenant_text(report: &TenantReport) -> String {
    let verdict = words(report.verdict);
    let (documents, totals) = (&report.documents, &report.totals);
    let mut lines = vec![
        format!("{}: {verdict}", report.tenant),
        format!(
            "  documents  {} keys, {} manifests, {} receipts; the last is number {}",
            documents.keys, documents.manifests, documents.receipts, report.complete_to
        ),
        format!(
            "  objects    {} with {} lines, {} bytes packed, {} unpacked; {} deleted with a receipt",
            totals.objects,
            totals.lines,
            totals.packed_bytes,
            totals.plain_bytes,
            totals.deleted_objects
        ),
        match &report.proven {
            Some(proven) => format!(
                "  proven     complete to document {} as of {} ({})",
                proven.documents,
                evidence::moment::text(proven.at),
                proven.head
            ),
            None => {
                "  proven     no signed head fits: the last documents may be missing".to_owned()
            }
        },
    ];
    for finding in &report.findings {
        lines.push(format!("  {}  {}", finding.code, finding.file));
        lines.push(format!("    {}", finding.detail.replace('\n', "\n    ")));
        lines.push(format!("    {}", finding.code.meaning()));
    }
    if report.more_findings > 0 {
        lines.push(format!("  and {} findings more", report.more_findings));
    }
    lines.join("\n")
}

fn bundle_text(report: &BundleReport) -> String {
    let mut lines = vec![format!("event {}: {}", report.id, words(report.verdict))];
    lines.extend(report.proved.iter().map(|proved| format!("  proved  {proved}")));
    let doubts = report.doubts.iter();
    lines.extend(doubts.map(|doubt| format!("  DOUBT   {}: {}", doubt.file, doubt.detail)));
    lines.join("\n")
}

fn bundle_verdict(report: &BundleReport) -> Result<(), Failure> {
    match report.verdict {
        Verdict::Verified => Ok(()),
        Verdict::TailUnproven => Err(Failure {
            exit: TAIL_UNPROVEN,
            ..Failure::new(
                "no signed head counts every document: they may be no part of the published chain",
            )
            .hint("export the evidence again after the next head")
        }),
        Verdict::Findings => Err(Failure::new("the evidence does not prove what it says")
            .hint("ask for the files again, and for the archive that they come from")),
    }
}

fn verdict(report: &Report, since: Option<DateTime<Utc>>) -> Result<(), Failure> {
    match report.verdict {
        Verdict::Verified => Ok(()),
        Verdict::TailUnproven => {
            let what = match since {
                Some(since) => format!("tail unproven: no signed head of {since} or later fits"),
                None => "tail unproven: no signed head fits".to_owned(),
            };
            let hint = "get the latest heads from where they are published: proof/TENANT/heads/";
            Err(Failure { exit: TAIL_UNPROVEN, ..Failure::new(what).hint(hint) })
        }
        Verdict::Findings => {
            let all = report.tenants.iter();
            let count: u64 = all.map(|t| t.findings.len() as u64 + t.more_findings).sum();
            Err(Failure::new(format!("not as it was: {count} findings"))
                .hint("docs/ARCHIVE.md says what each finding means; keep the copy as it is"))
        }
    }
}
