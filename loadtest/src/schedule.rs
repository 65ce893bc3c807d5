//! When requests should leave, decided before anything is known of the answers: that makes a loop open.

/// How the gaps between requests are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Every gap is the same.
    Constant,
    /// Gaps are exponential, as of many independent clients: bursts and lulls.
    Poisson,
}

/// The intended times of one run, ascending, from `start` and before `end`, in nanoseconds.
pub struct Schedule {
    start_ns: u64,
    end_ns: u64,
    gap_ns: f64,
    shape: Shape,
    random: Random,
    /// Of the request that is next: counted, not added up, so that constant gaps never drift.
    index: u64,
    /// Behind `start_ns`.
    offset_ns: f64,
}

impl Schedule {
    pub fn new(shape: Shape, per_second: f64, start_ns: u64, end_ns: u64, seed: u64) -> Self {
        let mut schedule = Self {
            start_ns,
            end_ns,
            gap_ns: 1e9 / per_second,
            shape,
            random: Random::new(seed),
            index: 0,
            offset_ns: 0.0,
        };
        if shape == Shape::Poisson {
            schedule.offset_ns = schedule.random_gap();
        }
        schedule
    }

    /// The next intended time; `None` behind the last.
    pub fn next_ns(&self) -> Option<u64> {
        Some(self.start_ns + self.offset_ns as u64).filter(|&next| next < self.end_ns)
    }

    pub fn advance(&mut self) {
        self.index += 1;
        self.offset_ns = match self.shape {
            Shape::Constant => self.index as f64 * self.gap_ns,
            Shape::Poisson => self.offset_ns + self.random_gap(),
        };
    }

    fn random_gap(&mut self) -> f64 {
        // The fraction is below 1, so the logarithm is finite.
        -(1.0 - self.random.fraction()).ln() * self.gap_ns
    }
}

/// SplitMix64: small, seeded, and the same on every machine, so that a run can be repeated.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `bound`, which is not zero. The bias is below 2^-40 for the bounds used here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(shape: Shape, per_second: f64, seconds: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(shape, per_second, 1_000, 1_000 + seconds * 1_000_000_000, 7);
        let mut times = Vec::new();
        while let Some(next) = schedule.next_ns() {
            times.push(next);
            schedule.advance();
        }
        times
    }

    #[test]
    fn constant_gaps_do_not_drift() {
        let times = times(Shape::Constant, 3.0, 1000);
        assert_eq!(times.len(), 3000);
        assert_eq!(times[0], 1_000);
        assert_eq!(times[3], 1_000_001_000);
        assert_eq!(times[2997], 999_000_001_000);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let times = times(Shape::Poisson, 1000.0, 200);
        assert!((times.len() as f64 / 200_000.0 - 1.0).abs() < 0.01, "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{} {mean}", variance.sqrt());
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_them() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        (0..5000).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|&count| count > 900), "{seen:?}");
    }
}
