//! What a seed stands for: the machines, their clocks and network, the limits and the faults of one history.

use super::random::Random;
use crate::quota::{Limit, OnStorageFailure, lease::Margin};

const MS: u64 = 1000;

#[derive(Debug)]
pub struct Plan {
    pub replicas: Vec<Machine>,
    pub keys: u64,
    pub keys_max: usize,
    /// The first holds from the start, the others after reloads.
    pub limits: Vec<Vec<Limit>>,
    pub on_storage_failure: OnStorageFailure,
    pub tells: bool,
    pub network: Network,
    /// The authority's clock when the history begins, in microseconds.
    pub authority_offset: u64,
    pub faults: Vec<(u64, Fault)>,
    /// No request begins after this.
    pub until: u64,
    pub margin: Margin,
    pub plant: Plant,
}

#[derive(Debug)]
pub struct Machine {
    pub cores: usize,
    /// How much faster than the authority's its clock runs.
    pub drift_ppm: i64,
    pub offset: u64,
    /// Between two requests, on average.
    pub pause: u64,
    /// Between two sweeps, at most. One that never sweeps is a management thread that hangs.
    pub sweep: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub delay_min: u64,
    pub delay_max: u64,
    /// Of a thousand messages.
    pub lost: u64,
    pub doubled: u64,
    /// A message that is late is so much later.
    pub late: u64,
    pub late_by: u64,
    /// The driver gives up an answer after so long.
    pub given_up: u64,
}

impl Network {
    /// It loses nothing, and is fast.
    pub fn is_stable(&self) -> bool {
        self.lost == 0 && self.late == 0 && self.delay_max <= 2 * MS
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The replica loses all it has, and is back after so long.
    Crash { replica: usize, down: u64 },
    /// So does the authority. What it `keeps` is as it was so long ago; without, nothing is lost that it has acknowledged.
    Fail { down: u64, back_to: Option<u64> },
    /// These replicas do not reach the authority for so long. Each notices after a while of its own.
    Cut { replicas: u64, lasts: u64 },
    /// For so long the authority's answers come late, by half of this at least: some in time, some after who waits has given up.
    Slow { by: u64, lasts: u64 },
    /// The replica takes up the next limits.
    Reload { replica: usize },
    /// All leave that replica alone for so long.
    Idle { replica: usize, lasts: u64 },
}

/// What is built in wrongly, for the simulation to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    #[default]
    Nothing,
    /// The authority takes a question that comes twice for two.
    CountsTwice,
    /// A refill opens windows as a request does.
    OpensAhead,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let limits = limits(random);
        let longest = limits[0].iter().map(|limit| limit.period).max().unwrap_or_default();
        let until = (longest * random.between(1, 3)).min(1_500 * MS) + random.below(50 * MS);
        let replicas: Vec<_> = (0..random.between(1, 4)).map(|_| Machine::new(random, until)).collect();
        let network = Network::new(random);
        let faults = match network.is_stable() && random.one_in(2) {
            true => Vec::new(),
            false => (0..random.below(5)).map(|_| (random.below(until), Fault::new(random, replicas.len()))).collect(),
        };
        let reloads = (1..limits.len()).flat_map(|_| {
            let at = random.below(until);
            // All replicas hear of it within a while.
            (0..replicas.len())
                .map(|replica| (at + random.below(20 * MS), Fault::Reload { replica }))
                .collect::<Vec<_>>()
        });
        let reloads: Vec<_> = reloads.collect();
        Self {
            keys: random.between(1, 3),
            keys_max: if random.one_in(4) { 1 } else { 100 },
            on_storage_failure: random.pick(&[OnStorageFailure::Local, OnStorageFailure::Deny]),
            tells: random.one_in(3),
            authority_offset: random.between(1, 1 << 40),
            faults: faults.into_iter().chain(reloads).collect(),
            margin: Margin::STATED,
            plant: Plant::Nothing,
            replicas,
            limits,
            network,
            until,
        }
    }

    pub fn loses_writes(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Fail { back_to: Some(_), .. }))
    }
}

impl Machine {
    fn new(random: &mut Random, until: u64) -> Self {
        let bound = random.pick(&[-1000, 1000, 0]);
        Self {
            cores: random.between(1, 3) as usize,
            drift_ppm: if random.one_in(3) { random.between(0, 2000) as i64 - 1000 } else { bound },
            offset: random.below(1 << 40),
            // A few hundred requests are a history.
            pause: random.pick(&[200, MS, 3 * MS, 10 * MS, 50 * MS]).max(until / 50),
            sweep: random.pick(&[2 * MS, 50 * MS, 50 * MS, 10_000 * MS]),
        }
    }
}

fn limits(random: &mut Random) -> Vec<Vec<Limit>> {
    let count = random.pick(&[1, 1, 1, 2, 3]);
    let maximum = |random: &mut Random| random.pick(&[1, 2, 3, 5, 10, 20, 50, 200]);
    let periods: Vec<_> = (0..count).map(|_| random.pick(&[50, 50, 51, 100, 200, 700]) * MS).collect();
    let mut once = |_| periods.iter().map(|period| Limit { maximum: maximum(random), period: *period }).collect();
    let first = once(0);
    let second = once(1);
    if random.one_in(4) { vec![first, second] } else { vec![first] }
}

impl Network {
    fn new(random: &mut Random) -> Self {
        let delay_min = random.pick(&[0, 0, 50, 500]);
        let delay_max = delay_min + random.pick(&[0, 0, 100, MS]);
        let stable = Self { delay_min, delay_max, lost: 0, doubled: 0, late: 0, late_by: 1, given_up: 300 * MS };
        if random.one_in(2) {
            return stable;
        }
        Self {
            delay_max: delay_min + random.pick(&[0, MS, 10 * MS, 60 * MS]),
            lost: random.pick(&[0, 10, 100]),
            doubled: random.pick(&[0, 100, 400]),
            late: random.pick(&[0, 50, 200]),
            late_by: random.pick(&[20 * MS, 100 * MS, 400 * MS]),
            given_up: random.pick(&[20 * MS, 100 * MS, 300 * MS]),
            ..stable
        }
    }
}

impl Fault {
    fn new(random: &mut Random, replicas: usize) -> Self {
        let replica = random.below(replicas as u64) as usize;
        match random.below(10) {
            0 => Self::Crash { replica, down: random.below(30 * MS) },
            1 => Self::Fail { down: random.between(2 * MS, 30 * MS), back_to: None },
            2 => Self::Fail { down: random.between(2 * MS, 30 * MS), back_to: Some(random.below(200 * MS)) },
            3 | 4 => Self::Cut { replicas: u64::MAX, lasts: random.between(MS, 300 * MS) },
            5 => Self::Cut { replicas: 1 << replica, lasts: random.between(MS, 300 * MS) },
            6 | 7 => {
                Self::Slow { by: random.pick(&[200, 300, 450, 600]) * MS, lasts: random.between(50 * MS, 800 * MS) }
            }
            _ => Self::Idle { replica, lasts: random.between(10 * MS, 300 * MS) },
        }
    }
}
