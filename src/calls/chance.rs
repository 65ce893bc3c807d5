//! Chance that need not be secret: it only spreads over time what replicas would do together.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// From 0 to 1.
pub fn chance() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

/// Half of it to all of it: replicas that lost a server together do not come back together.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + chance() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_are_between_half_and_all() {
        let all = Duration::from_millis(250);
        let pauses: Vec<Duration> = (0..100).map(|_| jittered(all)).collect();
        assert!(pauses.iter().all(|pause| (all / 2..=all).contains(pause)));
        assert!(pauses.iter().collect::<HashSet<_>>().len() > 50);
    }
}
