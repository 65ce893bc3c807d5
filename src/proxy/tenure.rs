//! What stays with a client connection: how long it may go on before its client is to make a new one, and whom it serves.
//!
//! A connection stays on the core that it began on, so clients that never leave would keep an uneven load as it is. Where
//! it is limited, the last response says that the connection ends, and the next one goes to the least loaded core.

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    time::Duration,
};

use crate::{
    config::settings::Connections,
    net::{
        deadline::{Deadlines, TICK},
        proxy_protocol::Addresses,
    },
};

pub struct Tenure {
    /// In ticks of the core's clock.
    since: u32,
    requests: Cell<u32>,
    /// In 1/2560 of the age allowed: up to a tenth of it.
    early: u8,
    /// Who connected to whom, once an upstream has to be told or a load balancer said so. Connections to such upstreams
    /// are this client connection's own, and know it by this.
    told: OnceCell<Rc<Addresses>>,
}

impl Tenure {
    /// By chance a little shorter for some: clients that came together should not all come again together.
    pub fn new(deadlines: &Deadlines, random: u64) -> Self {
        Self { since: deadlines.now(), requests: Cell::new(0), early: random as u8, told: OnceCell::new() }
    }

    /// What a load balancer said; the first word counts.
    pub fn tell(&self, addresses: Addresses) {
        self.told(|| addresses);
    }

    pub fn told(&self, otherwise: impl FnOnce() -> Addresses) -> &Rc<Addresses> {
        self.told.get_or_init(|| Rc::new(otherwise()))
    }

    pub fn begin_request(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// Whether the request that has begun last should be the connection's last.
    pub fn is_over(&self, deadlines: &Deadlines, limits: &Connections) -> bool {
        let has_asked = limits.max_requests != 0 && self.requests.get() as usize >= limits.max_requests;
        has_asked || limits.max_age.is_some_and(|age| self.age(deadlines) >= age - age * u32::from(self.early) / 2560)
    }

    fn age(&self, deadlines: &Deadlines) -> Duration {
        TICK * deadlines.now().saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_the_last_request_or_with_time() {
        let deadlines = Deadlines::new();
        let tenure = Tenure::new(&deadlines, 255);
        let limits = |max_requests, max_age| Connections { spread: true, max_requests, max_age };
        let is_over = |limits| tenure.is_over(&deadlines, &limits);
        tenure.begin_request();
        assert!(!is_over(limits(0, None)) && is_over(limits(1, None)) && !is_over(limits(2, None)));
        tenure.begin_request();
        assert!(is_over(limits(2, None)));
        assert!(!is_over(limits(0, Some(TICK))) && is_over(limits(0, Some(Duration::ZERO))));
    }
}
