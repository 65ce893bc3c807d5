//! What was learned, each thing until its time: bounded, and the oldest go first.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

/// Of what is asked: a keyed hash, never the secret itself.
pub type Key = [u8; 32];

pub struct Known<V> {
    entries: HashMap<Key, Entry<V>>,
    /// As they came, with those among them that are no more.
    order: VecDeque<(Key, u64)>,
    next: u64,
    most: usize,
}

struct Entry<V> {
    value: V,
    until: Instant,
    number: u64,
}

impl<V> Known<V> {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), next: 0, most }
    }

    pub fn find(&self, key: &Key, now: Instant) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.until > now).map(|entry| &entry.value)
    }

    pub fn keep(&mut self, key: Key, value: V, until: Instant) {
        self.next += 1;
        self.order.push_back((key, self.next));
        self.entries.insert(key, Entry { value, until, number: self.next });
        // What was replaced or taken away goes from the order on the way.
        while self.entries.len() > self.most || self.order.len() > 2 * self.most {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.number == number) {
                self.entries.remove(&oldest);
            }
        }
    }

    pub fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_known_until_its_time_and_the_oldest_go() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut known = Known::new(2);
        (0..3).for_each(|number| known.keep([number; 32], number, later));
        let found = |known: &Known<u8>, now| -> Vec<u8> {
            (0..3).filter_map(|number| known.find(&[number; 32], now).copied()).collect()
        };
        assert_eq!((found(&known, now), found(&known, later)), (vec![1, 2], vec![]));
        known.remove(&[2; 32]);
        (0..9).for_each(|_| known.keep([1; 32], 7, later));
        assert_eq!((found(&known, now), known.order.len() <= 4), (vec![7], true));
        let mut none = Known::new(0);
        none.keep([0; 32], 0, later);
        assert_eq!(none.find(&[0; 32], now), None);
    }
}
