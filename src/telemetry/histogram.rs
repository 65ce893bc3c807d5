//! Latency histogram: eight buckets per power of two, 0.95 us to 128 s, 9 % wide.
//!
//! The bounds are those of Prometheus' native schema 3 (`2^(k/8)` seconds), and each classic bound that the metrics page
//! shows splits the native bucket it falls into. So both views are exact: a classic `le` counts what was at or below it,
//! and two neighbours added up are the native bucket.
//!
//! ```text
//! native   ... (43.9 us, 47.9 us]  (47.9 us,            52.2 us]  (52.2 us, 56.9 us] ...
//! classic                                   50 us
//! cells    ... [               ]  [        ][                 ]  [               ] ...
//! ```

/// Upper bounds of the classic view, in nanoseconds. Powers of ten times 1, 2.5 and 5, from 50 us to 10 s.
const CLASSIC_NS: [u64; 17] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The first native bucket ends at 2^(-20 + 1/8) s and takes everything below too.
const EXPONENT_MIN: i64 = -20;
/// Buckets end at 2^7 s = 128 s; one more takes everything above.
const EXPONENT_MAX: i64 = 7;
const NATIVE: usize = ((EXPONENT_MAX - EXPONENT_MIN) * 8 + 1) as usize;
const CELLS: usize = NATIVE + CLASSIC_NS.len();

/// 2^(i/8): what a mantissa is compared with.
const FRACTIONS: [f64; 8] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];

/// How many fractions lie at or below the start of each sixteenth of [1, 2). A sixteenth is narrower than any step between
/// fractions, so at most one more comparison finds the bucket.
const FRACTIONS_BELOW: [u8; 16] = fractions_below();

/// Where a native bucket's cells begin, and the classic bound that splits it (or none: `u64::MAX`).
const SPLITS: [(u16, u64); NATIVE] = splits();

/// How the metrics page shows a histogram.
pub trait Distribution {
    /// Bounds in nanoseconds, ascending, and how many were at or below each.
    fn cumulative(&self) -> Vec<(u64, u64)>;
    fn count(&self) -> u64;
    fn sum_seconds(&self) -> f64;
}

/// Counts are 64 bits: at 50,000 requests per second one 32-bit cell is full within a day.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: [u64; CELLS],
    sum_ns: u64,
    count: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { cells: [0; CELLS], sum_ns: 0, count: 0 }
    }

    #[inline]
    pub fn record(&mut self, duration_ns: u64) {
        let (first, split) = SPLITS[native_index(duration_ns)];
        // In bounds for every native index, checked when the table is made.
        self.cells[first as usize + usize::from(duration_ns > split)] += 1;
        self.sum_ns = self.sum_ns.wrapping_add(duration_ns);
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.cells.iter_mut().zip(&other.cells) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        self.count += other.count;
    }

    /// For each of [`CLASSIC_NS`], how many were at or below it.
    fn classic(&self) -> [u64; CLASSIC_NS.len()] {
        let mut cumulative = [0; CLASSIC_NS.len()];
        let (mut below, mut cell) = (0, 0);
        for (bound, count) in CLASSIC_NS.iter().zip(&mut cumulative) {
            let end = SPLITS[native_index(*bound)].0 as usize + 1;
            below += self.cells[cell..end].iter().sum::<u64>();
            cell = end;
            *count = below;
        }
        cumulative
    }
}

