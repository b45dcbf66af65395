//! What a seed stands for: a small world, the faults it meets and when. Everything is drawn here or
//! from the world's dice, in one order, so that a seed is a run. Each kind of fault is left out of
//! about half of the plans, so that some are all about one kind and some have none.

use std::time::Duration;

use queue_core::EngineConfig;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fifo::rig::ORDERS;
use crate::rig::QUEUE;

/// Faults and handlers' tempers as chances in a thousand.
pub(super) type PerMille = u32;

/// Random draws, repeatable.
#[derive(Debug)]
pub(super) struct Dice(StdRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn hit(&mut self, chance: PerMille) -> bool {
        chance > 0 && self.0.random_range(0..1_000) < chance
    }

    pub(super) fn within(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length.max(1))
    }

    /// A rate that is zero in about half of all plans.
    fn rate(&mut self, most: PerMille) -> PerMille {
        if self.hit(450) { self.0.random_range(1..=most) } else { 0 }
    }

    fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How a message is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It can be handled.
    Good,
    /// It writes to a sink where doing it twice is doing it once.
    Object,
    /// It writes to a sink that keeps no account.
    Mail,
    /// The sink refuses it, alone or with others.
    Poison,
    /// The handler refuses it.
    Refused,
    /// No envelope and no JSON.
    Garbage,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobPlan {
    pub(super) nature: Nature,
    /// When it is sent.
    pub(super) at: Duration,
    /// Its delay, seconds.
    pub(super) delay: u64,
    /// How often others had it in their hands before.
    pub(super) received_before: u32,
    /// Whether those receives have an outcome on record.
    pub(super) accounted: bool,
}

/// What may happen to a call to the broker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BrokerRates {
    pub(super) duplicate: PerMille,
    pub(super) reorder: PerMille,
    pub(super) ghost: PerMille,
    pub(super) throttle: PerMille,
    pub(super) lose_answer: PerMille,
    pub(super) entry: PerMille,
    pub(super) slow: PerMille,
    pub(super) hang: PerMille,
    pub(super) panic: PerMille,
}

/// What may happen in a handler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HandlerRates {
    pub(super) slow_max_ms: u64,
    pub(super) hang: PerMille,
    pub(super) panic: PerMille,
    pub(super) retry: PerMille,
    pub(super) infrastructure: PerMille,
    pub(super) snooze: PerMille,
}

/// What may happen to a call to the sink or the attempt store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoreRates {
    pub(super) refuse: PerMille,
    pub(super) lose_answer: PerMille,
    pub(super) slow: PerMille,
}

/// What happens at a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    Crash(usize),
    Drain(usize),
    SinkDown,
    SinkUp,
    /// Somebody else gets a message that is in flight, for so many seconds.
    LeaseLost(u64),
    /// From now on the broker takes no delete, extension or letter.
    Muted,
    /// It does again.
    Heard,
    /// The wall clock of every process steps by seconds.
    ClockJump(i64),
    /// The processes stand still for seconds while the broker's time goes on.
    Suspend(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) jobs: Vec<JobPlan>,
    /// How many groups a FIFO queue has; zero makes it a standard one.
    pub(super) groups: u64,
    pub(super) processes: usize,
    pub(super) config: EngineConfig,
    pub(super) broker: BrokerRates,
    pub(super) handler: HandlerRates,
    pub(super) sink: StoreRates,
    pub(super) attempts: StoreRates,
    pub(super) happenings: Vec<(Duration, Happening)>,
    /// Faults end with it.
    pub(super) storm: Duration,
    /// The first process dies at the first of these awaits, its successor at the second, and so on.
    pub(super) crash_at: Vec<u64>,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let storm = Duration::from_secs(dice.within(60..=600));
        let processes = 1 + dice.index(3);
        let groups = if dice.hit(350) { dice.within(1..=4) } else { 0 };
        let config = config(seed, groups > 0, &mut dice);
        let calm_broker = dice.hit(300);
        let broker =
            if calm_broker { BrokerRates::default() } else { broker(groups > 0, &mut dice) };
        Self {
            seed,
            jobs: jobs(groups > 0, storm, &mut dice),
            groups,
            processes,
            config,
            broker,
            handler: handler(&mut dice, &config),
            sink: store(&mut dice),
            attempts: store(&mut dice),
            happenings: happenings(&mut dice, storm, processes, calm_broker),
            storm,
            crash_at: crashes(&mut dice),
        }
    }

    /// A world without faults, small enough to crash it at each await in turn.
    pub(super) fn quiet(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let storm = Duration::from_secs(20);
        let groups = [0, 2][dice.index(2)];
        let config = config(seed, groups > 0, &mut dice);
        let config = EngineConfig { concurrency: 4, pollers_max: 2, ..config };
        let mut jobs = jobs(groups > 0, storm, &mut dice);
        jobs.truncate(6);
        Self {
            seed,
            jobs,
            groups,
            processes: 1,
            config,
            broker: BrokerRates::default(),
            handler: HandlerRates { slow_max_ms: 3_000, retry: 100, ..HandlerRates::default() },
            sink: StoreRates::default(),
            attempts: StoreRates::default(),
            happenings: Vec::new(),
            storm,
            crash_at: Vec::new(),
        }
    }

    pub(super) fn is_fifo(&self) -> bool {
        self.groups > 0
    }

    pub(super) fn job(&self, id: u64) -> JobPlan {
        self.jobs[usize::try_from(id).unwrap()]
    }

    /// Whether nothing in it can take a lease away from a process that keeps it.
    pub(super) fn leaves_leases_alone(&self) -> bool {
        let BrokerRates { duplicate, lose_answer, throttle, entry, slow, hang, .. } = self.broker;
        let taken = |happening: &Happening| {
            let takes = [Happening::Muted, Happening::Heard];
            takes.contains(happening)
                || matches!(happening, Happening::LeaseLost(_) | Happening::Suspend(_))
        };
        duplicate + lose_answer + throttle + entry + slow + hang == 0
            && !self.happenings.iter().any(|(_, happening)| taken(happening))
    }
}

