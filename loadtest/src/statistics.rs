//! Medians, and how sure a ratio of two is.

use serde::{Deserialize, Serialize};

use crate::schedule::Random;

/// How often the rounds are drawn again.
const RESAMPLES: usize = 10_000;
/// Two-sided.
const CONFIDENCE: f64 = 0.95;

/// Of the middle two their mean; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// Median, least and most of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().min_by(f64::total_cmp)?;
        let max = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(values), min, max })
    }
}

/// The ratio of two medians, and where it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    /// `None`: one of the sides has a single round, which says nothing about its spread.
    pub interval: Option<(f64, f64)>,
}

impl Ratio {
    /// Median of `b` over median of `a`; `None` where that is no number. The interval is a percentile bootstrap over
    /// rounds: with few rounds it is narrow by luck as well as by merit, so take five or more.
    pub fn of(a: &[f64], b: &[f64]) -> Option<Self> {
        let ratio = median(b) / median(a);
        if !ratio.is_finite() {
            return None;
        }
        let interval = (a.len() > 1 && b.len() > 1).then(|| {
            // Seeded: the same two files always give the same answer.
            let mut random = Random::new(0x1de5);
            let mut drawn = |values: &[f64]| {
                let draw: Vec<f64> = (0..values.len()).map(|_| values[random.below(values.len())]).collect();
                median(&draw)
            };
            let mut ratios: Vec<f64> = (0..RESAMPLES).map(|_| drawn(b) / drawn(a)).collect();
            ratios.sort_by(f64::total_cmp);
            let cut = ((1.0 - CONFIDENCE) / 2.0 * RESAMPLES as f64) as usize;
            (ratios[cut], ratios[RESAMPLES - 1 - cut])
        });
        Some(Self { ratio, interval })
    }

    /// The interval does not hold 1: the two differ.
    pub fn is_certain(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_clear_difference_is_certain_and_noise_is_not() {
        let before = [10.0, 10.1, 9.9, 10.05, 9.95];
        let slower = [11.0, 11.1, 10.9, 11.05, 10.95];
        let ratio = Ratio::of(&before, &slower).expect("a number");
        assert!((ratio.ratio - 1.1).abs() < 1e-9 && ratio.is_certain());
        let (low, high) = ratio.interval.expect("five rounds");
        assert!(low > 1.07 && high < 1.13, "{low} {high}");

        let noisy = [10.5, 9.4, 10.2, 9.8, 10.0];
        assert!(!Ratio::of(&before, &noisy).expect("a number").is_certain());
    }

    #[test]
    fn one_round_has_no_confidence_and_zero_no_ratio() {
        let single = Ratio::of(&[1.0], &[2.0]).expect("a number");
        assert_eq!((single.ratio, single.interval, single.is_certain()), (2.0, None, false));
        assert_eq!(Ratio::of(&[0.0], &[1.0]), None);
        assert_eq!(Ratio::of(&[], &[1.0]), None);
    }
}
