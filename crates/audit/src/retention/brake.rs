//! What stops a run until somebody approves it: that it would delete too large a share of the tenant's
//! logs, or many times more than the last run. Pure; in doubt it stops.

use super::policy::Brake;

impl Brake {
    /// One that stops nothing that a policy's own would not.
    pub const WIDEST: Self = Self { share_max: 1.0, growth_max: 1_000.0 };

    /// This one, but no wider than `ceiling`: a policy may brake sooner than its operator says, never later.
    #[must_use]
    pub fn within(self, ceiling: Self) -> Self {
        Self {
            share_max: self.share_max.min(ceiling.share_max),
            growth_max: self.growth_max.min(ceiling.growth_max),
        }
    }
}

/// What a brake judges by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Logs that the run would delete.
    pub deletes: u64,
    /// Logs of the tenant, counted up to [`counted_up_to`] or beyond.
    pub stored: u64,
    /// What the last finished run deleted that deleted anything.
    pub last: Option<u64>,
}

/// How many logs of the tenant are enough for a run of that size: whoever counts them may stop there.
#[expect(clippy::cast_precision_loss, reason = "a share needs no exactness beyond 2^53 logs")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a quotient of a count and a share above 0; what is beyond the type is its largest"
)]
pub fn counted_up_to(brake: Brake, deletes: u64) -> u64 {
    (deletes as f64 / brake.share_max).ceil() as u64
}

/// Why the run has to wait for an approval; `None` when it may go on.
#[expect(clippy::cast_precision_loss, reason = "shown to a person, and compared with a factor")]
pub fn stops(brake: Brake, load: Load) -> Option<String> {
    let Load { deletes, stored, last } = load;
    if deletes == 0 {
        return None;
    }
    if stored < counted_up_to(brake, deletes) {
        let share = deletes as f64 / stored.max(deletes) as f64 * 100.0;
        let max = brake.share_max * 100.0;
        return Some(format!(
            "it would delete {deletes} of the tenant's {stored} logs, {share:.1} %; the brake is at {max:.1} %"
        ));
    }
    let last = last.filter(|last| *last > 0)?;
    let growth = deletes as f64 / last as f64;
    (growth > brake.growth_max).then(|| {
        format!(
            "it would delete {deletes} logs, {growth:.1} times the {last} of the last run; the brake is at {:.1}",
            brake.growth_max
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brake(share_max: f64, growth_max: f64) -> Brake {
        Brake { share_max, growth_max }
    }

    fn stopped(brake: Brake, deletes: u64, stored: u64, last: Option<u64>) -> bool {
        stops(brake, Load { deletes, stored, last }).is_some()
    }

    #[test]
    fn a_share_holds_just_inside_and_just_outside() {
        let fifth = brake(0.2, 100.0);
        assert!(!stopped(fifth, 20, 100, None) && stopped(fifth, 21, 100, None));
        assert!(stopped(fifth, 1, 4, None) && !stopped(fifth, 1, 5, None));
        assert!(!stopped(brake(1.0, 1.0), 100, 100, None), "a brake at 1 lets everything pass");
        assert!(!stopped(fifth, 0, 0, Some(1)), "nothing is nothing");
        // What came while it was planned makes a share above 1: it stops rather than not.
        assert!(stopped(brake(1.0, 1.0), 100, 99, None));
    }

    #[test]
    fn growth_holds_just_inside_and_just_outside() {
        let triple = brake(1.0, 3.0);
        assert!(!stopped(triple, 30, 1_000, Some(10)) && stopped(triple, 31, 1_000, Some(10)));
        assert!(!stopped(triple, 31, 1_000, None), "a first run has nothing to grow from");
        assert!(!stopped(triple, 31, 1_000, Some(0)));
    }

    #[test]
    fn a_ceiling_narrows_and_never_widens() {
        let (own, ceiling) = (brake(0.2, 100.0), brake(0.5, 3.0));
        assert_eq!(own.within(ceiling), brake(0.2, 3.0));
        assert_eq!(brake(1.0, 1.0).within(ceiling), brake(0.5, 1.0));
        assert_eq!(own.within(Brake::WIDEST), own);
    }

    #[test]
    fn it_says_why() {
        let why = stops(brake(0.2, 3.0), Load { deletes: 60, stored: 100, last: None }).unwrap();
        assert!(why.contains("60 of the tenant's 100 logs, 60.0 %"), "{why}");
        let why = stops(brake(1.0, 3.0), Load { deletes: 60, stored: 100, last: Some(10) });
        assert!(why.unwrap().contains("6.0 times the 10"));
    }
}
