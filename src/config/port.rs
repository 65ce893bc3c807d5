//! What the APIs of one port have taken of it: a base path can be given once for each host.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use crate::document::Id;

/// The APIs of a port, in the order in which they came.
#[derive(Debug, Default)]
pub struct Occupied {
    apis: Vec<Occupant>,
    /// By host; those that name none under the empty one.
    bases: HashMap<String, Bases>,
}

#[derive(Debug)]
pub struct Occupant {
    pub https: bool,
    pub api: Id,
}

impl Occupied {
    /// The first API that answers for the same base path and host. Hosts clash where they are written the same: of two that
    /// only overlap the more exact one goes first.
    pub fn clash(&self, base: &str, hosts: &[String]) -> Option<&Occupant> {
        let key = key(base);
        let of = |host: &str| self.bases.get(host).and_then(|bases| bases.clash(&key));
        let first = if hosts.is_empty() { of("") } else { hosts.iter().filter_map(|host| of(host)).min() };
        first.map(|at| &self.apis[at])
    }

    pub fn first(&self) -> Option<&Occupant> {
        self.apis.first()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Occupant> {
        self.apis.iter()
    }

    /// Adds what clashes with nothing.
    pub fn add(&mut self, base: &str, hosts: &[String], occupant: Occupant) {
        let at = self.apis.len();
        self.apis.push(occupant);
        let key = key(base);
        if hosts.is_empty() {
            self.bases.entry(String::new()).or_default().0.insert(key.clone(), at);
        }
        for host in hosts {
            self.bases.entry(host.clone()).or_default().0.insert(key.clone(), at);
        }
    }
}

/// Bases none of which is a segment-prefix of another, with the place of their API.
///
/// In the order of their keys everything below a base follows it at once. So the base above another one, if there is any, is
/// the one right in front of it: a look-up takes as long for ten thousand APIs as a search does.
#[derive(Debug, Default)]
struct Bases(BTreeMap<Vec<u8>, usize>);

impl Bases {
    fn clash(&self, key: &[u8]) -> Option<usize> {
        let in_front = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        if let Some((above, at)) = in_front
            && key.starts_with(above)
        {
            return Some(*at);
        }
        let below = self.0.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        let below = below.take_while(|(below, _)| below.starts_with(key));
        below.map(|(_, at)| *at).min()
    }
}

/// A base so that segment-prefixes are prefixes, and segments end below any other byte. No base holds a zero.
fn key(base: &str) -> Vec<u8> {
    let segments = base.trim_end_matches('/').bytes();
    segments.map(|byte| if byte == b'/' { 0 } else { byte }).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The base of one API is a segment-prefix of the other's.
    fn bases_clash(one: &str, other: &str) -> bool {
        let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
        let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn hosts_meet(one: &[String], other: &[String]) -> bool {
        one.is_empty() && other.is_empty() || one.iter().any(|host| other.contains(host))
    }

    #[test]
    fn bases_clash_by_segments() {
        for (one, other, clash) in [
            ("/cats", "/cats/dogs", true),
            ("/cats/", "/cats", true),
            ("/cats", "/catsdogs", false),
            ("/cats", "/cats-dogs", false),
            ("/cats", "/cats!", false),
            ("", "/x", true),
            ("/", "", true),
            ("/a/b", "/a/c", false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let mut port = Occupied::default();
                port.add(one, &[], Occupant { https: false, api: Id::new("", one) });
                assert_eq!(port.clash(other, &[]).is_some(), clash, "{one} {other}");
                assert_eq!(bases_clash(one, other), clash, "{one} {other}");
            }
        }
    }

    #[test]
    fn ten_thousand_bases_are_told_apart() {
        let mut port = Occupied::default();
        for n in 0..10_000 {
            let (base, api) = (format!("/teams/team-{}/service-{n}", n % 97), Id::new("", &n.to_string()));
            assert!(port.clash(&base, &[]).is_none(), "{base}");
            port.add(&base, &[], Occupant { https: false, api });
        }
        let clash = |base| port.clash(base, &[]).map(|other| other.api.name.as_str());
        assert_eq!(clash("/teams/team-2/service-99/v1"), Some("99"));
        assert_eq!(clash("/teams/team-3"), Some("3"));
        assert_eq!(clash("/teams/team-2/service-9"), None);
        assert_eq!(clash("/"), Some("0"));
    }

    proptest! {
        /// The same API is named as by comparing with each in turn.
        #[test]
        fn a_search_finds_what_comparing_finds(
            apis in proptest::collection::vec(("(/|(/[ab!-]{1,2}){0,3}/?)", proptest::collection::vec("[xy]", 0..3)), 1..30)
        ) {
            let mut port = Occupied::default();
            let mut taken: Vec<(&String, &Vec<String>)> = Vec::new();
            for (base, hosts) in &apis {
                let found = port.clash(base, hosts).map(|other| other.api.name.clone());
                let mut others = taken.iter();
                let expected = others.position(|(other, of)| bases_clash(other, base) && hosts_meet(of, hosts));
                prop_assert_eq!(&found, &expected.map(|at| at.to_string()), "{} {:?}", base, hosts);
                if found.is_none() {
                    port.add(base, hosts, Occupant { https: false, api: Id::new("", &taken.len().to_string()) });
                    taken.push((base, hosts));
                }
            }
        }
    }
}