impl Distribution for Histogram {
    fn cumulative(&self) -> Vec<(u64, u64)> {
        CLASSIC_NS.into_iter().zip(self.classic()).collect()
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds one that may not have begun to another.
pub fn merge_histogram(mine: &mut Option<Box<Histogram>>, theirs: &Option<Box<Histogram>>) {
    if let Some(theirs) = theirs {
        mine.get_or_insert_default().merge(theirs);
    }
}

/// The native bucket of a duration: it lies above the bucket's lower bound and at or below its upper bound.
#[inline]
const fn native_index(duration_ns: u64) -> usize {
    let bits = (duration_ns as f64 * 1e-9).to_bits();
    // The sign is 0; a duration of 0 has the exponent -1023 and ends in the first bucket.
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let guess = FRACTIONS_BELOW[((bits >> 48) & 15) as usize];
    let above = match guess {
        8 => 8,
        // Strictly above: an upper bound belongs to its bucket.
        _ => guess as i64 + (mantissa > FRACTIONS[guess as usize]) as i64,
    };
    let index = (exponent - EXPONENT_MIN) * 8 + above - 1;
    if index < 0 {
        0
    } else if index >= NATIVE as i64 {
        NATIVE - 1
    } else {
        index as usize
    }
}

/// Counts fractions strictly below each sixteenth's start, so that the comparison decides about equality.
const fn fractions_below() -> [u8; 16] {
    let mut below = [0; 16];
    let mut slot = 0;
    while slot < 16 {
        let start = 1.0 + slot as f64 / 16.0;
        while (below[slot] as usize) < FRACTIONS.len() && FRACTIONS[below[slot] as usize] < start {
            below[slot] += 1;
        }
        slot += 1;
    }
    below
}

const fn splits() -> [(u16, u64); NATIVE] {
    let mut splits = [(0, u64::MAX); NATIVE];
    let mut classic = 0;
    while classic < CLASSIC_NS.len() {
        let native = native_index(CLASSIC_NS[classic]);
        assert!(splits[native].1 == u64::MAX, "two classic bounds in one native bucket");
        splits[native].1 = CLASSIC_NS[classic];
        classic += 1;
    }
    let (mut native, mut cell) = (0, 0);
    while native < NATIVE {
        splits[native].0 = cell;
        cell += if splits[native].1 == u64::MAX { 1 } else { 2 };
        native += 1;
    }
    assert!(cell as usize == CELLS, "every cell has a place");
    splits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(durations: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        durations.into_iter().for_each(|duration| histogram.record(duration));
        histogram
    }

    /// Durations spread over the whole range, without a random generator.
    fn spread() -> impl Iterator<Item = u64> {
        (0..40_000).map(|step| (1.0005_f64.powi(step) * 300.0) as u64)
    }

    #[test]
    fn the_index_agrees_with_the_logarithm() {
        for duration in spread() {
            let exact = ((duration as f64 * 1e-9).log2() * 8.0).ceil() as i64 + 8 * -EXPONENT_MIN - 1;
            assert_eq!(native_index(duration), exact.clamp(0, NATIVE as i64 - 1) as usize, "{duration} ns");
        }
    }

    #[test]
    fn a_power_of_two_belongs_to_the_bucket_it_ends() {
        let one_second = native_index(1_000_000_000);
        assert_eq!(one_second as i64, 8 * -EXPONENT_MIN - 1);
        assert_eq!(native_index(1_000_000_001), one_second + 1);
    }

    #[test]
    fn extremes_have_a_place() {
        let histogram = recorded([0, 1, 900, u64::MAX]);
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.classic(), [3; CLASSIC_NS.len()]);
    }

    #[test]
    fn the_classic_view_is_exact() {
        let at_the_bounds = CLASSIC_NS.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
        let durations: Vec<u64> = spread().chain(at_the_bounds).collect();
        let histogram = recorded(durations.iter().copied());
        for (bound, count) in CLASSIC_NS.iter().zip(histogram.classic()) {
            assert_eq!(count, durations.iter().filter(|duration| *duration <= bound).count() as u64, "le {bound}");
        }
    }

    #[test]
    fn merging_adds_up() {
        let mut sum = recorded([10_000, 2_000_000]);
        sum.merge(&recorded([3_000_000_000]));
        assert_eq!(sum.count(), 3);
        assert!((sum.sum_seconds() - 3.002_01).abs() < 1e-9);
        assert_eq!(sum.classic()[0], 1);
    }
}
