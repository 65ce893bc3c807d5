//! Histogram of short times of the CPU: what a policy's turn costs is far below a request's first bucket.
//!
//! Only a sample is recorded, so a search through the bounds is cheap enough, and there may be one for each policy of
//! thousands of APIs: 160 bytes.

use super::histogram::Distribution;

/// Upper bounds in nanoseconds: 100 ns to 10 ms.
pub const BOUNDS_NS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// The last is of what lies above all bounds.
    cells: [u64; BOUNDS_NS.len() + 1],
    sum_ns: u64,
}

impl Costs {
    pub fn record(&mut self, ns: u64) {
        self.cells[BOUNDS_NS.partition_point(|bound| *bound < ns)] += 1;
        self.sum_ns = self.sum_ns.wrapping_add(ns);
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(other.cells) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

impl Distribution for Costs {
    fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut below = 0;
        let up_to = |(bound, count): (&u64, &u64)| {
            below += count;
            (*bound, below)
        };
        BOUNDS_NS.iter().zip(&self.cells).map(up_to).collect()
    }

    fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_ends() {
        let mut costs = Costs::default();
        for bound in BOUNDS_NS {
            [bound, bound + 1].into_iter().for_each(|ns| costs.record(ns));
        }
        costs.record(0);
        costs.record(u64::from(u32::MAX));
        assert!(costs.cumulative().into_iter().zip(0..).all(|((_, below), at)| below == 2 + 2 * at), "{costs:?}");
        assert_eq!(costs.count(), 2 * BOUNDS_NS.len() as u64 + 2);
    }

    #[test]
    fn cores_add_up() {
        let (mut one, mut other) = (Costs::default(), Costs::default());
        one.record(80);
        other.record(120);
        one.merge(&other);
        assert_eq!((one.count(), one.cumulative()[1], one.sum_seconds()), (2, (250, 2), 2e-7));
    }
}