fn config(seed: u64, fifo: bool, dice: &mut Dice) -> EngineConfig {
    let wait = Duration::from_secs(dice.within(1..=20));
    let lease = Duration::from_secs(dice.within(8..=40));
    let bytes = if dice.hit(250) { 1 << dice.within(16..=23) } else { 16 << 20 };
    EngineConfig {
        seed: Some(seed),
        pollers_max: 1 + dice.index(4),
        concurrency: if dice.hit(300) { 1 + dice.index(3) } else { 4 + dice.index(20) },
        bytes_in_hand_max: usize::try_from(bytes).unwrap(),
        wait,
        lease,
        progress_timeout: Duration::from_secs(dice.within(20..=90)),
        linger_settle: Duration::from_millis(dice.within(0..=500)),
        drain_budget: wait + Duration::from_secs(dice.within(8..=60)),
        ..EngineConfig::for_queue(if fifo { &ORDERS } else { &QUEUE })
    }
}

fn jobs(fifo: bool, storm: Duration, dice: &mut Dice) -> Vec<JobPlan> {
    let count = dice.within(6..=40);
    let (later, old) = (dice.rate(800), dice.rate(300));
    let old = if fifo { 0 } else { old };
    let most = u64::try_from(storm.as_millis()).unwrap();
    (0..count)
        .map(|_| {
            let nature = match dice.within(0..=99) {
                0..=3 => Nature::Poison,
                4..=6 => Nature::Refused,
                7..=8 => Nature::Garbage,
                9..=18 => Nature::Object,
                19..=28 => Nature::Mail,
                _ => Nature::Good,
            };
            let at = if dice.hit(later) { dice.millis(0..=most) } else { Duration::ZERO };
            let received = dice.hit(old);
            JobPlan {
                nature,
                at,
                // A FIFO queue takes no delay of a message's own.
                delay: if !fifo && dice.hit(100) { dice.within(1..=30) } else { 0 },
                received_before: if received {
                    1 + u32::try_from(dice.index(14)).unwrap()
                } else {
                    0
                },
                accounted: dice.hit(500),
            }
        })
        .collect()
}

fn broker(fifo: bool, dice: &mut Dice) -> BrokerRates {
    // A FIFO queue hands out in order, and again only when a lease has ended.
    let (duplicate, reorder) = if fifo { (0, 0) } else { (dice.rate(150), dice.rate(500)) };
    BrokerRates {
        duplicate,
        reorder,
        ghost: dice.rate(80),
        throttle: dice.rate(150),
        lose_answer: dice.rate(120),
        entry: dice.rate(200),
        slow: dice.rate(200),
        hang: dice.rate(15),
        panic: dice.rate(10),
    }
}

fn handler(dice: &mut Dice, config: &EngineConfig) -> HandlerRates {
    let lease_ms = u64::try_from(config.lease.as_millis()).unwrap();
    HandlerRates {
        slow_max_ms: [100, 2_000, lease_ms * 2][dice.index(3)],
        hang: dice.rate(20),
        panic: dice.rate(40),
        retry: dice.rate(200),
        infrastructure: dice.rate(120),
        snooze: dice.rate(80),
    }
}

fn crashes(dice: &mut Dice) -> Vec<u64> {
    let count = if dice.hit(300) { 1 + dice.index(6) } else { 0 };
    (0..count).map(|_| dice.within(0..=400)).collect()
}

fn store(dice: &mut Dice) -> StoreRates {
    StoreRates { refuse: dice.rate(100), lose_answer: dice.rate(120), slow: dice.rate(200) }
}

fn happenings(
    dice: &mut Dice,
    storm: Duration,
    processes: usize,
    calm: bool,
) -> Vec<(Duration, Happening)> {
    let most = u64::try_from(storm.as_millis()).unwrap();
    let mut all = Vec::new();
    let mut some = |dice: &mut Dice, most_of_them: usize, what: &dyn Fn(&mut Dice) -> Happening| {
        if dice.hit(450) {
            for _ in 0..=dice.index(most_of_them) {
                all.push((dice.millis(0..=most), what(dice)));
            }
        }
    };
    some(dice, 12, &|dice| Happening::Crash(dice.index(processes)));
    some(dice, 8, &|dice| Happening::Drain(dice.index(processes)));
    some(dice, 3, &|dice| Happening::ClockJump(dice.within(0..=7_200).cast_signed() - 3_600));
    if !calm {
        some(dice, 12, &|dice| Happening::LeaseLost(dice.within(1..=60)));
        some(dice, 3, &|dice| Happening::Suspend(dice.within(1..=90)));
    }
    if !calm && dice.hit(300) {
        let at = dice.millis(0..=most);
        all.push((at, Happening::Muted));
        all.push((at + dice.millis(1_000..=120_000), Happening::Heard));
    }
    if dice.hit(450) {
        let mut at = dice.millis(0..=most / 2);
        for _ in 0..=dice.index(3) {
            all.push((at, Happening::SinkDown));
            at += dice.millis(500..=most / 2);
            all.push((at, Happening::SinkUp));
            at += dice.millis(500..=20_000);
        }
    }
    all.sort_by_key(|(at, _)| *at);
    all
}
