//! The places that are remembered, by what makes them different: so many, and the one that was used longest ago goes first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

const PLACES_MAX: usize = 512;

pub struct Places<P>(Mutex<HashMap<u64, (Arc<P>, Instant)>>);

impl<P> Default for Places<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<P> Places<P> {
    pub fn get(&self, identity: u64, new: impl FnOnce() -> P) -> Arc<P> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX && !places.contains_key(&identity) {
            let oldest = places.iter().min_by_key(|(_, (_, used))| *used).map(|(identity, _)| *identity);
            oldest.and_then(|oldest| places.remove(&oldest));
        }
        let (place, used) = places.entry(identity).or_insert_with(|| (Arc::new(new()), Instant::now()));
        *used = Instant::now();
        place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let places = Places::default();
        let first = places.get(0, || 0);
        (1..10 * PLACES_MAX as u64).for_each(|at| {
            places.get(at, || at);
            assert!(Arc::ptr_eq(&places.get(0, || 1), &first), "what is used stays");
        });
        assert_eq!(places.0.lock().expect("nobody panics").len(), PLACES_MAX);
    }
}
