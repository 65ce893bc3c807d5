//! Choosing a route and building the path that the upstream sees.
//!
//! The path is built from what was matched and from nothing else: what was routed is what is sent.

use crate::{
    config::snapshot::{Api, Destination, Target},
    http::target::has_dot_segments,
    matching::rule::{Captures, PatternLimit, RuleInput, Scratch, any_matches},
};

/// Indices of what was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Into `Api::routes`.
    pub route: usize,
    /// Into `Snapshot::services`; `None`: the Service does not exist, which is a 503.
    pub service: Option<usize>,
}

/// The first route one of whose rules holds, with the upstream's path in `out_path` (without the query). `None` is a 404.
/// `random` decides between weighted destinations.
pub fn choose(
    api: &Api,
    request: &RuleInput,
    scratch: &mut Scratch,
    captures: &mut Captures,
    random: u32,
    out_path: &mut Vec<u8>,
) -> Result<Option<Chosen>, PatternLimit> {
    for (index, route) in api.routes.iter().enumerate() {
        if any_matches(&route.rules, request, scratch, captures)? {
            let destination = destination(&route.target, random);
            let taken = write_path(&destination.path, request.path, captures, out_path);
            // `/v1(.*)` takes `../secret` out of `/v1../secret`: a dot segment that was none when the path was
            // normalised. Such a request has no route.
            let climbs = captures.grouped && has_dot_segments(&out_path[taken..]);
            return Ok((!climbs).then_some(Chosen { route: index, service: destination.service }));
        }
    }
    Ok(None)
}

