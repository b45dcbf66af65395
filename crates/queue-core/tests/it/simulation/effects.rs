//! The instant of an effect: it is written down, and judged: the first one of its job, in its group's
//! order, and not in a group that is parked.

use super::invariants::Invariant;
use super::trace::What;
use super::world::{Books, Job, World};

impl World {
    /// Writes down what the database has committed since the last look.
    pub(super) fn look_at_effects(&self, process: u32) {
        let effects = self.effects.effects();
        let seen = std::mem::replace(&mut self.books().effects_seen, effects.len());
        for (_, job) in &effects[seen..] {
            self.takes_effect(process, job.parse().unwrap());
        }
    }

    /// A job takes effect, once more or for the first time.
    pub(super) fn takes_effect(&self, process: u32, job: u64) {
        let mut books = self.books();
        let book = books.job(job);
        book.effects += 1;
        let (effects, sent_as) = (book.effects, book.sent_as);
        let overtaken = self.overtaken(&books, job, sent_as);
        drop(books);
        self.note(process, What::Effect { job });
        if self.is_parked(job) {
            let text = format!("job {job} takes effect although its group is parked");
            self.breaks(Invariant::ParkedWaits, text);
        }
        if effects == 1 && !overtaken.is_empty() {
            let text = format!("job {job} takes effect before {overtaken:?} of its group");
            self.breaks(Invariant::FifoOrder, text);
        }
        if effects > 1 {
            self.breaks(Invariant::EffectOnce, format!("job {job} took effect {effects} times"));
        }
    }

    /// What was sent before a job in its group and has neither taken effect nor been rejected.
    fn overtaken(&self, books: &Books, id: u64, sent_as: u64) -> Vec<u64> {
        if !self.plan.is_fifo() {
            return Vec::new();
        }
        let group = id % self.plan.groups;
        let before = |(other, job): &(u64, &Job)| {
            other % self.plan.groups == group && (1..sent_as).contains(&job.sent_as)
        };
        let open = |job: &Job| job.effects == 0 && job.letters.is_empty() && !job.rejected;
        let others = (0..).zip(&books.jobs).filter(before);
        others.filter(|(_, job)| open(job)).map(|(other, _)| other).collect()
    }
}
