//! What goes wrong, when and for how long: drawn from a seed, carried out on real processes, and
//! counted only where it really happened.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use testkit::Mood;
use tokio::time::Instant;

use crate::fleet::{Fleet, Target, Victim};
use crate::server::Server;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL, then a new process.
    Kill,
    /// SIGSTOP for a while, with everything under it.
    Pause,
    /// A clean stop, then a new process.
    Restart,
    /// Its links refuse, or swallow what is sent.
    Cut,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Kill, Self::Pause, Self::Restart, Self::Cut];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Pause => "paused",
            Self::Restart => "restarted",
            Self::Cut => "cut off",
        }
    }
}

/// How long a fault lasts, in milliseconds.
const LASTS: std::ops::Range<u64> = 200..8_000;
/// Between two faults of one victim, in milliseconds. With six of them something is in trouble most of
/// the time, and yet there is time to work.
const QUIET: std::ops::Range<u64> = 1_000..42_000;

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(Victim, Fault), usize>>);

impl Tally {
    fn add(&self, victim: Victim, fault: Fault) {
        *self.0.lock().unwrap().entry((victim, fault)).or_default() += 1;
    }

    pub(crate) fn of(&self, victim: Victim, fault: Fault) -> usize {
        self.0.lock().unwrap().get(&(victim, fault)).copied().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    /// The least that any fault happened to any victim.
    pub(crate) fn least(&self) -> usize {
        let pairs = Victim::ALL.iter().flat_map(|victim| Fault::ALL.map(|fault| (*victim, fault)));
        pairs.map(|(victim, fault)| self.of(victim, fault)).min().unwrap_or_default()
    }
}

/// Troubles all victims at once, each in its own time, until `until`, and until every fault has
/// happened to each of them `each` times; a round of all faults that has begun is finished. Every process is up and every link is mended when it returns.
pub(crate) async fn storm(
    fleet: &Fleet,
    seed: u64,
    until: Instant,
    each: usize,
    tally: &Tally,
) -> anyhow::Result<()> {
    let victims = fleet.targets.iter().enumerate().map(|(at, (victim, targets))| {
        let random = StdRng::seed_from_u64(seed ^ ((at as u64 + 1) << 32));
        trouble(*victim, targets, random, (until, each), tally)
    });
    futures_util::future::try_join_all(victims).await?;
    Ok(())
}

async fn trouble(
    victim: Victim,
    targets: &[Target],
    mut random: StdRng,
    (until, each): (Instant, usize),
    tally: &Tally,
) -> anyhow::Result<()> {
    let mut rounds = 0;
    while Instant::now() < until || rounds < each {
        rounds += 1;
        let mut round = Fault::ALL;
        round.shuffle(&mut random);
        for fault in round {
            pause_for(&mut random, QUIET).await;
            let target = &targets[random.random_range(0..targets.len())];
            let happened = carry_out(fault, target, &mut random).await;
            happened.with_context(|| format!("{} to be {}", victim.name(), fault.name()))?;
            tally.add(victim, fault);
        }
    }
    Ok(())
}

async fn carry_out(fault: Fault, target: &Target, random: &mut StdRng) -> anyhow::Result<()> {
    let mut server = target.server.lock().await;
    anyhow::ensure!(!server.ended_by_itself(), "it ended by itself");
    match fault {
        Fault::Kill => {
            server.kill().await?;
            pause_for(random, LASTS).await;
            server.start().await
        }
        Fault::Restart => {
            server.stop().await?;
            pause_for(random, LASTS).await;
            server.start().await
        }
        Fault::Pause => {
            let stopped = server.pause()?;
            pause_for(random, LASTS).await;
            Server::resume(&stopped);
            Ok(())
        }
        Fault::Cut => {
            let mood = if random.random() { Mood::Down } else { Mood::Silent };
            target.links.iter().for_each(|link| link.cut(mood));
            pause_for(random, LASTS).await;
            target.links.iter().for_each(|link| link.mend());
            Ok(())
        }
    }
}

async fn pause_for(random: &mut StdRng, range: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(range))).await;
}
