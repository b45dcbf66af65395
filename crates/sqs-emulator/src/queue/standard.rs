//! Standard order: oldest first, except that tenants who hold much of what is in flight wait behind
//! those who do not (fair queues; the tenant is the message group id, none means a tenant of its own).
//! Amazon also looks at a tenant's recent share of processing time, over a window it does not publish:
//! that measure is left out, so that the order stays one that a test can predict.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::order::Kind;

/// A tenant is noisy from this many messages in flight on …
const NOISY_IN_FLIGHT_MIN: usize = 30;
/// … when they are more than one in this many of all in flight (10 %).
const NOISY_SHARE: usize = 10;
/// A tenant that has sent nothing for so long, milliseconds, is quiet again.
const NOISY_SILENCE_MS: i64 = 300_000;

#[derive(Clone, Debug, Default)]
struct Tenant {
    visible: BTreeSet<u64>,
    leased: usize,
    /// When its latest message was sent.
    sent_at: i64,
    /// Has sent nothing for five minutes: cannot be noisy.
    silent: bool,
    /// Stays until its backlog is empty or it has been silent for five minutes.
    noisy: bool,
    listed: Option<Listed>,
}

/// Where a tenant stands among the others: noisy ones by what they hold.
type Listed = (bool, usize, u64);

/// The order of a standard queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standard {
    /// Visible messages without a tenant.
    plain: BTreeSet<u64>,
    tenants: HashMap<Arc<str>, Tenant>,
    /// Tenants with visible messages: the quiet ones by their oldest, then the noisy ones.
    heads: BTreeSet<(Listed, Arc<str>)>,
    /// Tenants that are not silent, by their latest send.
    senders: BTreeSet<(i64, Arc<str>)>,
    visible: usize,
    leased: usize,
    /// Whether noisy tenants wait at all.
    fair: bool,
}

impl Standard {
    pub(crate) fn new(fair: bool) -> Self {
        Self { fair, ..Self::default() }
    }

    /// The same rules, no messages.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.fair)
    }

    pub(crate) fn ready(&self) -> usize {
        self.visible
    }

    pub(crate) fn set(
        &mut self,
        seq: u64,
        group: Option<&Arc<str>>,
        from: Option<Kind>,
        to: Option<Kind>,
    ) {
        let was = |kind| usize::from(from == Some(kind));
        let is = |kind| usize::from(to == Some(kind));
        self.visible = self.visible + is(Kind::Visible) - was(Kind::Visible);
        self.leased = self.leased + is(Kind::Leased) - was(Kind::Leased);
        match group {
            None if to == Some(Kind::Visible) => {
                self.plain.insert(seq);
            }
            None if from == Some(Kind::Visible) => {
                self.plain.remove(&seq);
            }
            None => {}
            Some(name) => self.set_tenant(seq, name, from, to),
        }
    }

    /// A message was sent at that time, which may be long ago when it comes from another queue.
    pub(crate) fn sent(&mut self, group: Option<&Arc<str>>, at: i64) {
        let Some(name) = group.filter(|_| self.fair) else { return };
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        if at > tenant.sent_at {
            self.senders.remove(&(tenant.sent_at, Arc::clone(name)));
            tenant.sent_at = at;
            tenant.silent = false;
            self.senders.insert((at, Arc::clone(name)));
        }
    }

    /// Lets time pass: who has sent nothing for five minutes is no longer noisy.
    pub(crate) fn advance(&mut self, now: i64) {
        while let Some((at, name)) = self.senders.first().cloned() {
            if now - at < NOISY_SILENCE_MS {
                break;
            }
            self.senders.pop_first();
            if let Some(tenant) = self.tenants.get_mut(&name) {
                tenant.silent = true;
                tenant.noisy = false;
            }
            self.relist(&name);
        }
    }

    /// The oldest message of the quiet; when there is none, that of the noisy tenant who holds
    /// least.
    pub(crate) fn next(&self) -> Option<u64> {
        let plain = self.plain.first().copied();
        match (plain, self.heads.first()) {
            (Some(plain), Some(((false, _, seq), _))) => Some(plain.min(*seq)),
            (Some(plain), _) => Some(plain),
            (None, head) => head.map(|((_, _, seq), _)| *seq),
        }
    }

    fn set_tenant(&mut self, seq: u64, name: &Arc<str>, from: Option<Kind>, to: Option<Kind>) {
        if !self.tenants.contains_key(name) {
            self.tenants.insert(Arc::clone(name), Tenant::default());
        }
        let (total, fair) = (self.leased, self.fair);
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        if from == Some(Kind::Visible) {
            tenant.visible.remove(&seq);
        }
        if to == Some(Kind::Visible) {
            tenant.visible.insert(seq);
        }
        tenant.leased += usize::from(to == Some(Kind::Leased));
        tenant.leased -= usize::from(from == Some(Kind::Leased));
        if tenant.visible.is_empty() {
            tenant.noisy = false;
        } else if fair
            && !tenant.silent
            && tenant.leased >= NOISY_IN_FLIGHT_MIN
            && tenant.leased * NOISY_SHARE > total
        {
            tenant.noisy = true;
        }
        self.relist(name);
    }

    /// Puts a tenant where it now stands among the others, and forgets it when it has nothing here.
    fn relist(&mut self, name: &Arc<str>) {
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        let listed = tenant
            .visible
            .first()
            .map(|&oldest| (tenant.noisy, if tenant.noisy { tenant.leased } else { 0 }, oldest));
        if listed != tenant.listed {
            if let Some(old) = tenant.listed {
                self.heads.remove(&(old, Arc::clone(name)));
            }
            if let Some(new) = listed {
                self.heads.insert((new, Arc::clone(name)));
            }
            tenant.listed = listed;
        }
        if tenant.visible.is_empty() && tenant.leased == 0 {
            self.senders.remove(&(tenant.sent_at, Arc::clone(name)));
            self.tenants.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_tenant_waits_behind_a_quiet_one() {
        let (noisy, quiet): (Arc<str>, Arc<str>) = ("noisy".into(), "quiet".into());
        let mut order = Standard::new(true);
        for seq in 0..100 {
            order.set(seq, Some(&noisy), None, Some(Kind::Visible));
        }
        order.set(100, Some(&quiet), None, Some(Kind::Visible));
        for seq in 0..29 {
            assert_eq!(order.next(), Some(seq));
            order.set(seq, Some(&noisy), Some(Kind::Visible), Some(Kind::Leased));
        }
        assert_eq!(order.next(), Some(29), "29 in flight are not yet noisy");
        order.set(29, Some(&noisy), Some(Kind::Visible), Some(Kind::Leased));
        assert_eq!(order.next(), Some(100), "30 are");
        order.set(100, Some(&quiet), Some(Kind::Visible), Some(Kind::Leased));
        assert_eq!(order.next(), Some(30), "nothing is withheld when nobody else waits");
    }

    #[test]
    fn without_fairness_the_oldest_comes_first() {
        let (noisy, quiet): (Arc<str>, Arc<str>) = ("noisy".into(), "quiet".into());
        let mut order = Standard::new(false);
        for seq in 0..100 {
            order.set(seq, Some(&noisy), None, Some(Kind::Visible));
        }
        order.set(100, Some(&quiet), None, Some(Kind::Visible));
        order.set(101, None, None, Some(Kind::Visible));
        for seq in 0..102 {
            assert_eq!(order.next(), Some(seq));
            let group = [&noisy, &quiet].into_iter().nth(usize::from(seq == 100));
            let group = group.filter(|_| seq != 101);
            order.set(seq, group, Some(Kind::Visible), Some(Kind::Leased));
        }
    }
}