fn destination(target: &Target, random: u32) -> &Destination {
    match target {
        Target::One(destination) => destination,
        Target::Weighted { choices, sum } => {
            // Scales the random number into 0..sum.
            let mut at = ((u64::from(random) * u64::from(*sum)) >> 32) as u32;
            let chosen = choices.iter().find(|(weight, _)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
            &chosen.expect("the weights add up to their sum, and 'at' is below it").1
        }
    }
}

/// `prefix` joined with what the groups took, or with the whole path where the pattern has no group. Returns where the
/// prefix ends; what follows is nothing or starts with a slash.
fn write_path(prefix: &str, path: &[u8], captures: &Captures, out: &mut Vec<u8>) -> usize {
    out.clear();
    out.extend_from_slice(prefix.as_bytes());
    let joined_at = out.len();
    if captures.grouped {
        for range in &captures.ranges {
            out.extend_from_slice(&path[range.clone()]);
        }
    } else {
        out.extend_from_slice(path);
    }
    let needs_slash = out.get(joined_at).map_or(out.is_empty(), |&first| first != b'/');
    if needs_slash {
        out.insert(joined_at, b'/');
    }
    joined_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::snapshot::{BaseIndex, Route},
        http::head::Fields,
        matching::rule::{RawRule, Rule, relative},
        telemetry::series::SeriesId,
    };

    /// A route of `path` patterns, as `(patterns, destination's path, service)`.
    type Written<'a> = (&'a [&'a str], &'a str, usize);

    fn api(base: &str, routes: &[Written]) -> (Api, Scratch) {
        let mut patterns = 0;
        let mut compile = |path: &&str| {
            let raw = RawRule { path: Some((*path).to_owned()), ..RawRule::default() };
            Rule::compile(&raw, &mut patterns).expect("valid")
        };
        let routes = routes.iter().map(|(paths, prefix, service)| Route {
            name: String::new(),
            location: Default::default(),
            series: SeriesId(0),
            rules: paths.iter().map(&mut compile).collect(),
            target: Target::One(Destination { service: Some(*service), path: prefix.trim_end_matches('/').to_owned() }),
        });
        let routes = routes.collect();
        let api = Api {
            namespace: "default".into(),
            name: "api".into(),
            location: Default::default(),
            base: base.into(),
            series: SeriesId(0),
            policies: Vec::new(),
            routes,
        };
        (api, Scratch::new(patterns))
    }

    /// Where `GET path` goes: the service and the upstream's path.
    fn find(base: &str, routes: &[Written], path: &str) -> Result<Option<(usize, String)>, PatternLimit> {
        let (api, mut scratch) = api(base, routes);
        let mut index = BaseIndex::default();
        index.insert(base, 0);
        let (_, taken) = index.find(path.as_bytes()).expect("the API's path");
        let input = RuleInput {
            path: relative(path.as_bytes(), taken),
            authority: b"a",
            method: b"GET",
            fields: &Fields::default(),
        };
        let mut out = b"left over".to_vec();
        let chosen = choose(&api, &input, &mut scratch, &mut Captures::default(), 0, &mut out)?;
        Ok(chosen.map(|chosen| (chosen.service.expect("there is one"), String::from_utf8(out).expect("ASCII"))))
    }

    fn check(base: &str, rule: &str, prefix: &str, path: &str, expected: Option<&str>) {
        let found = find(base, &[(&[rule], prefix, 0)], path).expect("within the limit").map(|(_, path)| path);
        assert_eq!(found.as_deref(), expected, "{base} {rule} {prefix} {path}");
    }

    #[test]
    fn the_published_table() {
        check("", "/api/.*", "", "/api/foo/bar", Some("/api/foo/bar"));
        check("", "/api(/.*)", "", "/api/foo/bar", Some("/foo/bar"));
        check("", "/api/.*", "/orders", "/api/foo/bar", Some("/orders/api/foo/bar"));
        check("", "/api(/.*)", "/orders", "/api/foo/bar", Some("/orders/foo/bar"));
        check("/api", "/foo/.*", "", "/api/foo/bar", Some("/foo/bar"));
        check("/api", "/foo(/.*)", "", "/api/foo/bar", Some("/bar"));
        check("/api", "/foo/.*", "/orders", "/api/foo/bar", Some("/orders/foo/bar"));
        check("/api", "/foo(/.*)", "/orders", "/api/foo/bar", Some("/orders/bar"));
        check("/api", "/api/foo/.*", "/orders", "/api/foo/bar", None);
        check("/api", "/foo(/.*)/bar(/.*)", "", "/api/foo/abc/bar/def", Some("/abc/def"));
        check("/api", "/foo(/.*)/bar(/.*)", "/orders", "/api/foo/abc/bar/def", Some("/orders/abc/def"));
    }

    #[test]
    fn the_base_is_always_taken_off() {
        let found = |base, path| find(base, &[(&[], "", 0)], path).map(|found| found.map(|(_, path)| path));
        assert_eq!(found("/api/httpbin/", "/api/httpbin/get"), Ok(Some("/get".into())));
        assert_eq!(found("/api", "/api"), Ok(Some("/".into())));
        assert_eq!(found("/api", "/api/"), Ok(Some("/".into())));
        assert_eq!(found("/", "/x//y/"), Ok(Some("/x//y/".into())));
    }

    /// A decision: `destinationPath` and what was captured meet in one slash, whichever of the two brings it.
    #[test]
    fn one_slash_joins_the_two_parts() {
        check("", "/api/(.*)", "/orders", "/api/x", Some("/orders/x"));
        check("", "/api/(.*)", "", "/api/x", Some("/x"));
        check("", "/api(.*)", "/orders/", "/api/x", Some("/orders/x"));
        check("", "/api(.*)", "/orders", "/api", Some("/orders"));
        check("", "/api(.*)", "", "/api", Some("/"));
        check("", "/api/(.*)", "/", "/api/", Some("/"));
        check("", "/orders(/.*)", "/a", "/orders", None);
        check("", "/a(/x)?/y", "/b", "/a/y", Some("/b"));
        check("", "/a(/x)?(/y)", "", "/a/y", Some("/y"));
    }

    #[test]
    fn a_capture_cannot_climb_out_of_its_destination() {
        for path in ["/v1../secret", "/v1./x", "/v1.."] {
            check("", "/v1(.*)", "/public", path, None);
        }
        check("", "/f/(.*)-(.*)", "/public", "/f/.-./etc", None);
        check("", "/v1(.*)", "/public", "/v1.../x", Some("/public/.../x"));
        check("", "/v1(.*)", "/public", "/v1/..x/.y", Some("/public/..x/.y"));
    }

    #[test]
    fn the_first_route_and_its_first_rule_win() {
        let routes: &[Written] = &[(&["/a(/.*)", "(/b)/.*"], "/one", 1), (&["/b/.*"], "/two", 2), (&[], "", 3)];
        let found = |path| find("/", routes, path).expect("within the limit");
        assert_eq!(found("/a/x"), Some((1, "/one/x".into())));
        assert_eq!(found("/b/x"), Some((1, "/one/b".into())));
        assert_eq!(found("/c"), Some((3, "/c".into())));
        assert_eq!(find("/", &routes[..2], "/c"), Ok(None));
        assert_eq!(find("/", &[], "/c"), Ok(None));
    }

    #[test]
    fn a_pattern_at_its_limit_is_no_answer() {
        let path = format!("/{}", "a".repeat(64));
        assert_eq!(find("/", &[(&["/(?:a(?!x)|a(?!y))*c"], "", 0), (&[], "", 1)], &path), Err(PatternLimit));
    }

    #[test]
    fn weights_divide_the_random_numbers() {
        let to = |service| Destination { service: Some(service), path: String::new() };
        let target = Target::Weighted { choices: vec![(1, to(0)), (3, to(1))], sum: 4 };
        for (random, expected) in [(0, 0), (u32::MAX / 4, 0), (u32::MAX / 4 + 1, 1), (u32::MAX, 1)] {
            assert_eq!(destination(&target, random).service, Some(expected), "{random}");
        }
    }
}
