//! Metric series by number, so that a core counts into a vector and never hashes a name.
//!
//! Numbers outlive snapshots: an API that a reload leaves alone, or brings back, goes on counting where it was. They are
//! never given out twice, so the table is capped; what comes after the cap shares one overflow series.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

/// Index of a metric series; outlives snapshots. Made by [`intern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SeriesId(pub u32);

/// Names per kind, the two reserved ones included. 10,000 routes cost a core 480 KB of counters.
pub const SERIES_MAX: usize = 10_000;

/// What exchanges count under that met no API, no route or no upstream: all labels empty. Policies have none of it.
pub const NONE: SeriesId = SeriesId(0);

/// What everything beyond [`SERIES_MAX`] shares: all labels `_OVERFLOW`.
pub const OVERFLOW: SeriesId = SeriesId(1);

/// A name to count under. Each kind has numbers of its own, dense from 0.
#[derive(Clone, Copy, Debug)]
pub enum Series<'a> {
    Api {
        namespace: &'a str,
        api: &'a str,
    },
    Route {
        namespace: &'a str,
        api: &'a str,
        route: &'a str,
    },
    Service {
        namespace: &'a str,
        service: &'a str,
    },
    /// A policy where it is bound: `api` or `service` is empty.
    Policy {
        namespace: &'a str,
        api: &'a str,
        service: &'a str,
        policy: &'a str,
        binding: &'a str,
    },
}

/// The label values of one series; which of them a kind uses is in [`Series`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    pub namespace: String,
    pub api: String,
    pub route: String,
    pub upstream: String,
    pub policy: String,
    pub binding: String,
}

/// The label values of every series so far: the number is the index.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub apis: Vec<Labels>,
    pub routes: Vec<Labels>,
    pub services: Vec<Labels>,
    pub policies: Vec<Labels>,
}

/// The number of a series, the same for the same name as long as the process lives. Takes a lock: for compiling a
/// snapshot, not for requests.
pub fn intern(series: Series<'_>) -> SeriesId {
    lock().intern(series)
}

/// A copy of all names, for a scrape.
pub fn names() -> Names {
    let tables = lock();
    Names {
        apis: tables.apis.names.clone(),
        routes: tables.routes.names.clone(),
        services: tables.services.names.clone(),
        policies: tables.policies.names.clone(),
    }
}

fn lock() -> MutexGuard<'static, Tables> {
    static TABLES: LazyLock<Mutex<Tables>> = LazyLock::new(|| Mutex::new(Tables::new(SERIES_MAX)));
    TABLES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Tables {
    apis: Table,
    routes: Table,
    services: Table,
    policies: Table,
}

impl Tables {
    fn new(max: usize) -> Self {
        let table = || Table::new(max);
        Self { apis: table(), routes: table(), services: table(), policies: table() }
    }

    fn intern(&mut self, series: Series<'_>) -> SeriesId {
        let text = str::to_owned;
        match series {
            Series::Api { namespace, api } => {
                self.apis.intern(Labels { namespace: text(namespace), api: text(api), ..Labels::default() })
            }
            Series::Route { namespace, api, route } => self.routes.intern(Labels {
                namespace: text(namespace),
                api: text(api),
                route: text(route),
                ..Labels::default()
            }),
            Series::Service { namespace, service } => self.services.intern(Labels {
                namespace: text(namespace),
                upstream: text(service),
                ..Labels::default()
            }),
            Series::Policy { namespace, api, service, policy, binding } => self.policies.intern(Labels {
                namespace: text(namespace),
                api: text(api),
                upstream: text(service),
                policy: text(policy),
                binding: text(binding),
                ..Labels::default()
            }),
        }
    }
}

struct Table {
    numbers: HashMap<Labels, SeriesId>,
    names: Vec<Labels>,
    max: usize,
}

impl Table {
    fn new(max: usize) -> Self {
        let overflow = || "_OVERFLOW".to_owned();
        let overflow = Labels {
            namespace: overflow(),
            api: overflow(),
            route: overflow(),
            upstream: overflow(),
            policy: overflow(),
            binding: overflow(),
        };
        let names = vec![Labels::default(), overflow];
        let numbers = HashMap::from([(names[0].clone(), NONE)]);
        Self { numbers, names, max }
    }

    fn intern(&mut self, labels: Labels) -> SeriesId {
        if let Some(&id) = self.numbers.get(&labels) {
            return id;
        }
        if self.names.len() >= self.max {
            return OVERFLOW;
        }
        let id = SeriesId(self.names.len() as u32);
        self.names.push(labels.clone());
        self.numbers.insert(labels, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_kinds_do_not_mix() {
        let mut tables = Tables::new(10);
        let orders = tables.intern(Series::Api { namespace: "default", api: "orders" });
        let users = tables.intern(Series::Api { namespace: "default", api: "users" });
        let service = tables.intern(Series::Service { namespace: "default", service: "orders" });
        assert_eq!((orders, users, service), (SeriesId(2), SeriesId(3), SeriesId(2)));
        assert_eq!(tables.intern(Series::Api { namespace: "default", api: "orders" }), orders);
    }

    #[test]
    fn beyond_the_cap_names_share_the_overflow_series() {
        let mut tables = Tables::new(3);
        let first = tables.intern(Series::Api { namespace: "n", api: "a" });
        assert_eq!(tables.intern(Series::Api { namespace: "n", api: "b" }), OVERFLOW);
        assert_eq!(tables.intern(Series::Api { namespace: "n", api: "a" }), first);
        assert_eq!(tables.apis.names.len(), 3);
    }

    #[test]
    fn policies_are_told_apart_by_where_they_are_bound_and_capped_like_the_others() {
        let mut tables = Tables::new(5);
        let mut policy = |api, service, binding| {
            let policy = "cors-flex";
            tables.intern(Series::Policy { namespace: "n", api, service, policy, binding })
        };
        let first = policy("a", "", "a-cors-1");
        assert_eq!([first, policy("", "a", "a-cors-1"), policy("a", "", "cors")], [2, 3, 4].map(SeriesId));
        assert_eq!([policy("b", "", "cors"), policy("c", "", "cors")], [OVERFLOW; 2]);
        assert_eq!(policy("a", "", "a-cors-1"), first);
        assert_eq!(tables.policies.names[OVERFLOW.0 as usize].binding, "_OVERFLOW");
        assert!(tables.apis.names.len() == 2, "the cap is of each kind");
    }
}
