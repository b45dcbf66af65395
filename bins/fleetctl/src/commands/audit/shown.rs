//! How a reconciliation is shown, and how it ends.

use audit::reconcile::{ChainStanding, ChainState, FindingKind, Findings, Hour, Mended, Removed};
use contracts::Tenant;
use serde::Serialize;

use crate::failure::{CHAIN_BROKEN, Failure};
use crate::output::{Output, line, table};

/// Findings of a kind that are printed for a person.
const PRINTED: usize = 5;

/// One tenant.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) tenant: Tenant,
    pub(super) chain: Option<ChainStanding>,
    pub(super) mended: Option<Mended>,
    pub(super) removed: Option<Removed>,
    pub(super) hours: Vec<Hour>,
    pub(super) findings: Findings,
}

impl Shown {
    pub(super) fn of(tenant: &Tenant) -> Self {
        let (hours, findings) = (Vec::new(), Findings::default());
        Self { tenant: tenant.clone(), chain: None, mended: None, removed: None, hours, findings }
    }

    /// A row per tenant, then what was done and found.
    pub(super) fn print(shown: &[Self], output: &Output) {
        let heads =
            ["TENANT", "CHAIN", "HOURS", "STORED", "SEARCHABLE", "ARCHIVED", "MARKED", "LEFT"];
        output.rows(shown, &heads, Self::cells);
        if !output.json {
            shown.iter().for_each(Self::print_findings);
        }
    }

    fn cells(&self) -> Vec<String> {
        let sum = |of: fn(&Hour) -> u64| self.hours.iter().map(of).sum::<u64>().to_string();
        vec![
            self.tenant.to_string(),
            self.chain_words(),
            self.hours.len().to_string(),
            sum(|hour| hour.stored),
            sum(|hour| hour.searchable),
            sum(|hour| hour.archived),
            sum(|hour| hour.marked),
            self.findings.left().to_string(),
        ]
    }

    fn chain_words(&self) -> String {
        let Some(chain) = &self.chain else { return "-".to_owned() };
        match (chain.state, self.mended) {
            (ChainState::RolledBack, Some(mended)) => {
                format!("mended, {} to {}", mended.from, mended.to)
            }
            (ChainState::RolledBack, None) => {
                format!("ROLLED BACK, {} to {}", chain.published, chain.database)
            }
            (ChainState::Broken, _) => "BROKEN".to_owned(),
            (ChainState::Whole, _) => format!("whole, {}", chain.database),
        }
    }

    fn print_findings(&self) {
        if let Some(removed) = self.removed {
            line(&format!(
                "{}: {} rows that came back are deleted again; {} are held, {} are not what was deleted",
                self.tenant, removed.deleted, removed.held, removed.differing
            ));
        }
        let counts = &self.findings.counts;
        let found: Vec<Vec<String>> = counts
            .iter()
            .map(|(kind, count)| {
                let (found, repaired) = (count.found.to_string(), count.repaired.to_string());
                vec![self.tenant.to_string(), kind.to_string(), found, repaired]
            })
            .collect();
        if !found.is_empty() {
            line(&format!("\n{}", table(&["TENANT", "FOUND", "HOW MANY", "REPAIRED"], &found)));
        }
        for kind in counts.keys() {
            let shown = self.findings.shown.iter().filter(|finding| finding.kind == *kind);
            for finding in shown.take(PRINTED) {
                line(&format!("  {kind}  {}  {}", finding.about, finding.detail));
            }
        }
    }
}

/// Nothing is left, or why this is no success.
pub(super) fn verdict(shown: &[Shown], repair: bool) -> Result<(), Failure> {
    let broken: Vec<&str> = shown
        .iter()
        .filter(|shown| shown.findings.found(FindingKind::ChainBroken) > 0)
        .map(|shown| shown.tenant.as_str())
        .collect();
    if !broken.is_empty() {
        let text = format!("chain-broken: {}", broken.join(", "));
        let failure = Failure { exit: CHAIN_BROKEN, ..Failure::new(text) };
        return Err(failure.hint(
            "nothing of such a chain was changed; stop its workers, keep PostgreSQL and the bucket as they \
             are, and run `fleetctl verify`; docs/operations.md says what to do after a restore",
        ));
    }
    let left: u64 = shown.iter().map(|shown| shown.findings.left()).sum();
    if left == 0 {
        return Ok(());
    }
    let hint = if repair {
        "what is left nobody but a person can decide; docs/operations.md says what each kind means"
    } else {
        "--repair puts back what one store lacks and another proves"
    };
    Err(Failure::new(format!("{left} differences are left")).hint(hint))
}
